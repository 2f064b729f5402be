"""A top-of-rack router in Junos's language, as ``load merge`` takes it.

Its limit of prefixes only logs without *teardown*, and a path with the peer's AS in it is not sent without
*advertise-peer-as*. Junos has no statement for GTSM: the TTL of what is sent is set, and the check of what
comes in is a firewall filter on the router's loopback, which is the router's own and only named in a comment.
"""

from collections.abc import Iterator

from bgpd.render.quoting import quoted
from bgpd.render.tor import Router, TorSession, name
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT

_FAMILY = {4: "inet", 6: "inet6"}
_MOST_PATHS = 6  # that every version sends of one prefix


def junos(router: Router) -> str:
    """Give the statements; the text ends in a newline."""
    lines: list[str] = []
    depth = 0
    for line in _lines(router):
        depth -= line.startswith("}")
        lines.append("    " * depth + line)
        depth += line.endswith("{")
    return "\n".join(lines) + "\n"


def _lines(router: Router) -> Iterator[str]:
    yield from (f"/* {line} */" for line in router.head_without_port)
    yield "policy-options {"
    for version in router.versions:
        yield f"policy-statement cairn-in-v{version} {{"
        if networks := router.accepted_of(version):
            yield "term pods {"
            yield "from {"
            yield from (f"route-filter {network} orlonger;" for network in networks)
            yield "}"
            yield "then accept;"
            yield "}"
        yield "then reject;"
        yield "}"
    yield "policy-statement cairn-out {"
    yield "term known {"
    yield "from protocol [ bgp static direct ];"
    yield "then accept;"
    yield "}"
    yield "then reject;"
    yield "}"
    yield "policy-statement cairn-balance {"
    yield "then {"
    yield "load-balance per-packet;"
    yield "}"
    yield "}"
    yield "}"
    yield "routing-options {"
    if router.router_id is not None:
        yield f"router-id {router.router_id};"
    yield f"autonomous-system {router.asn};"
    yield "graceful-restart;"
    yield "forwarding-table {"
    yield "export cairn-balance;"
    yield "}"
    yield "}"
    yield "protocols {"
    yield "bgp {"
    for internal in (False, True):
        for version in router.versions:
            sessions = [item for item in router.sessions_of(version) if item.internal == internal]
            if sessions:
                yield from _group(router, version, internal, sessions)
    yield "}"
    yield "}"


def _group(router: Router, version: int, internal: bool, sessions: list[TorSession]) -> Iterator[str]:
    yield f"group cairn-{'internal' if internal else 'external'}-v{version} {{"
    yield f"type {'internal' if internal else 'external'};"
    if internal:
        yield f"cluster {router.cluster_id};"
    yield f"import cairn-in-v{version};"
    yield "export cairn-out;"
    yield "multipath;" if internal else "multipath multiple-as;"
    for session in sessions:
        yield f"neighbor {session.address} {{"
        yield f'description "{name(session.node)}";'
        if not internal:
            yield f"peer-as {session.asn};"
        if session.own_as:
            yield "advertise-peer-as;"
        yield f"local-address {session.local};"
        yield f"hold-time {session.hold_time};"
        if session.ttl_security is not None:
            yield f"/* GTSM: refuse BGP from here with a TTL below {256 - session.ttl_security} */"
            yield "multihop {"
            yield "ttl 255;"
            yield "}"
        elif session.multihop is not None:
            yield "multihop {"
            yield f"ttl {session.multihop};"
            yield "}"
        if session.port != DEFAULT_LISTEN_PORT:
            yield f"/* the node listens on port {session.port}, to which Junos cannot connect */"
            yield "passive;"
        if session.password is not None:
            yield f"authentication-key {quoted(session.password, f'the password of {session.node}')};"
        yield f"family {_FAMILY[version]} {{"
        yield "unicast {"
        if internal:
            yield "add-path {"
            yield "send {"
            yield f"path-count {_MOST_PATHS};"
            yield "}"
            yield "}"
        if session.max_prefixes is not None:
            yield "prefix-limit {"
            yield f"maximum {session.max_prefixes};"
            yield "teardown;"
            yield "}"
        yield "}"
        yield "}"
        yield "graceful-restart {"
        yield f"restart-time {min(session.restart_time, 600)};" if session.restart_time else "disable;"
        yield "}"
        if session.shut is not None:
            yield f"/* {session.shut.replace('*/', '* /')} */"
            yield "shutdown;"
        yield "}"
    yield "}"
