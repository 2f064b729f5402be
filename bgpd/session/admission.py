"""Whether a peer's OPEN is acceptable to this configuration (RFC 4271 section 6.2 and those who amended it).

Decoding has already refused what no configuration could accept: another version, AS 0, the BGP Identifier
0.0.0.0, a hold time of 1 or 2, an optional parameter other than Capabilities, contradicting roles. Here an
OPEN that can be read is held against the configuration; `admit` raises the `ProtocolError` to answer with.

RFC 6286 (our own BGP Identifier: only on an external session), RFC 6793 (AS_TRANS is nobody's number), RFC
9234 (strict mode; whether two stated roles fit is told by `messages.negotiate`), RFC 5492 (families we insist
on).

Left out: an OPEN without one family in common is admitted. RFC 4760 calls for no error; such a session
carries KEEPALIVEs only and the owner sees it in `Negotiated.families`.
"""

from functools import lru_cache

from bgpd.session.config import SessionConfig
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import AS_TRANS, CapabilityCode, ErrorCode, OpenSubcode, Role
from bgpd.wire.messages import Open, encode, negotiate


def _error(subcode: OpenSubcode, reason: str, data: bytes = b"") -> ProtocolError:
    return ProtocolError(ErrorCode.OPEN_MESSAGE, subcode, reason, data)


def _check_asn(config: SessionConfig, asn: int) -> None:
    bad = OpenSubcode.BAD_PEER_AS
    if asn == AS_TRANS:
        raise _error(
            bad, f"the peer says AS {AS_TRANS} (AS_TRANS) and gives no four-octet AS number behind it"
        )
    if config.peer_asn is not None and asn != config.peer_asn:
        raise _error(bad, f"the peer is in AS {asn}; it is configured as AS {config.peer_asn}")
    if config.internal is not None and config.internal != (asn == config.local_asn):
        wanted = (
            f"our own AS {config.local_asn}" if config.internal else f"ASes other than our {config.local_asn}"
        )
        raise _error(bad, f"the peer is in AS {asn}; only peers of {wanted} are welcome here")


def _check_families(config: SessionConfig, remote: Open) -> None:
    missing = sorted(config.required_families - remote.capabilities.families)
    if missing:
        wanted = b"".join(
            bytes((CapabilityCode.MULTIPROTOCOL, 4)) + family.afi.to_bytes(2, "big") + bytes((0, family.safi))
            for family in missing
        )
        names = ", ".join(str(family) for family in missing)
        raise _error(OpenSubcode.UNSUPPORTED_CAPABILITY, f"the peer does not offer {names}", wanted)


def local_open(config: SessionConfig) -> Open:
    """The OPEN we send."""
    return Open(config.local_asn, config.hold_time, config.bgp_identifier, config.capabilities)


@lru_cache(maxsize=256)
def opening(config: SessionConfig) -> bytes:
    """The same on the wire. A crowd of clients that connects at once gets the same octets."""
    return encode(local_open(config))


def admit(config: SessionConfig, remote: Open) -> Negotiated:
    """Hold the peer's OPEN against `config`; raises ProtocolError 2/x for the first thing wrong with it."""
    _check_asn(config, remote.asn)
    internal = remote.asn == config.local_asn
    if internal and remote.bgp_identifier == config.bgp_identifier:
        raise _error(OpenSubcode.BAD_BGP_IDENTIFIER, "the peer is in our AS and has our BGP Identifier")
    ours, theirs = config.capabilities.role, remote.capabilities.role
    if not internal and config.strict_role and ours is not None and theirs is None:
        raise _error(
            OpenSubcode.ROLE_MISMATCH,
            f"the peer states no role; to our {Role(ours).name} it must (strict mode)",
        )
    _check_families(config, remote)
    return negotiate(local_open(config), remote)
