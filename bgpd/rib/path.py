"""A source of routes, and a path learned from it.

A *source* is one peer as the RIB sees it: who it is, which role it has, and the values the decision
process compares (RFC 4271 9.1.2.2, RFC 4456 9). A *path* is one set of attributes learned from one
source. A path is not bound to a prefix: all prefixes of an UPDATE share one `Path` object, which is
what keeps half a million routes cheap for memory and for the garbage collector.

Both compare by identity.
"""

from collections.abc import Callable
from enum import Enum
from ipaddress import ip_address

from mypy_extensions import mypyc_attr

from bgpd.wire.attributes import AttributeSet
from bgpd.wire.iana import AttributeCode, WellKnownCommunity

_COMMUNITIES_BIT = 1 << AttributeCode.COMMUNITIES
_LLGR_STALE = int(WellKnownCommunity.LLGR_STALE)
_LLGR_STALE_OCTETS = _LLGR_STALE.to_bytes(4, "big")
DEFAULT_LOCAL_PREF = 100  # RFC 4271 leaves the value open; every implementation uses 100

# A path's rank is one number, least is best. From its lowest bits up: ORIGIN, AS_PATH length, what LOCAL_PREF
# lacks to the highest, learned from others, long-lived stale, a one so that no rank is 0, and ineligible.
ORIGIN_SHIFT, AS_PATH_SHIFT, LOCAL_PREF_SHIFT, LOCAL_SHIFT, STALE_SHIFT, TOP_SHIFT = 0, 2, 18, 50, 51, 52
INELIGIBLE = 1 << 53
_HIGHEST_LOCAL_PREF = (1 << 32) - 1
_OUR_OWN = 1 << TOP_SHIFT
_LEARNED = _OUR_OWN | 1 << LOCAL_SHIFT


class SourceKind(Enum):
    """The role of a source towards this speaker (RFC 4456 4; RFC 4271 3)."""

    CLIENT = "client"
    NON_CLIENT = "non-client"
    EXTERNAL = "external"
    LOCAL = "local"


class Source:
    """One peer (or this node itself) as an origin of paths.

    `address` is the peer's address as text; `bgp_identifier` is 4 octets; `asn` is the peer's AS.
    """

    __slots__ = ("address", "address_key", "asn", "bgp_identifier", "kind", "name")

    def __init__(
        self, kind: SourceKind, address: str, bgp_identifier: bytes, asn: int, name: str = ""
    ) -> None:
        self.kind = kind
        self.address = address
        self.bgp_identifier = bgp_identifier
        self.asn = asn
        self.name = name or address
        ip = ip_address(address.partition("%")[0])
        self.address_key = (ip.version, ip.packed)

    def __repr__(self) -> str:
        return f"<Source {self.name} {self.kind.value} AS {self.asn}>"


@mypyc_attr(acyclic=True)  # compiled, it needs no room for the garbage collector
class Path:
    """One set of attributes from one source.

    `ineligible` is the reason why the decision process must not look at it, or None: such a path is
    stored all the same, because forgetting it would leave its predecessor alive. `path_id` is the
    path identifier it was received with (RFC 7911), 0 without add-path. `long_lived_stale` marks a
    path kept by long-lived graceful restart, the least preferred of all (RFC 9494 4.3).

    `rank` holds the steps of the decision that form a total order, best is lowest: whether it is eligible,
    long-lived staleness, local origin, LOCAL_PREF, AS_PATH length, ORIGIN. MED comes next and is no total
    order, so nothing behind it can be part of a key. It is 0 until `ranked` is called; most paths are never
    compared.
    """

    __slots__ = ("attributes", "ineligible", "long_lived_stale", "path_id", "rank", "source")

    def __init__(
        self,
        source: Source,
        attributes: AttributeSet,
        ineligible: str | None = None,
        path_id: int = 0,
        long_lived_stale: bool = False,
    ) -> None:
        self.source = source
        self.attributes = attributes
        self.ineligible = ineligible
        self.path_id = path_id
        self.long_lived_stale = long_lived_stale
        self.rank = 0

    def ranked(self) -> int:
        """`rank`, worked out when first asked for."""
        if not self.rank:
            attributes = self.attributes
            origin, as_path_length, local_pref = attributes.compared_first()
            rank = (
                _HIGHEST_LOCAL_PREF - (DEFAULT_LOCAL_PREF if local_pref < 0 else local_pref)
                << LOCAL_PREF_SHIFT
                | as_path_length << AS_PATH_SHIFT
                | origin << ORIGIN_SHIFT
            )
            rank |= _OUR_OWN if self.source.kind is SourceKind.LOCAL else _LEARNED
            if self.ineligible is not None:
                rank |= INELIGIBLE
            # Stale here, or marked so by the speaker it came from.
            if self.long_lived_stale or (
                attributes.present & _COMMUNITIES_BIT
                and attributes.raw.find(_LLGR_STALE_OCTETS) >= 0
                and attributes.has_community(_LLGR_STALE)
            ):
                rank |= 1 << STALE_SHIFT
            self.rank = rank
        return self.rank

    def __repr__(self) -> str:
        why = f" ineligible: {self.ineligible}" if self.ineligible else ""
        return f"<Path from {self.source.name}{why}>"


# The interior cost of a next hop (RFC 4271 9.1.2.2 e): lower is nearer, None is unreachable.
Cost = Callable[[bytes], int | None]
