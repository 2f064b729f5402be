"""What the reflector is to be: itself, and the peers it accepts or connects to.

The file and the plan (from the datastore) both come down to a `ReflectorSpec`; the server knows nothing
else. Two specs are compared peer by peer, so that a change touches only the sessions it concerns.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from bgpd.rib.path import SourceKind
from bgpd.rib.reflection import Speaker
from bgpd.session.config import PeerConfig as PeerTimes
from bgpd.session.config import SessionConfig
from bgpd.telemetry.config import ConfigError, SecretSource
from bgpd.wire.capabilities import AddPath, Capabilities, GracefulRestart
from bgpd.wire.iana import Role
from bgpd.wire.nlri import Family
from reflector.config import (
    ClientPrefix,
    IPNetwork,
    Limits,
    Listen,
    PeerConfig,
    PeerOptions,
    ReflectorConfig,
)
from reflector.member import MemberOptions
from reflector.sockets import TCP_MD5SIG_MAXKEYLEN

ROLES = {
    "provider": Role.PROVIDER,
    "rs": Role.ROUTE_SERVER,
    "rs-client": Role.ROUTE_SERVER_CLIENT,
    "customer": Role.CUSTOMER,
    "peer": Role.PEER,
}
IPV4_OVER_IPV6 = 2  # the AFI of the next hop in RFC 8950


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """One peer, or any peer of a prefix.

    `network` holds the addresses it may come from; a single address makes it a peer of its own, which is
    `expected` to be up and (unless passive) connected to. `patience`: how many seconds a passive peer is
    waited for before it is connected to all the same; None: for ever.
    """

    name: str
    network: IPNetwork
    session: SessionConfig
    member: MemberOptions
    port: int = 179
    local_address: IPv4Address | IPv6Address | None = None
    patience: float | None = None
    password: str | None = field(default=None, repr=False)
    ttl_security: int | None = None
    multihop: int | None = None
    max_prefixes: int | None = None
    warn_at: int = 75
    restart_after: int | None = None
    kind: str = ""
    description: str = ""

    @property
    def single(self) -> bool:
        """Whether this is one peer and not a prefix of them."""
        return self.network.prefixlen == self.network.max_prefixlen

    def takes(self, address: IPv4Address | IPv6Address, link: str) -> bool:
        """Whether a peer of this address is meant; `link` is where it is, if it is link-local."""
        if address.version != self.network.version or address not in self.network:
            return False
        return str(self.network.network_address).partition("%")[2] in ("", link)

    @property
    def prefix_limit(self) -> tuple[int | None, int | None]:
        """What keeps it out: more prefixes than this, and then for so many seconds."""
        return self.max_prefixes, self.restart_after

    @property
    def external(self) -> bool:
        """Whether the peer is of another AS."""
        return self.member.kind is SourceKind.EXTERNAL


class PeersByAddress:
    """Whom an address is declared as: a peer of its own, or the narrowest prefix that it lies in."""

    def __init__(self, peers: Iterable[PeerSpec] = ()) -> None:
        self._single: dict[bytes, list[PeerSpec]] = {}  # link-local ones of one address are on several links
        self._prefixes: list[PeerSpec] = []
        for peer in peers:
            if peer.single:
                self._single.setdefault(peer.network.network_address.packed, []).append(peer)
            else:
                self._prefixes.append(peer)
        self._prefixes.sort(key=lambda peer: peer.network.prefixlen, reverse=True)

    def find(self, address: str) -> PeerSpec | None:
        """Give the peer; a link-local address comes with its link."""
        host, _, link = address.partition("%")
        ip = ip_address(host)
        candidates = (*self._single.get(ip.packed, ()), *self._prefixes)
        return next((peer for peer in candidates if peer.takes(ip, link)), None)


@dataclass(frozen=True, slots=True)
class ReflectorSpec:
    """The whole reflector. `absent`: addresses of peers that are not waited for at the start.

    `dead`: those of nodes that were alive and are not; a session that ended is not coming back, whatever its
    restart time. `incomplete`: there may be peers whose declaration cannot be read.
    """

    speaker: Speaker
    listen: tuple[Listen, ...]
    peers: tuple[PeerSpec, ...]
    limits: Limits = field(default_factory=Limits)
    absent: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    incomplete: bool = False


def read_password(source: SecretSource | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """A session's password, never an empty one; raises ConfigError."""
    if source is None:
        return None
    try:
        text = source.read(environ)
    except ConfigError as error:
        raise ConfigError(f"{error}; the session stays down rather than unprotected") from error
    problem = password_problem(text)
    if problem is not None:
        raise ConfigError(f"{source.place}: {problem}")
    return text


