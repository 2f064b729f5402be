"""Which next hops are reached through a tunnel.

`NoTunnels` is the routed case, in which packets travel as they are.
"""

from __future__ import annotations

from agent.kernel.netlink import Links
from agent.kernel.route import Hop
from bgpd.wire.nlri import Family


class NoTunnels:
    """Every next hop is reached straight."""

    def hop(self, family: Family, nlri: bytes, next_hop: bytes) -> Hop | None:
        return None

    def links_changed(self, links: Links) -> None: ...
