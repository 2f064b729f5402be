"""A top-of-rack router in BIRD 2's language; router ID, device and kernel protocols are the router's own."""

from collections.abc import Iterator

from bgpd.render.quoting import quoted, symbol
from bgpd.render.tor import Router, TorSession, name
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT


def bird(router: Router) -> str:
    """Give what belongs into ``bird.conf``; the text ends in a newline."""
    return "\n".join(_lines(router)) + "\n"


def _lines(router: Router) -> Iterator[str]:
    yield from (f"# {line}" for line in router.head)
    if router.router_id is not None:
        yield f"router id {router.router_id};"
    for version in router.versions:
        networks = router.accepted_of(version)
        yield ""
        yield f"filter cairn_in_v{version} {{"
        if networks:
            yield f"  if net ~ [ {', '.join(f'{network}+' for network in networks)} ] then accept;"
        yield "  reject;"
        yield "}"
    for session in router.sessions:
        yield ""
        yield from _session(router, session)


def _session(router: Router, session: TorSession) -> Iterator[str]:
    family = session.address.version
    yield f"protocol bgp {symbol('cairn', str(family), session.node)} {{"
    yield f'  description "{name(session.node)}";'
    port = f" port {router.port}" if router.port != DEFAULT_LISTEN_PORT else ""
    yield f"  local {session.local}{port} as {router.asn};"
    port = f" port {session.port}" if session.port != DEFAULT_LISTEN_PORT else ""
    yield f"  neighbor {session.address}{port} as {session.asn};"
    if session.ttl_security is not None:
        yield f"  multihop {session.ttl_security};" if session.ttl_security > 1 else "  direct;"
        yield "  ttl security on;"
    elif session.multihop is not None:
        yield f"  multihop {session.multihop};"
    yield f"  hold time {session.hold_time};"
    yield f"  keepalive time {session.keepalive_time};"
    yield "  graceful restart on;"
    yield f"  graceful restart time {session.restart_time};"
    if session.internal:
        yield "  rr client;"
    if session.password is not None:
        yield f"  password {quoted(session.password, f'the password of {session.node}')};"
    if session.shut is not None:
        yield f"  disabled on; # {session.shut}"
    yield f"  ipv{family} {{"
    yield f"    import filter cairn_in_v{family};"
    yield "    export where source = RTS_BGP || source = RTS_STATIC || source = RTS_DEVICE;"
    if session.internal:
        yield "    add paths tx;"
    if session.max_prefixes is not None:
        yield f"    import limit {session.max_prefixes} action block;"
    yield "  };"
    yield "}"
