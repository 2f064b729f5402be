"""Whether an address that two nodes claimed is still claimed by both.

Of two owners the newer announces the address by itself, inside a block of its own too, and the older
stands back (see ``forwarding``). So the older's silence does not tell whether it has given up, and a workload
that only moved here would be a host route for ever. The one who knows is the datastore: when the other has
fallen silent, its endpoints are read, once after a second and then ever more rarely while the claim stands.

Left out: who wins (``forwarding``), and watching other nodes' endpoints, of which there may be very many.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import NamedTuple

from agent.forwarding import Forwarding
from bgpd.datastore import Datastore, DatastoreError, Interests
from bgpd.resources.node import Node
from bgpd.resources.workload_endpoint import WorkloadEndpoint

_FIRST, _LONGEST = 1.0, 3600.0  # seconds between two questions about one address
_KINDS = frozenset({WorkloadEndpoint.KIND})


class _Question(NamedTuple):
    due: float
    wait: float  # until the next, if the answer is that the claim stands


class Disputes:
    """What was asked about each address, and when to ask again. Times are the caller's, in seconds."""

    def __init__(self, store: Datastore, forwarding: Forwarding, node: str) -> None:
        self._store = store
        self._forwarding = forwarding
        self._node = node
        self._questions: dict[str, _Question] = {}

    async def look(self, nodes: Mapping[str, Node], now: float) -> bool:
        """Ask what is due; True if a dispute turned out to be over."""
        silent = self._forwarding.silent_rivals()
        self._questions = {
            prefix: self._questions.get(prefix, _Question(now + _FIRST, _FIRST)) for prefix in silent
        }
        over = False
        for prefix, (due, wait) in list(self._questions.items()):
            if now < due:
                continue
            self._questions[prefix] = _Question(now + wait, min(wait * 2, _LONGEST))
            try:
                claimed = await self._claimed(prefix, _node_at(silent[prefix], nodes))
            except DatastoreError:
                continue  # nothing is settled by what cannot be asked
            if not claimed:
                over = self._forwarding.settle(prefix) or over
        return over

    async def _claimed(self, prefix: str, node: str | None) -> bool:
        """Whether an endpoint of that node, of any other if it is unknown, has this address."""
        address = ip_network(prefix)
        found = await self._store.list(Interests(_KINDS, node))
        return any(
            address in (endpoint.spec.ip_networks or ())
            for endpoint in (entry.resource for entry in found.entries)
            if isinstance(endpoint, WorkloadEndpoint) and endpoint.node != self._node
        )


def _node_at(next_hop: bytes, nodes: Mapping[str, Node]) -> str | None:
    for name, node in nodes.items():
        for interface in (node.ipv4, node.ipv6):
            if interface is not None and interface.ip.packed == next_hop[:16]:
                return name
    return None
