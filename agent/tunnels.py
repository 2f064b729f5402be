"""Which next hops are reached through a tunnel, and where that tunnel ends.

A pool with `vxlanMode` sends packets between nodes through VXLAN: always, or (CrossSubnet) only to nodes
outside this node's own subnet. The route then leads to the far node's tunnel address on the VXLAN device,
"onlink" because no address of ours says it is there; who that is, and where, the agent writes down in the
device's neighbour and forwarding entries (see ``kernel.vxlan``), so nothing is ever flooded or learned.

A node without a tunnel address of its own announces its ordinary address as one: it only has to be unique
on the device, and so no address needs to be taken from a pool. For IPv6 the route leads to the link-local
address of the far device's MAC instead: the kernel takes no gateway that another device has a route to.

With `ipipMode` the route leads to the far node's ordinary address on the IPIP device, where the kernel has
one (see ``kernel.ipip``); only to nodes that declare an end, for a router would not understand the packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from hashlib import sha1
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyroute2.netlink.exceptions import NetlinkError

from agent.kernel import ipip, vxlan
from agent.kernel.route import Hop
from agent.kernel.vxlan import DEVICES, Far, Wanted
from bgpd.plan.model import Encapsulation, NodePlan, PoolPlan, TunnelEnd
from bgpd.wire.nlri import IPV4_UNICAST, Family


def mac_of(node: str) -> str:
    """The VXLAN device's MAC of a node that declares none: derived from its name, as Calico does."""
    digest = sha1(node.encode(), usedforsecurity=False).digest()
    return ":".join(f"{octet:02x}" for octet in (ord("f"), *digest[:5]))


