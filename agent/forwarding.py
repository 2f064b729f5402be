"""From routes to forwarding: what the kernel shall have, kept up to date change by change.

Three kinds of routes meet here. The node's *own*: workloads behind their interfaces, blackholes for its
address blocks, so that an unassigned address does not follow the default route out again, and the ways to
peers behind a declared gateway (``reachableBy``). The *learned*: the
best paths of the Loc-RIB, their next hops resolved, several of them as ECMP. An own route stands before a
learned one of the same prefix, except where the learned one carries a lower MED: that is how the newer of
two owners of one address says so (see ``plan``; a router's own MEDs are far below those). The older one
is then `superseded` and not to be announced either: a router of another AS compares path lengths before MED,
and would send it back here for ever. The newer one's is `disputed`: to be announced by itself even inside a
block of this node's own.

An address that has left goes on being delivered here for `LINGER` seconds, while its interface exists, unless
its new node is reached directly: until the routers between have heard, they would send every packet back.

A learned route's *priority* becomes its metric where it is not the ordinary one: set by an import filter here
or by the node that announced it (``setPriority``), it is what LOCAL_PREF says (see ``plan.policy``). Small
values of LOCAL_PREF, and the largest, are a router's own scale and no priorities.

`Encapsulation` decides whether packets to a next hop travel in a tunnel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple, Protocol

from agent.kernel.fib import Fib
from agent.kernel.route import BLACKHOLE, Hop, KernelRoute, unicast
from agent.learned import Learned
from bgpd.plan import differing
from bgpd.plan.model import NodePlan, OriginKind, WorkloadRoute
from bgpd.plan.policy import PRIORITIES, priority_of
from bgpd.plan.routes import is_age
from bgpd.rib.changes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of, prefix_of

AF = {IPV4_UNICAST: int(socket.AF_INET), IPV6_UNICAST: int(socket.AF_INET6)}
FAMILY = {af: family for family, af in AF.items()}
LINGER = 0.3  # seconds
_MANY = 1000  # next hops, which are resolved within a tenth of a second
_FEW = 500  # routes that a peer tells at once, and that do not wait behind another's table
_ROUNDS = 4  # of decisions that change the ways by which next hops are reached, and with them decisions
Later = Callable[[float, Callable[[], None]], object]  # call something in so many seconds


def family_of(prefix: IPv4Network | IPv6Network) -> Family:
    return IPV4_UNICAST if prefix.version == 4 else IPV6_UNICAST


def _key(prefix: IPv4Network | IPv6Network) -> tuple[Family, bytes]:
    return family_of(prefix), nlri_of(prefix)


def _leads_to(rib: LocRib, nlri: bytes, next_hops: Set[bytes]) -> bool:
    """Whether any path of a prefix, best or not, is by way of one of them."""
    return any(path.attributes.next_hop in next_hops for path in rib.candidates(nlri))


class Own(NamedTuple):
    """A route of this node itself: behind an interface, by way of a ``gateway``, or with neither a
    blackhole. ``elsewhere``: another program delivers it here (services), or the kernel (an end of a tunnel),
    and no learned route may take it.
    """

    interface: str
    med: int | None = None
    gateway: bytes = b""
    elsewhere: bool = False


class Encapsulation(Protocol):
    """Where packets to a prefix by way of a next hop go, if they do not go straight."""

    def hop(self, family: Family, nlri: bytes, next_hop: bytes) -> Hop | None: ...

    def doubtful(self, family: Family, nlri: bytes, next_hop: bytes) -> bool: ...


class Forwarding:
    """Declares to `fib` what follows from `learned`, the plan and the node's links."""

    def __init__(self, fib: Fib, learned: Learned, encapsulation: Encapsulation, later: Later) -> None:
        self.fib = fib
        self.learned = learned
        self.encapsulation = encapsulation
        self._own: dict[tuple[Family, bytes], Own] = {}
        self._planned: tuple[WorkloadRoute, ...] = ()
        self._workloads: dict[tuple[Family, bytes], Own] = {}  # as planned; a way to a peer goes before
        self._others: dict[tuple[Family, bytes], Own] = {}  # own routes that lead to no workload
        self._waiting: set[tuple[Family, bytes]] = set()  # own routes whose interface is not there (yet)
        self._superseded: set[tuple[Family, bytes]] = set()  # own addresses that a newer owner announces
        self._disputed: dict[tuple[Family, bytes], bytes] = {}  # own, but others announced them → next hop
        self._later = later
        self._delivered: dict[tuple[Family, bytes], str] = {}  # own addresses → interface
        self._lingering: dict[tuple[Family, bytes], str] = {}  # own until a moment ago → interface
        self._routes: dict[tuple[bytes, ...], KernelRoute | None] = {}
        self._asked = 0  # how many next hops there were when all were resolved anew

    # own routes

    def own(self, plan: NodePlan, parting: Collection[str] = ()) -> None:
        """The node's own routes are now those of the plan. The ways to peers it is ``parting`` from stay."""
        gone, come = differing(self._planned, plan.workloads)
        others = self._no_workloads(plan, parting)
        left = {_key(workload.prefix) for workload in gone}
        workloads = {_key(each.prefix): Own(each.interface, each.med) for each in come}
        touched = left | workloads.keys() | others.keys() | self._others.keys()
        for key in left - workloads.keys():
            del self._workloads[key]
        self._workloads |= workloads
        self._planned, self._others = plan.workloads, others
        former = {key: self._own.pop(key, None) for key in touched}
        self._own |= {key: own for key in touched if (own := self._own_route(key)) is not None}
        moved = False
        for (family, nlri), was in former.items():
            now = self._own.get((family, nlri))
            if was != now:
                if (was and was.gateway) or (now and now.gateway):  # next hops may lead by way of it
                    moved = self.fib.resolver.learned_changed(AF[family], nlri) or moved
                self._declare(family, nlri)
        if moved:
            self.resolved_anew()

    def _own_route(self, key: tuple[Family, bytes]) -> Own | None:
        """The way to a peer comes first, then a workload, then what leads nowhere or elsewhere."""
        other = self._others.get(key)
        return other if other is not None and other.gateway else self._workloads.get(key, other)

    def _no_workloads(self, plan: NodePlan, parting: Collection[str]) -> dict[tuple[Family, bytes], Own]:
        """Own routes that lead to no workload."""
        found = {_key(blackhole.prefix): Own("") for blackhole in plan.blackholes}
        for route in plan.originated:
            if route.kind in (OriginKind.SERVICE, OriginKind.STATIC, OriginKind.TUNNEL):
                found.setdefault(_key(route.prefix), Own("", elsewhere=True))
        for peering in plan.peerings:
            if peering.reachable_by is not None:
                found[_key(ip_network(peering.peer_address))] = Own("", gateway=peering.reachable_by.packed)
        for (family, nlri), own in self._others.items():
            if own.gateway and str(prefix_of(nlri, family).network_address) in parting:
                found.setdefault((family, nlri), own)
        return found

    # learned routes

    def changed(self, changes: Mapping[Family, Changes]) -> None:
        """The Loc-RIB changed."""
        resolver = self.fib.resolver
        moved = False
        fresh = sum(len(prefixes) for change in changes.values() for _, prefixes, _ in change.fresh)
        soon = fresh + sum(len(change.moved) for change in changes.values()) <= _FEW
        for family, change in changes.items():
            for _path, prefixes, _raw in change.fresh:
                for nlri in prefixes:
                    moved = resolver.learned_changed(AF[family], nlri) or moved
                    self._declare(family, nlri, soon=soon)
            for nlri in change.moved:
                moved = resolver.learned_changed(AF[family], nlri) or moved
                self._declare(family, nlri, soon=soon)
        if moved:
            self.resolved_anew()

    def links_changed(self, moved: Set[bytes]) -> None:
        """These next hops lead elsewhere now, and interfaces may have come or gone."""
        if self.fib.resolver.asked > 2 * self._asked + _MANY:  # most of them are nobody's any more
            self.resolved_anew()
        elif moved:
            self._routes = {hops: route for hops, route in self._routes.items() if moved.isdisjoint(hops)}
            for rib in self.learned.ribs.values():
                rib.reconsider([nlri for nlri in rib.prefixes() if _leads_to(rib, nlri, moved)])
            self.changed(self.learned.take_changes())
        for family, nlri in (*self._own, *self._lingering):
            self._declare(family, nlri)

    def resolved_anew(self) -> None:
        """Any next hop may lead elsewhere: everything is declared again."""
        self._routes.clear()
        self.fib.resolver.forget()
        gone: dict[Family, set[bytes]] = {}
        for family, rib in self.learned.ribs.items():
            pending = rib.take_changes()
            gone[family] = {*pending.moved, *(nlri for _, prefixes, _ in pending.fresh for nlri in prefixes)}
            for nlri in gone[family]:
                self.fib.resolver.learned_changed(AF[family], nlri)
        for _ in range(_ROUNDS):
            moved = False
            for family, rib in self.learned.ribs.items():
                rib.reconsider()
                for nlri, before in rib.take_changes().moved.items():
                    if before is not rib.best.get(nlri):
                        gone[family].add(nlri)
                        moved = self.fib.resolver.learned_changed(AF[family], nlri) or moved
            if not moved:
                break
        for family, rib in self.learned.ribs.items():
            for nlri in gone[family].union(rib.prefixes()):
                self._declare(family, nlri)
        for family, nlri in self._own:
            self._declare(family, nlri)
        self._asked = self.fib.resolver.asked

    def hops_of(self, af: int, nlri: bytes) -> tuple[bytes, ...] | None:
        """For the resolver: the next hops of a learned prefix, if it is one."""
        family = FAMILY[af]
        if (own := self._own.get((family, nlri))) is not None:
            return (own.gateway,) if own.gateway else None
        if nlri not in self.learned.ribs[family].best:
            return None
        return self.learned.next_hops(family, nlri)

    # what follows

    def _declare(self, family: Family, nlri: bytes, *, soon: bool = False) -> None:
        own = self._own.get((family, nlri))
        route: KernelRoute | None
        metric = None
        superseded = own is not None and self._newer_elsewhere(family, nlri, own)
        (self._superseded.add if superseded else self._superseded.discard)((family, nlri))
        if own is None:
            self._disputed.pop((family, nlri), None)
        elif own.interface and (rival := self.learned.ribs[family].best.get(nlri)) is not None:
            self._disputed[family, nlri] = rival.attributes.next_hop
        if own is not None and own.elsewhere:
            route = None
        elif own is not None and own.gateway:
            route = self._route(self.fib.resolver.resolve(own.gateway))
        elif own is not None and not superseded:
            route = BLACKHOLE if not own.interface else self.fib.workload(own.interface)
            if route is None:
                self._waiting.add((family, nlri))
            else:
                self._waiting.discard((family, nlri))
            if own.interface:
                self._delivered[family, nlri] = own.interface
                self._lingering.pop((family, nlri), None)
        else:
            self._waiting.discard((family, nlri))
            route = self._lingering_route(family, nlri)
            if route is None:
                route = self._learned_route(family, nlri)
                metric = self._metric(family, nlri)
        self.fib.want(AF[family], nlri, route, metric, soon=soon or own is not None)

    def _lingering_route(self, family: Family, nlri: bytes) -> KernelRoute | None:
        """The way to an address that was this node's own until a moment ago, while it is still to be used."""
        interface = self._delivered.pop((family, nlri), None)
        if interface is not None and not self._reached_directly(family, nlri):
            self._lingering[family, nlri] = interface
            self._later(LINGER, partial(self._lingered, family, nlri))
        interface = self._lingering.get((family, nlri))
        return self.fib.workload(interface) if interface is not None else None

    def _lingered(self, family: Family, nlri: bytes) -> None:
        if self._lingering.pop((family, nlri), None) is not None:
            self._declare(family, nlri)

    def _reached_directly(self, family: Family, nlri: bytes) -> bool:
        """Whether there is a learned way that leads through no other router."""
        if nlri not in self.learned.ribs[family].best:
            return False
        return all(
            self.encapsulation.hop(family, nlri, next_hop)
            or all(hop.gateway == next_hop[:16] for hop in self.fib.resolver.resolve(next_hop))
            for next_hop in self.learned.next_hops(family, nlri)
        )

    def _newer_elsewhere(self, family: Family, nlri: bytes, own: Own) -> bool:
        best = self.learned.ribs[family].best.get(nlri)
        return (
            best is not None
            and bool(own.interface)
            and own.med is not None
            and best.attributes.med is not None
            and is_age(best.attributes.med)
            and best.attributes.med < own.med
        )

    def _learned_route(self, family: Family, nlri: bytes) -> KernelRoute | None:
        if nlri not in self.learned.ribs[family].best:
            return None
        next_hops = self.learned.next_hops(family, nlri)
        if any(self.encapsulation.doubtful(family, nlri, next_hop) for next_hop in next_hops):
            return None
        tunnelled = [self.encapsulation.hop(family, nlri, next_hop) for next_hop in next_hops]
        if any(tunnelled):
            return self._route(
                hop
                for next_hop, tunnel in zip(next_hops, tunnelled, strict=True)
                for hop in ((tunnel,) if tunnel else self.fib.resolver.resolve(next_hop))
            )
        if next_hops not in self._routes:
            self._routes[next_hops] = self._route(
                hop for next_hop in next_hops for hop in self.fib.resolver.resolve(next_hop)
            )
        return self._routes[next_hops]

    def _metric(self, family: Family, nlri: bytes) -> int | None:
        best = self.learned.ribs[family].best.get(nlri)
        local_pref = best.attributes.local_pref if best is not None else None
        if local_pref is None or local_pref not in PRIORITIES:
            return None
        normal = self.learned.bounds.normal_priority[family != IPV4_UNICAST]
        priority = priority_of(local_pref, normal)
        return None if priority == normal else priority

    def _route(self, hops: Iterable[Hop]) -> KernelRoute | None:
        found = tuple(hops)
        return unicast(*found) if found else None

    @property
    def superseded(self) -> frozenset[str]:
        """This node's own addresses, as prefixes, that belong to another node by now."""
        return frozenset(str(prefix_of(nlri, family)) for family, nlri in self._superseded)

    @property
    def disputed(self) -> frozenset[str]:
        """This node's own addresses that another node has announced too, until they are `settle`d: the other
        stands back, and were the dispute over with that, it would come forward again.
        """
        return frozenset(str(prefix_of(nlri, family)) for family, nlri in self._disputed)

    def silent_rivals(self) -> dict[str, bytes]:
        """What is `disputed`, but announced by nobody else any more → the next hop of who did."""
        return {
            str(prefix_of(nlri, family)): next_hop
            for (family, nlri), next_hop in self._disputed.items()
            if nlri not in self.learned.ribs[family].best
        }

    def settle(self, prefix: str) -> bool:
        """The other has given its claim up; False if it has come forward again meanwhile."""
        network = ip_network(prefix)
        family, nlri = family_of(network), nlri_of(network)
        if nlri in self.learned.ribs[family].best:
            return False
        return self._disputed.pop((family, nlri), None) is not None

    @property
    def waiting(self) -> int:
        """Workloads whose interface does not exist or is down."""
        return len(self._waiting)
