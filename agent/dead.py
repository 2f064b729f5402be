"""Where nodes live, and where nothing lives any more.

Of a change of a Node that leaves its addresses as they are, which is nearly every one, nothing follows here.
"""

from collections.abc import Mapping, Set

from bgpd.resources import Node, ResourceSet
from bgpd.resources.resource_set import State, of_each_node

Addresses = Mapping[str, tuple[bytes, ...]]
"""The addresses of every node, by its name."""


class Leases:
    """Who is dead by the leases. Those that went while etcd was not heard, or together with this node's own,
    tell of etcd and of no death: their holders have the time of one (``ttl`` seconds) to take another, and
    until then nobody is dead.
    """

    def __init__(self, node: str, ttl: float) -> None:
        self.doubted = False
        self._node = node
        self._ttl = ttl
        self._seen: set[str] = set()  # alive, since they are declared
        self._trusted_at = 0.0

    def dead(self, resources: ResourceSet, current: bool, now: float) -> set[bytes]:
        """Addresses. ``current``: etcd is heard, and ``resources`` are what it has."""
        live = resources.live_nodes
        self._seen = (self._seen & resources.nodes.keys()) | live
        if not current or self._node in self._seen - live:
            self._trusted_at = now + self._ttl
        self.doubted = now < self._trusted_at
        return set() if self.doubted else addresses_of_the_dead(resources, self._seen)


def addresses_of(resources: ResourceSet) -> Addresses:
    """The same object for as long as no node comes or goes or has another address."""
    return resources.revised(_addresses, ("Node",))


def addresses_of_the_dead(resources: ResourceSet, seen_alive: Set[str]) -> set[bytes]:
    """Those of nodes that were alive and are not, unless one that is has the address by now (a node that was
    given another name).
    """
    addresses, live = addresses_of(resources), resources.live_nodes

    def of(names: Set[str]) -> set[bytes]:
        return {address for name in names for address in addresses.get(name, ())}

    dead = of(seen_alive - live)
    return dead - of(live) if dead else dead


def _addresses(
    resources: ResourceSet, last: Addresses | None, past: State | None, present: State
) -> Addresses:
    return of_each_node(resources, last, past, present, _of_one)


def _of_one(node: Node) -> tuple[bytes, ...]:
    return tuple([each.ip.packed for each in (node.ipv4, node.ipv6) if each is not None])