def link_local(mac: str) -> IPv6Address:
    """The address a device with this MAC gives itself (RFC 4291 appendix A)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:])))


def _inside(end: TunnelEnd) -> IPv4Address | IPv6Address:
    """What routes to a node behind VXLAN lead to."""
    return end.tunnel_address if end.underlay.version == 4 else link_local(end.mac or mac_of(end.node))


class Tunnels:
    """The tunnels of this node, as of the last plan and the links there are."""

    def __init__(self) -> None:
        self.unread = False  # there may be nodes that the plan does not have
        self._plan: NodePlan | None = None
        self._pools: dict[int, list[PoolPlan]] = {4: [], 6: []}
        self._ends: dict[bytes, IPv4Address | IPv6Address] = {}
        self._present: set[int] = set()
        self._devices: dict[int, int] = {}  # those that carry packets
        self._ipip: int | None = None
        self._nodes: frozenset[bytes] = frozenset()  # who has an IPIP end

    def planned(self, plan: NodePlan) -> bool:
        """Take a new plan in. True if next hops may be reached otherwise than before."""
        pools: dict[int, list[PoolPlan]] = {4: [], 6: []}
        for pool in sorted(plan.pools, key=lambda pool: -pool.cidr.prefixlen):
            pools[pool.cidr.version].append(pool)
        for version, known in pools.items():
            if all(pool.encapsulation is Encapsulation.NONE for pool in known):
                pools[version] = []
        ends = {
            end.underlay.packed: _inside(end)
            for end in plan.tunnel_ends
            if end.encapsulation is Encapsulation.VXLAN
        }
        nodes = frozenset(
            end.underlay.packed for end in plan.tunnel_ends if end.encapsulation is Encapsulation.IPIP
        )
        before = self._plan
        own = (plan.ipv4, plan.ipv6, plan.near_ends)
        changed = (pools, ends, nodes) != (self._pools, self._ends, self._nodes) or (
            before is not None and (before.ipv4, before.ipv6, before.near_ends) != own
        )
        self._plan, self._pools, self._ends, self._nodes = plan, pools, ends, nodes
        return changed

    @property
    def versions(self) -> frozenset[int]:
        """The IP versions some pool of which travels in VXLAN."""
        return frozenset(
            pool.cidr.version
            for pools in self._pools.values()
            for pool in pools
            if pool.encapsulation is Encapsulation.VXLAN
        )

    def wanted_ipip(self) -> tuple[str, str] | None:
        """The near end of the IPIP device this node shall have, outside and inside, if any."""
        if self._plan is None or not any(pool.encapsulation is Encapsulation.IPIP for pool in self._pools[4]):
            return None
        address, near = self._plan.address(4), self._near(Encapsulation.IPIP, 4)
        return None if address is None else (str(address), str(near.tunnel_address if near else address))

    def _near(self, encapsulation: Encapsulation, version: int) -> TunnelEnd | None:
        """This node's own end as it is declared, if it is."""
        ends = self._plan.near_ends if self._plan is not None else ()
        return next(
            (end for end in ends if (end.encapsulation, end.underlay.version) == (encapsulation, version)),
            None,
        )

    def links_changed(self, indexes: dict[str, int], up: Iterable[int]) -> bool:
        """True if a device that there was is not there any more."""
        before, usable = self._present, set(up)
        self._present = {indexes[name] for name in (*DEVICES.values(), ipip.DEVICE) if name in indexes}
        self._devices = {
            version: indexes[name]
            for version, name in DEVICES.items()
            if name in indexes and indexes[name] in usable
        }
        index = indexes.get(ipip.DEVICE)
        self._ipip = index if index in usable else None
        return not before <= self._present

    @property
    def carrying(self) -> tuple[dict[int, int], int | None]:
        """The devices by way of which packets go at present."""
        return self._devices, self._ipip

    def has(self, index: int) -> bool:
        """Whether that is one of the devices, up or down."""
        return index in self._present

    def wanted(self) -> list[Wanted]:
        """The devices this node shall have, with everybody who is behind them."""
        plan = self._plan
        if plan is None:
            return []
        return [
            Wanted(
                version,
                str(address),
                str(near.tunnel_address if near else address),
                (near and near.mac) or mac_of(plan.node),
                tuple(
                    Far(str(_inside(end)), end.mac or mac_of(end.node), str(end.underlay))
                    for end in plan.tunnel_ends
                    if end.encapsulation is Encapsulation.VXLAN and end.underlay.version == version
                ),
            )
            for version in sorted(self.versions)
            for near in (self._near(Encapsulation.VXLAN, version),)
            if (address := plan.address(version)) is not None
        ]

    def hop(self, family: Family, nlri: bytes, next_hop: bytes) -> Hop | None:
        """The way through a tunnel to a prefix, or None if packets go straight."""
        pool = self._pool_of(family, nlri, next_hop)
        return None if pool is None else self._through(pool, pool.cidr.version, next_hop[:16])

    def doubtful(self, family: Family, nlri: bytes, next_hop: bytes) -> bool:
        """Whether a tunnel that cannot be read may lead to a prefix: packets are not to go straight then."""
        pool = self._pool_of(family, nlri, next_hop) if self.unread else None
        return pool is not None and next_hop[:16] not in (
            self._nodes if pool.encapsulation is Encapsulation.IPIP else self._ends
        )

    def _pool_of(self, family: Family, nlri: bytes, next_hop: bytes) -> PoolPlan | None:
        """The pool whose packets to a prefix go through a tunnel; of several the inmost counts."""
        version = 4 if family == IPV4_UNICAST else 6
        pools = self._pools[version]
        if not pools or self._plan is None:
            return None
        bits = 32 if version == 4 else 128
        value = int.from_bytes(nlri[1:], "big") << bits - 8 * (len(nlri) - 1)
        for pool in pools:
            cidr = pool.cidr
            if nlri[0] >= cidr.prefixlen and value & int(cidr.netmask) == int(cidr.network_address):
                if pool.encapsulation is Encapsulation.NONE:
                    return None
                direct = pool.cross_subnet and self._plan.is_direct(ip_address(next_hop[:16]))
                return None if direct else pool
        return None

    def _through(self, pool: PoolPlan, version: int, next_hop: bytes) -> Hop | None:
        if pool.encapsulation is Encapsulation.IPIP:
            if self._ipip is None or len(next_hop) != 4 or next_hop not in self._nodes:
                return None
            return Hop(next_hop, self._ipip, onlink=True)
        device, far = self._devices.get(version), self._ends.get(next_hop)
        return None if device is None or far is None else Hop(far.packed, device, onlink=version == 4)


async def set_up(devices: list[Wanted], ipip_ends: tuple[str, str] | None) -> set[str]:
    """Have these VXLAN devices, this IPIP device, and no others of ours. Gives why some cannot be had."""
    reasons = set()
    for make in (partial(vxlan.ensure, devices), partial(ipip.ensure, *(ipip_ends or (None, None)))):
        try:
            await make()
        except (NetlinkError, OSError) as error:
            reasons.add(str(error))
    return reasons
