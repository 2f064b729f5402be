"""What an OPEN offers (RFC 5492), and what two OPENs together negotiate.

`Capabilities` is the typed content of an OPEN's capability parameters; `negotiate` compares what we sent
with what the peer sent and yields the one object (`Negotiated`) that everything decoding or encoding for
this session consults.

RFCs: 4760 (multiprotocol), 2918 and 7313 (route refresh), 8950 (extended next hop), 8654 (extended
message), 9234 (role), 4724 and 8538 (graceful restart), 6793 (four-octet AS), 7911 (add-path), 9494
(long-lived graceful restart); FQDN and software version by their drafts. A capability that is unknown, or
whose value has no sense, is kept in `unknown` as it came: RFC 5492 §3 lets nobody end a session over one.
The exception is the four-octet AS capability, without which nothing that follows could be decoded: a bad
length there is OPEN error 2/0.

Left out: outbound route filtering, dynamic capabilities, multisession.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from .errors import ProtocolError
from .iana import CapabilityCode, ErrorCode, OpenSubcode, Role
from .nlri import IPV4_UNICAST, Family


class AddPath(IntFlag):
    """RFC 7911 §4, as the sender of the capability sees it."""

    RECEIVE = 1
    SEND = 2


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """RFC 4724 §3 with the N bit of RFC 8538 §2.

    `restart_time` in seconds (0 to 4095); `restarting` is the R bit, `notification` the N bit; `families`
    pairs each family with its F bit ("forwarding state preserved").
    """

    restart_time: int = 0
    restarting: bool = False
    notification: bool = False
    families: tuple[tuple[Family, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Fqdn:
    """Host and domain name, as text fit for a log."""

    host: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Everything an OPEN may offer.

    `asn4` is the four-octet AS number of the sender, None if it is an old (two-octet) speaker. `long_lived`
    holds (family, F bit, stale time in seconds); `extended_next_hop` holds (family of the NLRI, AFI of the
    next hop). `role` is a `Role`'s number, or what else a peer says. `unknown` holds (code, value) in the
    order received.
    """

    families: frozenset[Family] = frozenset()
    asn4: int | None = None
    route_refresh: bool = False
    enhanced_refresh: bool = False
    extended_message: bool = False
    graceful_restart: GracefulRestart | None = None
    long_lived: tuple[tuple[Family, bool, int], ...] = ()
    add_path: tuple[tuple[Family, AddPath], ...] = ()
    extended_next_hop: tuple[tuple[Family, int], ...] = ()
    role: int | None = None
    fqdn: Fqdn | None = None
    software_version: str | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()

    @property
    def max_length(self) -> int:
        """The longest UPDATE, NOTIFICATION or ROUTE-REFRESH its sender takes in (RFC 8654 §4)."""
        return 65535 if self.extended_message else 4096

    def encode(self) -> bytes:
        """The capabilities as code, length, value; the content of one optional parameter."""
        return b"".join(bytes((code, len(value))) + value for code, value in self._values())

    def _values(self) -> Iterator[tuple[int, bytes]]:
        for family in sorted(self.families):
            yield CapabilityCode.MULTIPROTOCOL, _afi(family) + bytes((0, family.safi))
        if self.route_refresh:
            yield CapabilityCode.ROUTE_REFRESH, b""
        for chunk in _chunks([_afi(f) + _two(f.safi) + _two(afi) for f, afi in self.extended_next_hop]):
            yield CapabilityCode.EXTENDED_NEXT_HOP, chunk
        if self.extended_message:
            yield CapabilityCode.EXTENDED_MESSAGE, b""
        if self.role is not None:
            yield CapabilityCode.ROLE, bytes((self.role,))
        if (restart := self.graceful_restart) is not None:
            flags = restart.restarting << 15 | restart.notification << 14
            yield (
                CapabilityCode.GRACEFUL_RESTART,
                _two(flags | restart.restart_time & 0xFFF)
                + b"".join(family.encode() + bytes((kept << 7,)) for family, kept in restart.families),
            )
        if self.asn4 is not None:
            yield CapabilityCode.FOUR_OCTET_AS, self.asn4.to_bytes(4, "big")
        for chunk in _chunks([family.encode() + bytes((mode,)) for family, mode in self.add_path]):
            yield CapabilityCode.ADD_PATH, chunk
        if self.enhanced_refresh:
            yield CapabilityCode.ENHANCED_ROUTE_REFRESH, b""
        for chunk in _chunks(
            [f.encode() + bytes((kept << 7,)) + time.to_bytes(3, "big") for f, kept, time in self.long_lived]
        ):
            yield CapabilityCode.LONG_LIVED_GRACEFUL_RESTART, chunk
        if self.fqdn is not None:
            yield CapabilityCode.FQDN, _text(self.fqdn.host, 64) + _text(self.fqdn.domain, 64)
        if self.software_version is not None:
            yield CapabilityCode.SOFTWARE_VERSION, _text(self.software_version, 64)
        yield from self.unknown

    @classmethod
    def decode(cls, data: bytes) -> "Capabilities":
        """Read the capabilities of an OPEN: the values of all its capability parameters, joined.

        Raises ProtocolError 2/0 where the lengths do not add up, 2/2 for the AS number 0 (RFC 7607 §2) and
        2/11 for roles that contradict each other (RFC 9234 §4.2).
        """
        draft = _Draft()
        position = 0
        while position < len(data):
            if position + 2 > len(data) or (end := position + 2 + data[position + 1]) > len(data):
                raise _open_error(OpenSubcode.UNSPECIFIC, "a capability overruns its optional parameter")
            draft.take(data[position], data[position + 2 : end])
            position = end
        return draft.finish()


