"""What is there and cannot be read, and what is not to be done because of it.

What cannot be read counts as it was last; for whoever has just begun nothing was. Some of it is better
waited for, and everything left as it stands: without a BGPConfiguration a node is of another AS and in a full
mesh; without a BGPFilter that a peer names, or an IPPool, what they hold back goes in and out and packets
leave their tunnels; without a BlockAffinity of its own a node withdraws the block. Of other resources it
means one peer or workload less. But a session or a route that is there from before may be theirs, and is not
to be ended.
"""

from bgpd.datastore.interests import Interests
from bgpd.datastore.store import Changes, Snapshot
from bgpd.resources import Key, ResourceSet

SETTINGS = frozenset({"BGPConfiguration", "CairnConfiguration"})
POOL, FILTER = "IPPool", "BGPFilter"
PEERS = frozenset({"BGPPeer", "Node"})
AFFINITY, WORKLOAD = "BlockAffinity", "WorkloadEndpoint"
AWAITED = SETTINGS | {POOL, FILTER, AFFINITY}
_KINDS = AWAITED | PEERS | {WORKLOAD}


class UnreadSettings:
    """Those of one node, from the first snapshot on: what becomes unreadable later counts as it was.

    Only a filter that never could be read is waited for also where a peer comes to name it later.
    """

    def __init__(self, node: str | None) -> None:
        self._names = {"default", f"node.{node}"}
        self._own = Interests(_KINDS, node or "")
        self._reasons: dict[Key, str] = {}
        self._filters: set[str] = set()  # those that peers name

    def heard(self, news: Snapshot | Changes, resources: ResourceSet) -> None:
        """Take in an update; ``resources`` are what is known with it."""
        for invalid in news.invalid:
            key = invalid.key
            if key is None or not self._own.wants(key):
                continue
            if invalid.reason is None:
                self._reasons.pop(key, None)
            elif isinstance(news, Snapshot) or key in self._reasons or key.kind == FILTER:
                self._reasons[key] = invalid.reason
        self._reasons = {key: reason for key, reason in self._reasons.items() if key not in resources}
        if any(key.kind == FILTER for key in self._reasons):
            peers = resources.of_kind("BGPPeer").values()
            self._filters = {name for peer in peers for name in peer.spec.filters or ()}

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
    def routes(self) -> bool:
        """Whether there may be routes that the plan does not have."""
        return self.peers or any(key.kind == WORKLOAD for key in self._reasons)