def password_problem(password: str) -> str | None:
    """Why the system would refuse a TCP MD5 key, or None."""
    size = len(password.encode())
    return (
        f"a password of {size} octets; TCP MD5 takes {TCP_MD5SIG_MAXKEYLEN}"
        if size > TCP_MD5SIG_MAXKEYLEN
        else None
    )


def capabilities(
    families: frozenset[Family],
    asn: int,
    *,
    restart_time: int,
    long_lived_time: int = 0,
    add_path_receive: bool = False,
    add_path_send: bool = False,
    role: Role | None = None,
) -> Capabilities:
    """What we offer. The forwarding bit is always set: our restart moves no packet (RFC 4724 4.1)."""
    mode = (AddPath.RECEIVE if add_path_receive else AddPath(0)) | (
        AddPath.SEND if add_path_send else AddPath(0)
    )
    ordered = sorted(families)
    return Capabilities(
        families=families,
        asn4=asn,
        route_refresh=True,
        enhanced_refresh=True,
        extended_message=True,
        graceful_restart=GracefulRestart(restart_time, False, True, tuple((f, True) for f in ordered))
        if restart_time
        else None,
        long_lived=tuple((f, True, long_lived_time) for f in ordered) if long_lived_time else (),
        add_path=tuple((f, mode) for f in ordered) if mode else (),
        extended_next_hop=tuple((f, IPV4_OVER_IPV6) for f in ordered if f.afi == 1),
        role=role,
    )


def from_config(config: ReflectorConfig, environ: Mapping[str, str] = os.environ) -> ReflectorSpec:
    """The spec of a configuration that names its peers itself; raises ConfigError."""
    if config.asn is None or config.router_id is None:
        raise ConfigError("'asn' and 'routerId' are needed without a datastore")
    speaker = Speaker(config.asn, config.router_id.packed, (config.cluster_id or config.router_id).packed)
    items: list[PeerConfig | ClientPrefix] = [*config.peers, *config.clients]
    peers = [_peer(speaker, config.limits, item, environ) for item in items]
    _check(peers)
    return ReflectorSpec(speaker, config.listeners, tuple(peers), config.limits)


def _check(peers: list[PeerSpec]) -> None:
    """Refuse what would not work as it is written."""
    by_network: dict[IPNetwork, PeerSpec] = {}
    for peer in peers:
        if peer.network in by_network:
            raise ConfigError(f"{peer.network} is given twice; keep one of the two")
        by_network[peer.network] = peer
    for peer in peers:
        if peer.password is not None:
            continue
        # The kernel looks for a key by the address alone: without one of its own, a peer gets the prefix's.
        for prefixlen in range(peer.network.prefixlen - 1, -1, -1):
            outer = by_network.get(peer.network.supernet(new_prefix=prefixlen))
            if outer is not None and outer.password is not None:
                raise ConfigError(
                    f"{peer.name} has no password but lies in {outer.name}, which has one; "
                    "give it one too, or take it out of that prefix"
                )


