"""Which ranges of etcd's keys to watch to hear of what is wanted, and of as little else as possible.

Most kinds have a prefix of their own and are wanted whole. Block affinities begin with the node.
Workload endpoints begin with the *namespace* and only then the node, and etcd can filter by nothing but
key ranges. Three ways to watch one node's endpoints:

- the whole prefix, filtered here: exact, but every agent is sent every endpoint's change (nodes x changes);
- `<namespace>/<node>-` for each namespace known: sparse, but the first endpoint of a new one would be missed;
- both, cleverly: for the known namespaces only our node's part, and *between* them the gaps. Whatever appears
  in a gap is by definition the first endpoint of a new namespace: it reveals the namespace, and the gap is
  split around it. Exact, immediate, and sparse. That is what `Spread` does.

The price is 2 x namespaces + 1 watches per agent on one stream (etcd keeps a few hundred bytes for each).
Beyond `SPREAD_LIMIT` namespaces gaps are left as they are, and what is in them is filtered here; the next
comparison tells which namespaces are left, and if these are too many the whole prefix is watched. Listing
stays sparse in any case: it reads only our part of each namespace.

All pure: no requests are made here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bgpd.datastore.interests import Interests, endpoint_prefix
from bgpd.resources import KINDS, etcd_prefix

SPREAD_LIMIT = 64


class Range(NamedTuple):
    """Keys from `start` up to, not including, `end`; a single key when `end` is empty."""

    start: bytes
    end: bytes = b""

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, bytes):
            return False
        return self.start <= key < self.end if self.end else key == self.start


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys beginning with `prefix`, whose last octet is not 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def prefix_range(prefix: str) -> Range:
    raw = prefix.encode()
    return Range(raw, prefix_end(raw))


@dataclass(frozen=True, slots=True)
class Spread:
    """One node's keys in every namespace below `root` (which ends with "/")."""

    root: bytes
    node_prefix: bytes

    def own(self, namespace: bytes) -> Range:
        """Our node's keys in `namespace`: after the prefix no further "-", that is another node."""
        start = self.root + namespace + b"/" + self.node_prefix
        return Range(start[:-1] + b"-.", prefix_end(start))

    def after(self, namespace: bytes) -> bytes:
        """The first possible key after those of `namespace`."""
        return prefix_end(self.root + namespace + b"/")

    def whole(self) -> Range:
        return Range(self.root, prefix_end(self.root))

    def namespace_of(self, key: bytes) -> bytes:
        return key[len(self.root) :].partition(b"/")[0]

    def gaps(self, namespaces: Iterable[bytes], within: Range | None = None) -> list[Range]:
        """What lies between the keys of `namespaces`, before the first and after the last of them."""
        # Ordered by the full prefix: "a-b/" sorts before "a/", though "a" sorts before "a-b".
        outer = within or self.whole()
        prefixes = sorted(self.root + namespace + b"/" for namespace in namespaces)
        starts = [outer.start, *map(prefix_end, prefixes)]
        ends = [*prefixes, outer.end]
        return [Range(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


@dataclass(frozen=True, slots=True)
class Layout:
    """What to read for some interests: ranges wanted whole, and at most one spread.

    `settings`: those of the fixed ranges of which a change may mean more than a route of its own.
    """

    fixed: tuple[Range, ...]
    settings: frozenset[Range]
    spread: Spread | None = None


def layout(interests: Interests) -> Layout:
    """The layout for `interests`. Raises KeyError for a kind that is not ours."""
    fixed: list[Range] = []
    spread: Spread | None = None
    for kind in KINDS:
        if not interests.wants_kind(kind):
            continue
        if kind == "WorkloadEndpoint" and interests.node is not None:
            spread = Spread(etcd_prefix(kind).encode(), endpoint_prefix(interests.node).encode())
        elif kind == "BlockAffinity" and interests.node is not None:
            fixed.append(prefix_range(etcd_prefix(kind, interests.node)))
        elif kind == "ServiceQuestion" and interests.node is not None:
            fixed.append(prefix_range(f"{etcd_prefix(kind)}{interests.node}."))
        elif kind == "IPAMConfig":
            fixed.append(Range(etcd_prefix(kind).encode()))
        else:
            fixed.append(prefix_range(etcd_prefix(kind)))
    routes = tuple(etcd_prefix(kind).encode() for kind in ("BlockAffinity", "WorkloadEndpoint"))
    settings = frozenset(range for range in fixed if not range.start.startswith(routes))
    return Layout(tuple(fixed), settings, spread)
