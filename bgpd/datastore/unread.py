"""What is there and cannot be read, and what is not to be done because of it.

What cannot be read counts as it was last; for whoever has just begun nothing was. Some of it is better
waited for, and everything left as it stands: without a BGPConfiguration a node is of another AS and in a full
mesh; without a BGPFilter that a peer names, or an IPPool, what they hold back goes in and out and packets
leave their tunnels; without a BlockAffinity of its own a node withdraws the block. Of other resources it
means one peer or workload less. But a session or a route that is there from before may be theirs, and is not
to be ended.
"""

from itertools import chain

from bgpd.datastore.interests import Interests
from bgpd.datastore.store import Changes, Snapshot
from bgpd.resources import Key, Resource, ResourceSet
from bgpd.resources.scalars import within

SETTINGS = frozenset({"BGPConfiguration", "CairnConfiguration"})
POOL, FILTER = "IPPool", "BGPFilter"
PEERS = frozenset({"BGPPeer", "Node"})
AFFINITY, WORKLOAD = "BlockAffinity", "WorkloadEndpoint"
AWAITED = SETTINGS | {POOL, FILTER, AFFINITY}
_KINDS = AWAITED | PEERS | {WORKLOAD}


class Unread:
    """That of one node, from the first snapshot on: what becomes unreadable later counts as it was.

    A filter may also come unreadable, and be named later: then each peer that names it counts as it was
    before (see `planned`), and nothing else has to wait. So may a pool. What this node has in none that can
    be read may be in that one: such a block or workload counts as before, and one that comes waits.
    """

    def __init__(self, node: str | None) -> None:
        self._names = {"default", f"node.{node}"}
        self._own = Interests(_KINDS, node or "")
        self._reasons: dict[Key, str] = {}
        self._planned = ResourceSet.of()  # the last time
        self._withheld: dict[Key, Resource | None] = {}  # what waits → as it was, if it was
        self._filters: set[str] = set()  # those that they name

    def heard(self, news: Snapshot | Changes, resources: ResourceSet) -> None:
        """Take in an update; ``resources`` are what is known with it."""
        for invalid in news.invalid:
            key = invalid.key
            if key is None or not self._own.wants(key):
                continue
            if invalid.reason is None:
                self._reasons.pop(key, None)
            elif isinstance(news, Snapshot) or key in self._reasons or key.kind in (FILTER, POOL):
                self._reasons[key] = invalid.reason
        self._reasons = {key: reason for key, reason in self._reasons.items() if key not in resources}
        waiting = [*self._peers_waiting(resources), *self._claims_waiting(resources)]
        self._withheld = {key: self._planned.get(key) for key in waiting}
        self._planned = self.planned(resources)

    def _peers_waiting(self, resources: ResourceSet) -> list[Key]:
        filters = {key.name for key in self._reasons if key.kind == FILTER}
        named: dict[Key, set[str]] = {}
        for key, peer in resources.of_kind("BGPPeer").items() if filters else ():
            if names := filters.intersection(peer.spec.filters or ()):
                named[key] = names
        self._filters = set().union(*named.values())
        return list(named)

    def _claims_waiting(self, resources: ResourceSet) -> list[Key]:
        if not any(key.kind == POOL for key in self._reasons):
            return []
        pools = [pool.spec.cidr for pool in resources.pools]
        blocks = ((key, (each.spec.cidr,)) for key, each in resources.of_kind(AFFINITY).items())
        workloads = ((key, each.spec.ip_networks or ()) for key, each in resources.of_kind(WORKLOAD).items())
        return [
            key
            for key, has in chain(blocks, workloads)
            if not all(any(within(each, pool) for pool in pools) for each in has)
        ]

    def planned(self, resources: ResourceSet) -> ResourceSet:
        """What is to be planned of what is known: no peer comes without the filters it names, and nothing
        into a pool that may hold it back.
        """
        return resources.with_changes(self._withheld) if self._withheld else resources

    def _is_awaited(self, key: Key) -> bool:
        if key.kind in SETTINGS:
            return key.name in self._names
        return key.kind in AWAITED and (key.kind != FILTER or key.name in self._filters)

    @property
    def reason(self) -> str:
        """Why nothing can be planned; empty if something can."""
        return self._told(frozenset())

    @property
    def reason_of_any(self) -> str:
        """The same for who can leave nothing alone: another configuration of BIRD is the whole of it."""
        return self._told(PEERS | {WORKLOAD})

    def _told(self, kinds: frozenset[str]) -> str:
        return "; ".join(
            f"{reason}; nothing is done before it is repaired"
            for key, reason in self._reasons.items()
            if key.kind in kinds or self._is_awaited(key)
        )

    @property
    def peers(self) -> bool:
        """Whether there may be peers that the plan does not have."""
        return any(key.kind in PEERS for key in self._reasons)

    @property
    def workloads(self) -> bool:
        """Whether there may be workloads of the node that the plan does not have."""
        return any(key.kind == WORKLOAD for key in self._reasons)

    @property
    def routes(self) -> bool:
        """Whether there may be routes that the plan does not have."""
        return self.peers or self.workloads
