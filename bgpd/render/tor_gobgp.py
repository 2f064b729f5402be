"""A top-of-rack router in GoBGP's TOML."""

from collections.abc import Iterator

from bgpd.render.quoting import quoted
from bgpd.render.tor import MULTIPATH, Router, TorSession, name
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT


def gobgp(router: Router) -> str:
    """Give ``gobgpd.toml``; the text ends in a newline."""
    return "\n".join(_lines(router)) + "\n"


def _lines(router: Router) -> Iterator[str]:
    yield from (f"# {line}" for line in router.head)
    yield "[global.config]"
    yield f"  as = {router.asn}"
    if router.router_id is not None:
        yield f'  router-id = "{router.router_id}"'
    yield f"  port = {router.port}"
    yield "[global.use-multiple-paths.config]"
    yield "  enabled = true"
    yield f"# up to {MULTIPATH} paths are the kernel's to limit"
    yield "[global.apply-policy.config]"
    yield '  import-policy-list = ["cairn-in"]'
    yield '  default-import-policy = "reject-route"'
    yield '  default-export-policy = "accept-route"'
    for version in router.versions:
        networks = router.accepted_of(version)
        longest = 32 if version == 4 else 128
        yield ""
        yield "[[defined-sets.prefix-sets]]"
        yield f'  prefix-set-name = "cairn-pods-v{version}"'
        for network in networks:
            yield "  [[defined-sets.prefix-sets.prefix-list]]"
            yield f'    ip-prefix = "{network}"'
            yield f'    masklength-range = "{network.prefixlen}..{longest}"'
    yield ""
    yield "[[defined-sets.neighbor-sets]]"
    yield '  neighbor-set-name = "cairn-nodes"'
    addresses = ", ".join(f'"{session.address}"' for session in router.sessions)
    yield f"  neighbor-info-list = [{addresses}]"
    yield ""
    yield "[[policy-definitions]]"
    yield '  name = "cairn-in"'
    for version in router.versions:
        if router.accepted_of(version):
            yield "  [[policy-definitions.statements]]"
            yield f'    name = "cairn-pods-v{version}"'
            yield "    [policy-definitions.statements.conditions.match-prefix-set]"
            yield f'      prefix-set = "cairn-pods-v{version}"'
            yield "    [policy-definitions.statements.actions]"
            yield '      route-disposition = "accept-route"'
    yield "  [[policy-definitions.statements]]"
    yield '    name = "cairn-nothing-else"'
    yield "    [policy-definitions.statements.conditions.match-neighbor-set]"
    yield '      neighbor-set = "cairn-nodes"'
    yield "    [policy-definitions.statements.actions]"
    yield '      route-disposition = "reject-route"'
    yield "  # the router's other peers are not this policy's business"
    yield "  [[policy-definitions.statements]]"
    yield '    name = "others"'
    yield "    [policy-definitions.statements.actions]"
    yield '      route-disposition = "accept-route"'
    for session in router.sessions:
        yield ""
        yield from _session(router, session)


def _session(router: Router, session: TorSession) -> Iterator[str]:
    version = session.address.version
    yield "[[neighbors]]"
    yield "  [neighbors.config]"
    yield f'    neighbor-address = "{session.address}"'
    yield f"    peer-as = {session.asn}"
    yield f'    description = "{name(session.node)}"'
    if session.password is not None:
        yield f"    auth-password = {quoted(session.password, f'the password of {session.node}')}"
    if session.shut is not None:
        yield f"    admin-down = true # {session.shut}"
    if session.own_as:  # it never sends a path with the peer's AS in it, but it can write its own there
        yield "  [neighbors.as-path-options.config]"
        yield "    replace-peer-as = true"
    yield "  [neighbors.timers.config]"
    yield f"    hold-time = {session.hold_time}"
    yield f"    keepalive-interval = {session.keepalive_time}"
    yield "  [neighbors.transport.config]"
    yield f'    local-address = "{session.local}"'
    if session.port != DEFAULT_LISTEN_PORT:
        yield f"    remote-port = {session.port}"
    if session.ttl_security is not None:
        yield "  [neighbors.ttl-security.config]"
        yield "    enabled = true"
        yield f"    ttl-min = {256 - session.ttl_security}"
    elif session.multihop is not None:
        yield "  [neighbors.ebgp-multihop.config]"
        yield "    enabled = true"
        yield f"    multihop-ttl = {session.multihop}"
    if session.internal:
        yield "  [neighbors.route-reflector.config]"
        yield "    route-reflector-client = true"
        if router.router_id is not None:  # without it the cluster is called as the router
            yield f'    route-reflector-cluster-id = "{router.router_id}"'
    if session.restart_time:
        yield "  [neighbors.graceful-restart.config]"
        yield "    enabled = true"
        yield f"    restart-time = {session.restart_time}"
    yield "  [[neighbors.afi-safis]]"
    yield "    [neighbors.afi-safis.config]"
    yield f'      afi-safi-name = "ipv{version}-unicast"'
    if session.restart_time:
        yield "    [neighbors.afi-safis.mp-graceful-restart.config]"
        yield "      enabled = true"
    if session.internal:
        yield "    [neighbors.afi-safis.add-paths.config]"
        yield f"      send-max = {MULTIPATH}"
    if session.max_prefixes is not None:
        yield "    [neighbors.afi-safis.prefix-limit.config]"
        yield f"      max-prefixes = {session.max_prefixes}"
