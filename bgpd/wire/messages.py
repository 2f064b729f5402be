"""OPEN, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH: values, and their bytes.

`decode` takes what `framing.Framer` yields (a type and a body) and `encode` gives a whole message, header
included. UPDATE is not here: it has a module and a speed of its own (`update`).

RFCs: 4271 §4.2, §4.4, §4.5, §6.2 (OPEN and its errors), 5492 and 9072 (optional parameters in both forms),
6286 (BGP Identifier), 6793 (four-octet AS in OPEN), 7607 (AS 0), 8203 and 9003 (shutdown communication),
2918 and 7313 (ROUTE-REFRESH). What depends on configuration (is this the AS we expect?) is the session's to
check.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from .capabilities import Capabilities, Negotiated, agree
from .errors import ProtocolError
from .iana import (
    AS_TRANS,
    CeaseSubcode,
    ErrorCode,
    HeaderSubcode,
    MessageType,
    OpenSubcode,
    OptionalParameter,
    RefreshSubtype,
    RouteRefreshSubcode,
)
from .nlri import Family

MARKER: Final = b"\xff" * 16
HEADER_LENGTH: Final = 19
VERSION: Final = 4
_COMMUNICATING: Final = frozenset({CeaseSubcode.ADMINISTRATIVE_SHUTDOWN, CeaseSubcode.ADMINISTRATIVE_RESET})


def message(type: int, body: bytes) -> bytes:
    """Put the header of RFC 4271 §4.1 before a body."""
    return MARKER + (HEADER_LENGTH + len(body)).to_bytes(2, "big") + bytes((type,)) + body


@dataclass(frozen=True, slots=True)
class Open:
    """RFC 4271 §4.2. `asn` is the true (four-octet) AS number; `bgp_identifier` is four octets; times in
    seconds.
    """

    asn: int
    hold_time: int
    bgp_identifier: bytes
    capabilities: Capabilities = field(default_factory=Capabilities)

    def body(self) -> bytes:
        """Without header. All capabilities share one optional parameter (RFC 5492 §4); if that does not
        fit, the parameters take the extended form of RFC 9072 §2.
        """
        my_as = self.asn if self.asn <= 0xFFFF else AS_TRANS
        fixed = (
            bytes((VERSION,))
            + my_as.to_bytes(2, "big")
            + self.hold_time.to_bytes(2, "big")
            + self.bgp_identifier
        )
        value = self.capabilities.encode()
        if not value:
            return fixed + b"\0"
        if len(value) <= 253:
            return fixed + bytes((2 + len(value), OptionalParameter.CAPABILITIES, len(value))) + value
        parameter = bytes((OptionalParameter.CAPABILITIES,)) + len(value).to_bytes(2, "big") + value
        return fixed + b"\xff\xff" + len(parameter).to_bytes(2, "big") + parameter


@dataclass(frozen=True, slots=True)
class Notification:
    """RFC 4271 §4.5. `code` and `subcode` are plain numbers, since a peer may send any."""

    code: int
    subcode: int = 0
    data: bytes = b""

    @classmethod
    def of(cls, error: ProtocolError) -> "Notification":
        """The NOTIFICATION an error of the peer's asks for."""
        return cls(error.code, error.subcode, error.data)

    @classmethod
    def cease(cls, subcode: CeaseSubcode, communication: str = "") -> "Notification":
        """A Cease with a shutdown communication (RFC 9003 §2), cut to 255 octets between two characters."""
        octets = communication.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode()
        return cls(ErrorCode.CEASE, subcode, bytes((len(octets),)) + octets if octets else b"")

    def cut(self, max_length: int) -> "Notification":
        """With as much of the data as a message of `max_length` octets has room for; it serves diagnosis."""
        return replace(self, data=self.data[: max_length - HEADER_LENGTH - 2])

    @property
    def communication(self) -> str:
        """The shutdown communication as one line that is safe to log; "" if there is none.

        Control characters are escaped, so that a peer cannot forge log lines. What is no valid
        communication (wrong length, no UTF-8) is given in hexadecimal instead (RFC 9003 §3).
        """
        if self.code != ErrorCode.CEASE:
            return ""
        subcode, data = self.subcode, self.data
        if subcode == CeaseSubcode.HARD_RESET and len(data) >= 2 and data[0] == ErrorCode.CEASE:
            subcode, data = data[1], data[2:]  # RFC 8538 §3.1: the reason is encapsulated
        if subcode not in _COMMUNICATING or not data or data == b"\0":
            return ""
        octets = data[1:]
        if data[0] == len(octets):
            try:
                text = octets.decode("utf-8")
            except UnicodeDecodeError:
                return "0x" + data.hex()
            return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        return "0x" + data.hex()

    def body(self) -> bytes:
        """Without header."""
        return bytes((self.code, self.subcode)) + self.data


@dataclass(frozen=True, slots=True)
class Keepalive:
    """RFC 4271 §4.4: a header and nothing else."""

    def body(self) -> bytes:
        """Empty."""
        return b""


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    """RFC 2918 §3 with the subtypes of RFC 7313 §3.2; an unknown subtype or family is the receiver's to
    ignore.
    """

    family: Family
    subtype: int = RefreshSubtype.REQUEST

    def body(self) -> bytes:
        """Without header."""
        return self.family.afi.to_bytes(2, "big") + bytes((self.subtype, self.family.safi))


Message = Open | Notification | Keepalive | RouteRefresh

_TYPES: Final[dict[type, MessageType]] = {
    Open: MessageType.OPEN,
    Notification: MessageType.NOTIFICATION,
    Keepalive: MessageType.KEEPALIVE,
    RouteRefresh: MessageType.ROUTE_REFRESH,
}


