"""A top-of-rack router in FRR's language, and in Arista's EOS, which differs from it in few words."""

from collections.abc import Iterator
from dataclasses import dataclass

from bgpd.render.tor import MULTIPATH, Router, TorSession, name
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT

_PODS = "CAIRN-PODS"
_MOST_HOPS = 254
_ALL = {4: "0.0.0.0/0", 6: "::/0"}
_IN, _OUT = "CAIRN-IN", "CAIRN-OUT"


@dataclass(frozen=True, slots=True)
class _Dialect:
    indent: str
    router_id: str
    gtsm: str
    password: str
    maximum: str
    all_paths: str
    family: str
    family_end: str


_FRR = _Dialect(
    " ",
    "bgp router-id",
    "ttl-security hops",
    "password",
    "maximum-prefix",
    "addpath-tx-all-paths",
    "ipv{} unicast",
    "exit-address-family",
)
_EOS = _Dialect(
    indent="   ",
    router_id="router-id",
    gtsm="ttl maximum-hops",
    password="password 0",  # noqa: S106  a keyword of the language
    maximum="maximum-routes",
    all_paths="additional-paths send any",
    family="ipv{}",
    family_end="",
)


def frr(router: Router) -> str:
    """Give the lines for ``frr.conf``; the text ends in a newline."""
    return _text(router, _FRR)


def eos(router: Router) -> str:
    """Give the lines for EOS's configuration; the text ends in a newline."""
    return _text(router, _EOS)


def _text(router: Router, dialect: _Dialect) -> str:
    return "\n".join([*_policy(router, dialect), *_bgp(router, dialect)]) + "\n"


def _policy(router: Router, dialect: _Dialect) -> Iterator[str]:
    yield from (f"! {line}" for line in router.head_without_port)
    for version in router.versions:
        ip = "ip" if version == 4 else "ipv6"
        longest = 32 if version == 4 else 128
        listed = f"{ip} prefix-list {_PODS}-V{version}"
        if dialect is _EOS and version == 6:  # EOS has a mode for IPv6 lists
            yield listed
        entries = [
            f"permit {network}" + (f" le {longest}" if network.prefixlen < longest else "")
            for network in router.accepted_of(version)
        ]  # what a list means that is not there differs, so none is left out
        for number, words in enumerate(entries or [f"deny {_ALL[version]} le {longest}"], start=1):
            entry = f"seq {number * 10} {words}"
            yield f"{dialect.indent}{entry}" if dialect is _EOS and version == 6 else f"{listed} {entry}"
        yield "!"
        yield f"route-map {_IN}-V{version} permit 10"
        yield f" match {ip} address prefix-list {_PODS}-V{version}"
        yield "!"
    yield f"route-map {_OUT} permit 10"
    yield "!"


def _bgp(router: Router, dialect: _Dialect) -> Iterator[str]:
    pad = dialect.indent
    yield f"router bgp {router.asn}"
    if router.router_id is not None:
        yield f"{pad}{dialect.router_id} {router.router_id}"
    yield f"{pad}no bgp default ipv4-unicast"
    yield f"{pad}bgp bestpath as-path multipath-relax"
    if dialect is _FRR:
        yield f"{pad}bgp graceful-restart"
    else:
        yield f"{pad}maximum-paths {MULTIPATH}"
        yield f"{pad}graceful-restart"
    for session in router.sessions:
        yield from (f"{pad}neighbor {session.address} {words}" for words in _session(session, dialect))
    for version in router.versions:
        yield f"{pad}address-family {dialect.family.format(version)}"
        if dialect is _FRR:
            yield f"{pad * 2}maximum-paths {MULTIPATH}"
            if any(session.internal for session in router.sessions):
                yield f"{pad * 2}maximum-paths ibgp {MULTIPATH}"
        for session in router.sessions_of(version):
            for words in _family(session, version, dialect):
                yield f"{pad * 2}neighbor {session.address} {words}"
        if dialect.family_end:
            yield f"{pad}{dialect.family_end}"
    yield "!"


def _session(session: TorSession, dialect: _Dialect) -> Iterator[str]:
    yield f"remote-as {session.asn}"
    yield f"description {name(session.node)}"
    if session.port != DEFAULT_LISTEN_PORT:
        yield f"{'port' if dialect is _FRR else 'transport remote-port'} {session.port}"
    yield f"timers {session.keepalive_time} {session.hold_time}"
    if session.ttl_security is not None:
        yield f"{dialect.gtsm} {min(session.ttl_security, _MOST_HOPS)}"
    elif session.multihop is not None:
        yield f"ebgp-multihop {session.multihop}"
    if session.multihop is not None:
        yield f"update-source {session.local}"
    if session.password is not None:
        yield f"{dialect.password} {session.password}"
    if session.shut is not None:
        yield "shutdown"
    if dialect is _EOS and session.internal:
        yield "route-reflector-client"
    if dialect is _EOS and session.max_prefixes is not None:
        yield f"{dialect.maximum} {session.max_prefixes}"


def _family(session: TorSession, version: int, dialect: _Dialect) -> Iterator[str]:
    yield "activate"
    if session.internal:
        yield dialect.all_paths
    if dialect is _FRR and session.internal:
        yield "route-reflector-client"
    yield f"route-map {_IN}-V{version} in"
    yield f"route-map {_OUT} out"
    if dialect is _FRR and session.max_prefixes is not None:
        yield f"{dialect.maximum} {session.max_prefixes}"
