"""Which nodes are reflectors when the cluster elects them, as a function of what is declared and who lives.

**Candidates** are the nodes of the cluster's AS that the declaration's ``nodeSelector`` finds, that have an
address and are no reflectors by hand. Those that hold a liveness lease come first; places that are left go to
the others. So somebody is elected while nobody has written a lease yet, a cluster whose reflectors are all
silent keeps what it knows, and leases that come one after the other (to another etcd, or one that lost them)
take the sessions from one reflector at a time.

**Order.** Every candidate has a score, a hash of its name alone (rendezvous hashing), so the outcome depends
on who is there, never on who came first. The best of every rack (``spreadLabel``; nodes without it are one
rack) come before the second-best of any, so reflectors spread as evenly as the racks allow. The first
``count`` of this order are elected, and never fewer than two: a single reflector could not be replaced
without a moment in which clients have none.

**Stability.** One node that joins, dies, moves to another rack or is labelled out of the candidates changes
at most one place of the outcome: with two or more elected every client keeps a session that is up while
another is made (make before break).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address

from bgpd.resources.cairn import ReflectorElection

FEWEST = 2


@dataclass(frozen=True, slots=True)
class Election:
    """Its outcome. ``elected`` is in the order of election and maps each node to the reason; ``candidates``
    are all, alive or not.
    """

    cluster_id: IPv4Address
    elected: Mapping[str, str]
    candidates: frozenset[str]


def elect(declared: ReflectorElection, candidates: Mapping[str, str], live: frozenset[str]) -> Election:
    """Elect among ``candidates``, the racks of the nodes that fit the declaration by name; ``live`` are the
    nodes with a lease.
    """
    ordered = _ordered((name, rack) for name, rack in candidates.items() if name in live)
    silent = _ordered((name, rack) for name, rack in candidates.items() if name not in live)
    count = max(declared.count, FEWEST)
    selected = (ordered + silent)[:count]
    among = f"{len(candidates)} candidates, {len(ordered) or 'none'} of which known to be alive"
    return Election(
        cluster_id=declared.cluster_id,
        elected={
            name: (
                f"elected reflector {place} of {len(selected)} among {among} "
                f"(nodeSelector {declared.node_selector}; {declared.spread_label} {rack or 'not set'})"
            )
            for place, (name, rack) in enumerate(selected, start=1)
        },
        candidates=frozenset(candidates),
    )


def _ordered(candidates: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put (name, rack) pairs in the order of election."""
    racks: dict[str, list[tuple[int, str]]] = {}
    for name, rack in candidates:
        racks.setdefault(rack, []).append((_score(name), name))
    placed = [
        (round_, score, name, rack)
        for rack, members in racks.items()
        for round_, (score, name) in enumerate(sorted(members))
    ]
    return [(name, rack) for _, _, name, rack in sorted(placed)]


@lru_cache(maxsize=10_000)
def _score(name: str) -> int:
    """Give a candidate's score; the lowest is best. Equal on every machine and in every version."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