def encode(value: Message) -> bytes:
    """A whole message, ready to send."""
    return message(_TYPES[type(value)], value.body())


KEEPALIVE: Final = encode(Keepalive())


def decode(type: int, body: bytes) -> Message:
    """The message of a type and a body. Raises ProtocolError; 1/3 for UPDATE, which `update` decodes, and
    beyond.
    """
    match type:
        case MessageType.OPEN:
            return _decode_open(body)
        case MessageType.NOTIFICATION:
            if len(body) < 2:
                raise _bad_length("NOTIFICATION", body)
            return Notification(body[0], body[1], body[2:])
        case MessageType.KEEPALIVE:
            if body:
                raise _bad_length("KEEPALIVE", body)
            return Keepalive()
        case MessageType.ROUTE_REFRESH:
            return _decode_route_refresh(body)
    raise ProtocolError(
        ErrorCode.MESSAGE_HEADER,
        HeaderSubcode.BAD_MESSAGE_TYPE,
        f"message type {type}",
        bytes((type & 0xFF,)),
    )


def _bad_length(name: str, body: bytes) -> ProtocolError:
    length = HEADER_LENGTH + len(body)
    return ProtocolError(
        ErrorCode.MESSAGE_HEADER,
        HeaderSubcode.BAD_MESSAGE_LENGTH,
        f"{name} of {length} octets",
        (length & 0xFFFF).to_bytes(2, "big"),
    )


def _decode_route_refresh(body: bytes) -> RouteRefresh:
    if len(body) < 4:
        raise _bad_length("ROUTE-REFRESH", body)
    subtype = body[2]
    if len(body) != 4 and subtype in (RefreshSubtype.BEGIN, RefreshSubtype.END):
        raise ProtocolError(
            ErrorCode.ROUTE_REFRESH_MESSAGE,
            RouteRefreshSubcode.INVALID_MESSAGE_LENGTH,
            f"ROUTE-REFRESH subtype {subtype} of {len(body)} octets",
            message(MessageType.ROUTE_REFRESH, body),
        )
    # What follows subtype 0 is an outbound route filter (RFC 5291), which we never offer: not read.
    return RouteRefresh(Family(body[0] << 8 | body[1], body[3]), subtype)


def _open_error(subcode: OpenSubcode, reason: str, data: bytes = b"") -> ProtocolError:
    return ProtocolError(ErrorCode.OPEN_MESSAGE, subcode, reason, data)


def _decode_open(body: bytes) -> Open:
    if len(body) < 10:
        raise _bad_length("OPEN", body)
    if body[0] != VERSION:
        raise _open_error(
            OpenSubcode.UNSUPPORTED_VERSION, f"BGP version {body[0]}", VERSION.to_bytes(2, "big")
        )
    my_as = body[1] << 8 | body[2]
    hold_time = body[3] << 8 | body[4]
    bgp_identifier = body[5:9]
    capabilities = Capabilities.decode(_capability_octets(body))
    if my_as == 0:
        raise _open_error(OpenSubcode.BAD_PEER_AS, "the AS number 0")
    asn = my_as if capabilities.asn4 is None else capabilities.asn4
    if my_as not in (asn, AS_TRANS):
        raise _open_error(
            OpenSubcode.BAD_PEER_AS, f"AS {my_as}, but AS {asn} in the four-octet AS capability"
        )
    if hold_time in (1, 2):
        raise _open_error(
            OpenSubcode.UNACCEPTABLE_HOLD_TIME, f"hold time of {hold_time} s", hold_time.to_bytes(2, "big")
        )
    if bgp_identifier == bytes(4):
        raise _open_error(OpenSubcode.BAD_BGP_IDENTIFIER, "the BGP Identifier 0.0.0.0")
    return Open(asn, hold_time, bgp_identifier, capabilities)


def _capability_octets(body: bytes) -> bytes:
    """The values of all capability parameters, in either form of the optional parameters."""
    total, start, size = body[9], 10, 1
    if total and len(body) > 10 and body[10] == OptionalParameter.EXTENDED_LENGTH:
        if len(body) < 13:
            raise _open_error(
                OpenSubcode.UNSPECIFIC, "the extended length of the optional parameters is missing"
            )
        total, start, size = body[11] << 8 | body[12], 13, 2
    if start + total != len(body):
        raise _open_error(
            OpenSubcode.UNSPECIFIC,
            f"{len(body) - start} octets of optional parameters where {total} are announced",
        )
    values = []
    position = start
    while position < len(body):
        value = position + 1 + size
        end = value + int.from_bytes(body[position + 1 : value], "big")
        if value > len(body) or end > len(body):
            raise _open_error(OpenSubcode.UNSPECIFIC, "an optional parameter overruns the OPEN")
        if body[position] != OptionalParameter.CAPABILITIES:
            raise _open_error(
                OpenSubcode.UNSUPPORTED_OPTIONAL_PARAMETER, f"optional parameter of type {body[position]}"
            )
        values.append(body[value:end])
        position = end
    return b"".join(values)


def negotiate(local: Open, remote: Open) -> Negotiated:
    """What a session may use after the OPEN we sent (`local`) and the one received (`remote`).

    Raises ProtocolError 2/11 for roles that do not fit (RFC 9234 §4.2).
    """
    return agree(
        local.capabilities,
        remote.capabilities,
        local_asn=local.asn,
        peer_asn=remote.asn,
        hold_time=min(local.hold_time, remote.hold_time),
        identifier=remote.bgp_identifier,
    )
