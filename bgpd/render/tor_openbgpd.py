"""A top-of-rack router in OpenBGPD's language.

OpenBGPD knows GTSM only for peers of another AS, so a session of its own AS that has it stays down; graceful
restart it knows as a helper always.
"""

from collections.abc import Iterator

from bgpd.render.quoting import quoted
from bgpd.render.tor import Router, TorSession, name
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT

_GROUP = "cairn-nodes"
_MAX_DESCRIPTION, _MAX_PASSWORD = 31, 79  # what its parser takes


def openbgpd(router: Router) -> str:
    """Give ``bgpd.conf``; the text ends in a newline."""
    return "\n".join(_lines(router)) + "\n"


def _lines(router: Router) -> Iterator[str]:
    yield from (f"# {line}" for line in router.head)
    yield f"AS {router.asn}"
    if router.router_id is not None:
        yield f"router-id {router.router_id}"
    if router.port != DEFAULT_LISTEN_PORT:
        yield from (f"listen on {address} port {router.port}" for address in router.addresses)
    yield "nexthop qualify via bgp"
    if router.accepted:
        networks = " ".join(f"{network} or-longer" for network in router.accepted)
        yield f"prefix-set cairn-pods {{ {networks} }}"
    yield ""
    yield f'group "{_GROUP}" {{'
    for session in router.sessions:
        yield from (f"\t{line}" for line in _session(router, session))
    yield "}"
    yield ""
    yield f'deny from group "{_GROUP}"'
    if router.accepted:
        yield f'allow from group "{_GROUP}" prefix-set cairn-pods'
    yield f'allow to group "{_GROUP}"'


def _session(router: Router, session: TorSession) -> Iterator[str]:
    yield f"neighbor {session.address} {{"
    yield f"\tremote-as {session.asn}"
    yield f'\tdescr "{name(session.node)[:_MAX_DESCRIPTION]}"'
    if session.port != DEFAULT_LISTEN_PORT:
        yield f"\tport {session.port}"
    yield f"\tlocal-address {session.local}"
    yield f"\tholdtime {session.hold_time}"
    hops = session.multihop if session.ttl_security is None else session.ttl_security
    if hops is not None and hops > 1:
        yield f"\tmultihop {hops}"
    if session.ttl_security is not None:
        yield "\tttl-security yes"
    if session.internal:
        yield f"\troute-reflector {router.router_id or ''}".rstrip()
    if session.password is not None:
        password = quoted(session.password, f"the password of {session.node}", _MAX_PASSWORD)
        yield f"\ttcp md5sig password {password}"
    if session.max_prefixes is not None:
        yield f"\tmax-prefix {session.max_prefixes}"
    shut = session.shut
    if session.internal and session.ttl_security is not None:
        shut = "OpenBGPD has no GTSM within an AS: leave out ttlSecurity"
    if shut is not None:
        yield f"\tdown # {shut}"
    yield f"\tannounce IPv{session.address.version} unicast"
    yield f"\tannounce IPv{10 - session.address.version} none"
    if session.internal:
        yield "\tannounce add-path send all"
    yield "}"
