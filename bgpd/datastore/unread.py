"""What is there and cannot be read, and what is not to be done because of it.

What cannot be read counts as it was last; for whoever has just begun nothing was. Some of it is better
waited for, and everything left as it stands: without a BGPConfiguration a node is of another AS and in a full
mesh; without a BGPFilter that a peer names, or an IPPool, what they hold back goes in and out and packets
leave their tunnels; without a BlockAffinity of its own a node withdraws the block. Of other resources it
means one peer or workload less. But a session or a route that is there from before may be theirs, and is not
to be ended.
"""

from collections.abc import Mapping

from bgpd.datastore.interests import Interests
from bgpd.datastore.store import Changes, Snapshot
from bgpd.resources import BGPPeer, Key, ResourceSet

SETTINGS = frozenset({"BGPConfiguration", "CairnConfiguration"})
POOL, FILTER = "IPPool", "BGPFilter"
PEERS = frozenset({"BGPPeer", "Node"})
AFFINITY, WORKLOAD = "BlockAffinity", "WorkloadEndpoint"
AWAITED = SETTINGS | {POOL, FILTER, AFFINITY}
_KINDS = AWAITED | PEERS | {WORKLOAD}


class Unread:
    """That of one node, from the first snapshot on: what becomes unreadable later counts as it was.

    A filter may also come unreadable, and be named later: then each peer that names it counts as it was
    before (see `planned`), and nothing else has to wait.
    """

    def __init__(self, node: str | None) -> None:
        self._names = {"default", f"node.{node}"}
        self._own = Interests(_KINDS, node or "")
        self._reasons: dict[Key, str] = {}
        self._peers: Mapping[Key, BGPPeer] = {}  # as they last were without such a filter
        self._withheld: dict[Key, BGPPeer | None] = {}  # those that name one → as they were, if they were
        self._filters: set[str] = set()  # those that they name

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
        self._withhold(resources.of_kind("BGPPeer"))

    def _withhold(self, peers: Mapping[Key, BGPPeer]) -> None:
        filters = {key.name for key in self._reasons if key.kind == FILTER}
        named: dict[Key, set[str]] = {}
        for key, peer in peers.items() if filters else ():
            if names := filters.intersection(peer.spec.filters or ()):
                named[key] = names
        self._filters = set().union(*named.values())
        self._withheld = {key: self._peers.get(key) for key in named}
        kept = {key: peer for key, peer in self._withheld.items() if peer is not None}
        self._peers = (
            {key: peer for key, peer in peers.items() if key not in named} | kept if named else peers
        )

    def planned(self, resources: ResourceSet) -> ResourceSet:
        """What is to be planned of what is known: no peer is set up without the filters it names."""
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