def _peer(
    speaker: Speaker, limits: Limits, item: PeerConfig | ClientPrefix, environ: Mapping[str, str]
) -> PeerSpec:
    local_asn = item.local_asn or speaker.asn
    asn = item.asn or local_asn
    external = asn != local_asn
    internal_kind = SourceKind.CLIENT if item.client else SourceKind.NON_CLIENT
    kind = SourceKind.EXTERNAL if external else internal_kind
    passive = item.passive if isinstance(item, PeerConfig) else True
    session = session_config(speaker, limits, item, local_asn, asn, passive=passive)
    accepts = not external or item.without_policy == "accept"
    if item.role is not None and not external:
        name = item.prefix if isinstance(item, ClientPrefix) else item.address
        raise ConfigError(f"{name}: 'role' is for peers of another AS (RFC 9234); leave it out or give 'asn'")
    role = ROLES[item.role] if item.role else None
    member = MemberOptions(
        kind=kind,
        add_path_limit=item.add_path.send,
        path_limit=item.add_path.receive_limit,
        allowed_own_as=item.allowed_own_as,
        local_asn=item.local_asn,
        accepts=accepts,
        tells=accepts,
        long_lived_stale_time=item.long_lived_stale_time,
        own_next_hop=item.next_hop == "self" or (external and item.next_hop == "auto"),
        role=role,
        # A route server does not put its AS in front (RFC 7947 2.2.2.1).
        enforce_first_as=item.role != "rs-client" if item.enforce_first_as is None else item.enforce_first_as,
        honour_graceful_shutdown=item.honour_graceful_shutdown,
    )
    network = item.prefix if isinstance(item, ClientPrefix) else ip_network(item.address)
    return PeerSpec(
        name=str(network) if isinstance(item, ClientPrefix) else str(item.address),
        network=network,
        session=session,
        member=member,
        port=179 if isinstance(item, ClientPrefix) else item.port,
        local_address=None if isinstance(item, ClientPrefix) else item.local_address,
        password=read_password(item.password, environ),
        ttl_security=item.ttl_security,
        multihop=item.multihop,
        max_prefixes=item.max_prefixes.limit if item.max_prefixes else None,
        warn_at=item.max_prefixes.warn_at if item.max_prefixes else 75,
        restart_after=item.max_prefixes.restart_after if item.max_prefixes else None,
        kind=kind.value,
        description=item.description,
    )


def session_config(
    speaker: Speaker, limits: Limits, options: PeerOptions, local_asn: int, asn: int | None, *, passive: bool
) -> SessionConfig:
    """The session part of a peer's options."""
    return SessionConfig(
        local_asn=local_asn,
        bgp_identifier=speaker.bgp_identifier,
        capabilities=capabilities(
            options.family_set,
            local_asn,
            restart_time=options.graceful_restart_time,
            long_lived_time=options.long_lived_stale_time,
            add_path_receive=options.add_path.receive,
            add_path_send=bool(options.add_path.send),
            role=ROLES[options.role] if options.role else None,
        ),
        peer_asn=asn,
        hold_time=options.hold_time,
        keepalive_time=options.keepalive_time,
        # Shorter than the time between two KEEPALIVEs it would end sessions where all is well.
        send_hold_time=limits.send_hold_time and max(limits.send_hold_time, options.hold_time),
        open_hold_time=limits.open_timeout,
        passive=passive,
        strict_role=options.strict_role,
    )


def times(spec: PeerSpec) -> PeerTimes:
    """How eagerly a peer is connected to, and how long a flapping one is kept waiting."""
    if spec.single:
        return PeerTimes(spec.session, patience=spec.patience)
    # A client of a prefix may be a whole fleet restarting at once: it is welcome sooner.
    return PeerTimes(spec.session, tolerated_flaps=16, idle_hold_time=0.5, idle_hold_max=15.0)


def address_of(spec: PeerSpec) -> IPv4Address | IPv6Address:
    """The address of a single peer."""
    return ip_address(str(spec.network.network_address))
