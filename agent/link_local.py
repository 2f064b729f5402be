"""Link-local next hops: which link they are on (RFC 2545 §3). Pure.

Where a router has no global address on a link, its IPv6 routes have a link-local next hop only, alone or
behind `::`. That says nothing without the link, and the only one it can be is the one by which the peer who
told it is reached. So the peer's address is kept behind it, in the place of the other half. (IPv6 routes are
told over IPv6 sessions.)
"""

from __future__ import annotations

from typing import Final

from bgpd.resources.scalars import IPAddress
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.update import Reach

_PREFIX: Final = b"\xfe\x80"
_NOWHERE: Final = bytes(16)


def beside(reach: Reach, peer: IPAddress) -> Reach:
    """What `peer` told; a next hop that is link-local alone is followed by the peer's address."""
    next_hop = reach.attributes.next_hop
    address = next_hop[16:] if next_hop.startswith(_NOWHERE) else next_hop[:16]
    if not address.startswith(_PREFIX):
        return reach
    return reach._replace(attributes=AttributeSet.of(reach.attributes.raw, address + peer.packed))


def teller(next_hop: bytes) -> bytes | None:
    """The address of the peer behind a link-local next hop, None for any other next hop."""
    if len(next_hop) != 32 or not next_hop.startswith(_PREFIX):
        return None
    return next_hop[16:]
