"""Every code point this project knows, in one place (IANA "BGP Parameters", "Address Family Numbers",
"SAFI").

Members are `IntEnum`, so that they compare equal to the octets on the wire and cost nothing to mix with
them. A value that is not listed is no error here: the decoder decides what an unknown value means.
"""

from enum import IntEnum


class MessageType(IntEnum):
    """RFC 4271 §4.1, RFC 2918."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class Afi(IntEnum):
    """Address Family Identifiers."""

    IPV4 = 1
    IPV6 = 2
    L2VPN = 25
    BGP_LS = 16388


class Safi(IntEnum):
    """Subsequent Address Family Identifiers."""

    UNICAST = 1
    MULTICAST = 2
    MPLS_LABEL = 4
    EVPN = 70
    BGP_LS = 71
    MPLS_VPN = 128
    ROUTE_TARGET = 132
    FLOW_SPECIFICATION = 133


class AttributeCode(IntEnum):
    """BGP Path Attributes."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8  # RFC 1997
    ORIGINATOR_ID = 9  # RFC 4456
    CLUSTER_LIST = 10  # RFC 4456
    MP_REACH_NLRI = 14  # RFC 4760
    MP_UNREACH_NLRI = 15  # RFC 4760
    EXTENDED_COMMUNITIES = 16  # RFC 4360
    AS4_PATH = 17  # RFC 6793
    AS4_AGGREGATOR = 18  # RFC 6793
    PMSI_TUNNEL = 22  # RFC 6514
    TUNNEL_ENCAPSULATION = 23  # RFC 9012
    IPV6_EXTENDED_COMMUNITIES = 25  # RFC 5701
    AIGP = 26  # RFC 7311
    BGP_LS = 29  # RFC 9552
    LARGE_COMMUNITIES = 32  # RFC 8092
    ONLY_TO_CUSTOMER = 35  # RFC 9234
    NEXT_HOP_CAPABILITIES = 39  # draft-ietf-idr-nhc
    PREFIX_SID = 40  # RFC 8669


class AttributeFlag(IntEnum):
    """The high four bits of the Attribute Flags octet (RFC 4271 §4.3); the low four are ignored."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


class Origin(IntEnum):
    """RFC 4271 §5.1.1."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class SegmentType(IntEnum):
    """AS_PATH segments: RFC 4271 §4.3, RFC 5065 §3."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class CapabilityCode(IntEnum):
    """BGP capability codes."""

    MULTIPROTOCOL = 1  # RFC 4760
    ROUTE_REFRESH = 2  # RFC 2918
    EXTENDED_NEXT_HOP = 5  # RFC 8950
    EXTENDED_MESSAGE = 6  # RFC 8654
    ROLE = 9  # RFC 9234
    GRACEFUL_RESTART = 64  # RFC 4724
    FOUR_OCTET_AS = 65  # RFC 6793
    ADD_PATH = 69  # RFC 7911
    ENHANCED_ROUTE_REFRESH = 70  # RFC 7313
    LONG_LIVED_GRACEFUL_RESTART = 71  # RFC 9494
    FQDN = 73  # draft-walton-bgp-hostname-capability
    SOFTWARE_VERSION = 75  # draft-abraitis-bgp-version-capability


class OptionalParameter(IntEnum):
    """OPEN optional parameter types: RFC 5492, RFC 9072."""

    CAPABILITIES = 2
    EXTENDED_LENGTH = 255


class Role(IntEnum):
    """RFC 9234 §4.1: what the sender of the capability is to the receiver."""

    PROVIDER = 0
    ROUTE_SERVER = 1
    ROUTE_SERVER_CLIENT = 2
    CUSTOMER = 3
    PEER = 4


class RefreshSubtype(IntEnum):
    """The octet between AFI and SAFI of a ROUTE-REFRESH: RFC 7313 §3.2."""

    REQUEST = 0
    BEGIN = 1
    END = 2


class ErrorCode(IntEnum):
    """NOTIFICATION error codes."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE = 7  # RFC 7313
    SEND_HOLD_TIMER_EXPIRED = 8  # RFC 9687


class HeaderSubcode(IntEnum):
    """RFC 4271 §6.1."""

    CONNECTION_NOT_SYNCHRONIZED = 1
    BAD_MESSAGE_LENGTH = 2
    BAD_MESSAGE_TYPE = 3


class OpenSubcode(IntEnum):
    """RFC 4271 §6.2, RFC 5492, RFC 9234."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7
    ROLE_MISMATCH = 11


class UpdateSubcode(IntEnum):
    """RFC 4271 §6.3."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2
    MISSING_WELL_KNOWN_ATTRIBUTE = 3
    ATTRIBUTE_FLAGS = 4
    ATTRIBUTE_LENGTH = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmSubcode(IntEnum):
    """RFC 6608."""

    UNSPECIFIED = 0
    UNEXPECTED_IN_OPENSENT = 1
    UNEXPECTED_IN_OPENCONFIRM = 2
    UNEXPECTED_IN_ESTABLISHED = 3


class CeaseSubcode(IntEnum):
    """RFC 4486, RFC 8538, RFC 9384."""

    MAXIMUM_PREFIXES_REACHED = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    OTHER_CONFIGURATION_CHANGE = 6
    CONNECTION_COLLISION_RESOLUTION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class RouteRefreshSubcode(IntEnum):
    """RFC 7313 §5."""

    INVALID_MESSAGE_LENGTH = 1


_SUBCODES: dict[int, type[IntEnum]] = {
    ErrorCode.MESSAGE_HEADER: HeaderSubcode,
    ErrorCode.OPEN_MESSAGE: OpenSubcode,
    ErrorCode.UPDATE_MESSAGE: UpdateSubcode,
    ErrorCode.FINITE_STATE_MACHINE: FsmSubcode,
    ErrorCode.CEASE: CeaseSubcode,
    ErrorCode.ROUTE_REFRESH_MESSAGE: RouteRefreshSubcode,
}


def notification_words(code: int, subcode: int) -> str:
    """What a NOTIFICATION says, such as "bad peer AS"; of an unknown subcode its code, if that is known."""
    known = {item.value: item.name for item in _SUBCODES.get(code, ErrorCode)}
    name = known.get(subcode if code in _SUBCODES else code)
    if name is None:
        name = next((item.name for item in ErrorCode if item.value == code), "not known here")
    words = name.lower().replace("_", " ")
    return words.replace("bgp", "BGP").replace(" as", " AS")


class WellKnownCommunity(IntEnum):
    """RFC 1997, RFC 7999, RFC 8326, RFC 9494."""

    GRACEFUL_SHUTDOWN = 0xFFFF0000
    ACCEPT_OWN = 0xFFFF0001
    LLGR_STALE = 0xFFFF0006
    NO_LLGR = 0xFFFF0007
    BLACKHOLE = 0xFFFF029A
    NO_EXPORT = 0xFFFFFF01
    NO_ADVERTISE = 0xFFFFFF02
    NO_EXPORT_SUBCONFED = 0xFFFFFF03
    NO_PEER = 0xFFFFFF04


AS_TRANS = 23456
"""RFC 6793 §9: stands for an AS number that does not fit into two octets."""
