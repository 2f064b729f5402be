"""What is there and cannot be read, and what is not to be done because of it.

What cannot be read counts as it was last; for whoever has just begun nothing was. Of most resources that
means one peer or one pool less. A BGPConfiguration that is taken for absent means another AS number and a
full mesh, and a BGPFilter that a peer names would let in and out what it is there to hold back: better to
wait for its repair, and leave everything as it stands. And a session that goes on from
before may be that of a peer that cannot be read (a later version declared it): it is not to be ended.
"""

from bgpd.datastore.store import Changes, Snapshot
from bgpd.resources import Key, ResourceSet

SETTINGS = frozenset({"BGPConfiguration", "CairnConfiguration"})
PEERS = frozenset({"BGPPeer", "Node"})
FILTER = "BGPFilter"


class UnreadSettings:
    """Those of one node, from the first snapshot on: what becomes unreadable later counts as it was."""

    def __init__(self, node: str | None) -> None:
        self._names = {"default", f"node.{node}"}
        self._reasons: dict[Key, str] = {}
        self._filters: set[str] = set()  # those that peers name

    def heard(self, news: Snapshot | Changes, resources: ResourceSet) -> None:
        """Take in an update; ``resources`` are what is known with it."""
        for invalid in news.invalid:
            key = invalid.key
            if key is None or not (key.kind in {*PEERS, FILTER} or self._is_setting(key)):
                continue
            if invalid.reason is None:
                self._reasons.pop(key, None)
            elif isinstance(news, Snapshot) or key in self._reasons:
                self._reasons[key] = invalid.reason
        self._reasons = {key: reason for key, reason in self._reasons.items() if key not in resources}
        if any(key.kind == FILTER for key in self._reasons):
            peers = resources.of_kind("BGPPeer").values()
            self._filters = {name for peer in peers for name in peer.spec.filters or ()}

    def _is_setting(self, key: Key) -> bool:
        return key.kind in SETTINGS and key.name in self._names

    @property
    def reason(self) -> str:
        """Why nothing can be planned; empty if something can."""
        return "; ".join(
            f"{reason}; nothing is done before it is repaired"
            for key, reason in self._reasons.items()
            if key.kind in SETTINGS or (key.kind == FILTER and key.name in self._filters)
        )

    @property
    def peers(self) -> bool:
        """Whether there may be peers that the plan does not have."""
        return any(key.kind in PEERS for key in self._reasons)