@dataclass(slots=True)
class _Draft:
    """Capabilities under construction: later ones add to or replace earlier ones of the same code."""

    families: set[Family] = field(default_factory=set)
    asn4: int | None = None
    codes: set[int] = field(default_factory=set)
    graceful_restart: GracefulRestart | None = None
    long_lived: dict[Family, tuple[bool, int]] = field(default_factory=dict)
    add_path: dict[Family, AddPath] = field(default_factory=dict)
    extended_next_hop: dict[tuple[Family, int], None] = field(default_factory=dict)
    role: int | None = None
    fqdn: Fqdn | None = None
    software_version: str | None = None
    unknown: list[tuple[int, bytes]] = field(default_factory=list)

    def take(self, code: int, value: bytes) -> None:
        if code in _FLAG_CAPABILITIES:
            self.codes.add(code)
        elif not self._take_value(code, value):
            self.unknown.append((code, value))

    def _take_value(self, code: int, value: bytes) -> bool:
        """Understand a capability that has a value; False if it has none we understand."""
        size = len(value)
        match code:
            case CapabilityCode.MULTIPROTOCOL if size == 4:
                self.families.add(Family(value[0] << 8 | value[1], value[3]))
            case CapabilityCode.FOUR_OCTET_AS:
                self._take_asn(value)
            case CapabilityCode.EXTENDED_NEXT_HOP if size % 6 == 0:
                for f in _items(value, 6):
                    self.extended_next_hop[Family(f[0] << 8 | f[1], f[3]), f[4] << 8 | f[5]] = None
            case CapabilityCode.ROLE if size == 1:
                if self.role not in (None, value[0]):
                    raise _open_error(OpenSubcode.ROLE_MISMATCH, "the OPEN names several roles")
                self.role = value[0]
            case CapabilityCode.GRACEFUL_RESTART if size % 4 == 2:
                self.graceful_restart = GracefulRestart(
                    (value[0] & 0x0F) << 8 | value[1],
                    bool(value[0] & 0x80),
                    bool(value[0] & 0x40),
                    tuple((Family(f[0] << 8 | f[1], f[2]), bool(f[3] & 0x80)) for f in _items(value[2:], 4)),
                )
            case CapabilityCode.ADD_PATH if size % 4 == 0:
                for f in _items(value, 4):
                    if 1 <= f[3] <= 3:  # RFC 7911 §4: any other value is ignored
                        self.add_path[Family(f[0] << 8 | f[1], f[2])] = AddPath(f[3])
            case CapabilityCode.LONG_LIVED_GRACEFUL_RESTART if size % 7 == 0:
                for f in _items(value, 7):
                    kept = (bool(f[3] & 0x80), int.from_bytes(f[4:7], "big"))
                    self.long_lived[Family(f[0] << 8 | f[1], f[2])] = kept
            case CapabilityCode.FQDN if size >= 2 and 2 + value[0] <= size:
                domain = value[1 + value[0] :]
                if 1 + domain[0] > len(domain):
                    return False
                self.fqdn = Fqdn(_printable(value[1 : 1 + value[0]]), _printable(domain[1 : 1 + domain[0]]))
            case CapabilityCode.SOFTWARE_VERSION if size >= 2 and 0 < value[0] < size:
                self.software_version = _printable(value[1 : 1 + value[0]])
            case _:
                return False
        return True

    def _take_asn(self, value: bytes) -> None:
        if len(value) != 4:
            raise _open_error(OpenSubcode.UNSPECIFIC, f"a four-octet AS capability of {len(value)} octets")
        asn = int.from_bytes(value, "big")
        if asn == 0:
            raise _open_error(OpenSubcode.BAD_PEER_AS, "the AS number 0 in the four-octet AS capability")
        if self.asn4 not in (None, asn):
            raise _open_error(OpenSubcode.BAD_PEER_AS, f"two AS numbers, {self.asn4} and {asn}, in one OPEN")
        self.asn4 = asn

    def finish(self) -> Capabilities:
        return Capabilities(
            families=frozenset(self.families),
            asn4=self.asn4,
            route_refresh=CapabilityCode.ROUTE_REFRESH in self.codes,
            enhanced_refresh=CapabilityCode.ENHANCED_ROUTE_REFRESH in self.codes,
            extended_message=CapabilityCode.EXTENDED_MESSAGE in self.codes,
            graceful_restart=self.graceful_restart,
            long_lived=tuple((family, kept, time) for family, (kept, time) in self.long_lived.items()),
            add_path=tuple(self.add_path.items()),
            extended_next_hop=tuple(self.extended_next_hop),
            role=self.role,
            fqdn=self.fqdn,
            software_version=self.software_version,
            unknown=tuple(self.unknown),
        )


