"""The decision process: which of a prefix's paths is best (RFC 4271 9.1.2.2, RFC 4456 9, RFC 9494 4.3).

Paths are *eliminated* step by step. A sort key would be wrong: MED is compared only between paths of
the same neighbouring AS, so "better" is not transitive and the winner of pairwise comparisons can
depend on their order. The steps before MED do form a total order (`Path.rank`), and nearly every
choice ends there.

Left out: comparing MED between different ASes, and "prefer the oldest external path", which would
make the result depend on history.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import Enum
from heapq import merge
from typing import Any

from bgpd.rib.path import (
    AS_PATH_SHIFT,
    INELIGIBLE,
    LOCAL_PREF_SHIFT,
    LOCAL_SHIFT,
    ORIGIN_SHIFT,
    STALE_SHIFT,
    Cost,
    Path,
    SourceKind,
)


class Reason(Enum):
    """The step at which a path lost, or by which the best one won."""

    ONLY_PATH = "only path"
    INELIGIBLE = "ineligible"
    NEXT_HOP_UNREACHABLE = "next hop unreachable"
    LONG_LIVED_STALE = "long-lived stale"
    LOCAL_ORIGIN = "local origin"
    LOCAL_PREF = "LOCAL_PREF"
    AS_PATH_LENGTH = "AS_PATH length"
    ORIGIN = "ORIGIN"
    MED = "MULTI_EXIT_DISC"
    EXTERNAL = "external over internal"
    INTERIOR_COST = "interior cost"
    BGP_IDENTIFIER = "BGP Identifier"
    CLUSTER_LIST_LENGTH = "CLUSTER_LIST length"
    PEER_ADDRESS = "peer address"
    PATH_IDENTIFIER = "path identifier"


# The steps before MED, each with where it begins in `Path.rank`.
RANK_STEPS = (
    (Reason.LONG_LIVED_STALE, STALE_SHIFT),
    (Reason.LOCAL_ORIGIN, LOCAL_SHIFT),
    (Reason.LOCAL_PREF, LOCAL_PREF_SHIFT),
    (Reason.AS_PATH_LENGTH, AS_PATH_SHIFT),
    (Reason.ORIGIN, ORIGIN_SHIFT),
)


def _identifier(path: Path) -> bytes:
    return path.attributes.originator_id or path.source.bgp_identifier


def _lowest_med(paths: list[Path]) -> list[Path]:
    """Drop each path whose MED is above that of another path of the same neighbouring AS.

    A missing MED counts as 0, the lowest (RFC 4271 9.1.2.2 c).
    """
    compared = [path.attributes.compared for path in paths]
    if len({each.med or 0 for each in compared}) == 1:
        return paths
    lowest: dict[int, int] = {}
    for each in compared:
        first_as, med = each.first_as, each.med or 0
        if med < lowest.get(first_as, 1 << 32):
            lowest[first_as] = med
    return [
        path for path, each in zip(paths, compared, strict=True) if (each.med or 0) == lowest[each.first_as]
    ]


def _last_steps(path: Path, cost: Cost | None = None) -> tuple[Any, ...]:
    """What comes after MED as a sort key, least is best."""
    attributes, source = path.attributes, path.source
    return (
        source.kind is not SourceKind.EXTERNAL,
        0 if cost is None else cost(attributes.next_hop),
        _identifier(path),
        attributes.cluster_list_length,
        source.address_key,
        path.path_id,
    )


def _equals(paths: list[Path], cost: Cost | None) -> list[Path]:
    """The paths that are as good as the best up to and including the interior cost."""
    if len(paths) > 1:
        paths = _lowest_med(paths)
    if len(paths) > 1:
        external = [p for p in paths if p.source.kind is SourceKind.EXTERNAL]
        paths = external or paths
    if len(paths) > 1 and cost is not None:
        costs = [cost(p.attributes.next_hop) for p in paths]
        least = min((c for c in costs if c is not None), default=None)
        paths = [p for p, c in zip(paths, costs, strict=True) if c == least]
    return paths


def _tie_break(paths: list[Path]) -> Path:
    """The last steps, which always leave exactly one path (RFC 4271 9.1.2.2 f, g; RFC 4456 9)."""
    identifiers = [path.attributes.compared.originator_id or path.source.bgp_identifier for path in paths]
    lowest = min(identifiers)
    if identifiers.count(lowest) == 1:
        return paths[identifiers.index(lowest)]
    return min(
        (path for path, identifier in zip(paths, identifiers, strict=True) if identifier == lowest),
        key=lambda p: (p.attributes.cluster_list_length, p.source.address_key, p.path_id),
    )


def eligible(paths: Iterable[Path], cost: Cost | None = None) -> list[Path]:
    """The paths the decision process may look at: not refused, and with a reachable next hop."""
    if cost is None:
        return [p for p in paths if p.ineligible is None]
    return [p for p in paths if p.ineligible is None and cost(p.attributes.next_hop) is not None]


def equals(paths: Collection[Path], cost: Cost | None = None) -> list[Path]:
    """All paths that tie with the best one before the arbitrary steps: the candidates for ECMP."""
    if cost is not None:
        paths = [path for path in paths if cost(path.attributes.next_hop) is not None]
    ranks = [path.rank or path.ranked() for path in paths]
    least = min(ranks, default=INELIGIBLE)
    if least >= INELIGIBLE:
        return []
    tied = [path for path, rank in zip(paths, ranks, strict=True) if rank == least]
    return _equals(tied, cost) if len(tied) > 1 else tied


def best(paths: Collection[Path], cost: Cost | None = None) -> Path | None:
    """The best path, or None when no path is eligible."""
    survivors = equals(paths, cost)
    if not survivors:
        return None
    return survivors[0] if len(survivors) == 1 else _tie_break(survivors)


def beats(new: Path, current: Path) -> bool | None:
    """Whether `new` replaces `current`, until now the best; both have one rank. None: all must be looked at.

    MED counts between paths of one neighbouring AS. So who wins the last steps may be out by a third path,
    unless its own MED is 0; and who loses them may put `current` out by its MED.
    """
    mine, other = new.attributes.compared, current.attributes.compared
    identifier = mine.originator_id or new.source.bgp_identifier
    other_identifier = other.originator_id or current.source.bgp_identifier
    if identifier != other_identifier and new.source.kind is current.source.kind:
        wins = identifier < other_identifier
    else:
        wins = _last_steps(new) < _last_steps(current)
    if wins:
        return None if mine.med else True
    out = mine.first_as == other.first_as and (mine.med or 0) < (other.med or 0)
    return None if out else False


def ordered(paths: Iterable[Path], cost: Cost | None = None) -> Iterator[Path]:
    """Eligible paths from best to worst: the best, then the best of the rest, and so on.

    Not found by elimination again and again, which would let one peer with ten thousand paths of a prefix
    have us look at each ten thousand times. Behind `Path.rank` the best is always the first of some
    neighbouring AS's paths, if those stand in the order of MED and then of the last steps; so the next best
    is the best among the first ones, and its successor in its AS takes its place. That is what `merge` does.
    """
    rest = eligible(paths, cost)
    if len({path.ranked() for path in rest}) == len(rest):
        yield from sorted(rest, key=Path.ranked)
        return

    def last_steps(path: Path) -> tuple[Any, ...]:
        return _last_steps(path, cost)

    by_rank: dict[int, list[Path]] = {}
    for path in rest:
        by_rank.setdefault(path.ranked(), []).append(path)
    for rank in sorted(by_rank):
        tied = by_rank[rank]
        if len(tied) == 1 or len({path.attributes.compared.med or 0 for path in tied}) == 1:
            tied.sort(key=last_steps)
            yield from tied
            continue
        ases: dict[int, list[Path]] = {}
        for path in tied:
            ases.setdefault(path.attributes.compared.first_as, []).append(path)
        for some in ases.values():
            some.sort(key=lambda path: (path.attributes.med or 0, *last_steps(path)))
        yield from merge(*ases.values(), key=last_steps)


class _Elimination:
    """Who is left, who is not and by which step, and the step that left one of several."""

    __slots__ = ("current", "decided", "losers")

    def __init__(self, paths: Sequence[Path]) -> None:
        self.current = list(paths)
        self.losers: list[tuple[Path, Reason]] = []
        self.decided = Reason.ONLY_PATH

    def keep(self, survivors: list[Path], reason: Reason) -> None:
        if len(self.current) > 1:
            self.decided = reason
        kept = set(survivors)
        self.losers.extend((p, reason) for p in self.current if p not in kept)
        self.current = survivors


def explain(paths: Sequence[Path], cost: Cost | None = None) -> list[tuple[Path, Reason]]:
    """Every path with the step that eliminated it; the best comes first with the step that decided.

    No functions in here: compiled, they and their variables would be a cycle, and paths long gone be kept by
    what was asked about them.
    """
    left = _Elimination(paths)
    left.keep([p for p in paths if p.ineligible is None], Reason.INELIGIBLE)
    if cost is not None:
        reachable = [p for p in left.current if cost(p.attributes.next_hop) is not None]
        left.keep(reachable, Reason.NEXT_HOP_UNREACHABLE)
    if not left.current:
        return left.losers
    left.decided = Reason.ONLY_PATH
    for reason, shift in RANK_STEPS:
        least = min(p.ranked() >> shift for p in left.current)
        left.keep([p for p in left.current if p.rank >> shift == least], reason)
    left.keep(_lowest_med(left.current), Reason.MED)
    external = [p for p in left.current if p.source.kind is SourceKind.EXTERNAL]
    left.keep(external or left.current, Reason.EXTERNAL)
    if cost is not None:
        costs = {id(p): cost(p.attributes.next_hop) or 0 for p in left.current}
        nearest = min(costs.values())
        left.keep([p for p in left.current if costs[id(p)] == nearest], Reason.INTERIOR_COST)
    lowest_identifier = min(_identifier(p) for p in left.current)
    left.keep([p for p in left.current if _identifier(p) == lowest_identifier], Reason.BGP_IDENTIFIER)
    shortest = min(p.attributes.cluster_list_length for p in left.current)
    nearby = [p for p in left.current if p.attributes.cluster_list_length == shortest]
    left.keep(nearby, Reason.CLUSTER_LIST_LENGTH)
    lowest_address = min(p.source.address_key for p in left.current)
    left.keep([p for p in left.current if p.source.address_key == lowest_address], Reason.PEER_ADDRESS)
    left.keep([min(left.current, key=lambda p: p.path_id)], Reason.PATH_IDENTIFIER)
    return [(left.current[0], left.decided), *reversed(left.losers)]