_FLAG_CAPABILITIES: Final = frozenset(
    {CapabilityCode.ROUTE_REFRESH, CapabilityCode.ENHANCED_ROUTE_REFRESH, CapabilityCode.EXTENDED_MESSAGE}
)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What two OPENs agree on; `receive` and `send` are ours.

    `graceful_restart` and `long_lived` are the peer's (None and empty unless both sides offered the
    capability). `hold_time` in seconds, the smaller of the two, 0 for "no KEEPALIVEs". `families` are those
    both sides offered.
    """

    families: frozenset[Family] = frozenset({IPV4_UNICAST})
    asn4: bool = True
    extended_message: bool = False
    add_path_receive: frozenset[Family] = frozenset()
    add_path_send: frozenset[Family] = frozenset()
    extended_next_hop: frozenset[Family] = frozenset()
    route_refresh: bool = False
    enhanced_refresh: bool = False
    graceful_restart: GracefulRestart | None = None
    long_lived: tuple[tuple[Family, bool, int], ...] = ()
    hold_time: int = 90
    local_asn: int = 0
    peer_asn: int = 0
    peer_bgp_identifier: bytes = bytes(4)
    local_role: Role | None = None
    peer_role: Role | None = None

    @property
    def internal(self) -> bool:
        """Whether both speakers are of one AS."""
        return self.local_asn == self.peer_asn

    @property
    def max_length(self) -> int:
        """The longest UPDATE, NOTIFICATION or ROUTE-REFRESH that we send."""
        return 65535 if self.extended_message else 4096


ROLE_PAIRS: Final = frozenset(
    {
        (Role.PROVIDER, Role.CUSTOMER),
        (Role.CUSTOMER, Role.PROVIDER),
        (Role.ROUTE_SERVER, Role.ROUTE_SERVER_CLIENT),
        (Role.ROUTE_SERVER_CLIENT, Role.ROUTE_SERVER),
        (Role.PEER, Role.PEER),
    }
)
"""(ours, the peer's) that RFC 9234 §4.2 table 2 allows."""


def agree(
    local: Capabilities,
    remote: Capabilities,
    *,
    local_asn: int,
    peer_asn: int,
    hold_time: int,
    identifier: bytes,
) -> Negotiated:
    """Compare two sets of capabilities; `messages.negotiate` is the usual entrance.

    An OPEN without any multiprotocol capability offers IPv4 unicast (RFC 4760 §8). Raises ProtocolError
    2/11 where both sides of an external session state roles that do not fit (RFC 9234 §4.2).
    """
    external = local_asn != peer_asn
    local_role, peer_role = _role(local.role), _role(remote.role)
    stated = external and remote.role is not None
    if stated and local_role is not None and (local_role, peer_role) not in ROLE_PAIRS:
        says = remote.role if peer_role is None else peer_role.name  # what is not assigned fits nothing
        raise _open_error(OpenSubcode.ROLE_MISMATCH, f"we are {local_role.name}, but the peer says {says}")
    families = _offered(local) & _offered(remote)
    ours, theirs = dict(local.add_path), dict(remote.add_path)
    nothing = AddPath(0)
    restart = remote.graceful_restart if local.graceful_restart is not None else None
    return Negotiated(
        families=families,
        asn4=local.asn4 is not None and remote.asn4 is not None,
        extended_message=local.extended_message and remote.extended_message,
        add_path_receive=frozenset(
            f
            for f in families
            if ours.get(f, nothing) & AddPath.RECEIVE and theirs.get(f, nothing) & AddPath.SEND
        ),
        add_path_send=frozenset(
            f
            for f in families
            if ours.get(f, nothing) & AddPath.SEND and theirs.get(f, nothing) & AddPath.RECEIVE
        ),
        extended_next_hop=frozenset(
            family
            for family, afi in set(local.extended_next_hop) & set(remote.extended_next_hop)
            if family in families and afi == 2
        ),
        route_refresh=local.route_refresh and remote.route_refresh,
        enhanced_refresh=local.enhanced_refresh and remote.enhanced_refresh,
        graceful_restart=restart,
        long_lived=remote.long_lived if restart is not None and local.long_lived else (),
        hold_time=hold_time,
        local_asn=local_asn,
        peer_asn=peer_asn,
        peer_bgp_identifier=identifier,
        local_role=local_role,
        peer_role=peer_role,
    )


def _role(value: int | None) -> Role | None:
    """The role of a number; None for no number, and for one that nobody has assigned."""
    return Role(value) if value is not None and value <= Role.PEER else None


def _offered(capabilities: Capabilities) -> frozenset[Family]:
    return capabilities.families or frozenset({IPV4_UNICAST})


def _open_error(subcode: OpenSubcode, reason: str) -> ProtocolError:
    return ProtocolError(ErrorCode.OPEN_MESSAGE, subcode, reason)


def _two(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _afi(family: Family) -> bytes:
    return _two(family.afi)


def _items(value: bytes, size: int) -> Iterator[bytes]:
    return (value[start : start + size] for start in range(0, len(value), size))


def _chunks(items: list[bytes]) -> Iterator[bytes]:
    """Join items into values that fit one capability each."""
    if items:
        per_chunk = 255 // len(items[0])
        for start in range(0, len(items), per_chunk):
            yield b"".join(items[start : start + per_chunk])


def _text(text: str, limit: int) -> bytes:
    """A counted string of at most `limit` octets, cut between characters."""
    octets = text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets


def _printable(octets: bytes) -> str:
    text = octets.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
