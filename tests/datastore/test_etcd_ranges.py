"""The ranges of a layout: together they hold all that is wanted, and a spread's are disjoint and complete."""

from hypothesis import given
from hypothesis import strategies as st

from bgpd.datastore.etcd_ranges import Layout, Range, Spread, layout, prefix_range
from bgpd.datastore.interests import Interests, endpoint_prefix
from bgpd.resources import Key, endpoint_name, etcd_key, etcd_prefix

LABEL = st.from_regex("[ab]([ab-]{0,3}[ab])?", fullmatch=True)  # one may begin another: "a-b/" is before "a/"
NAME = st.sampled_from(["a", "a-b", "a--b", "b", "a.b", "ab"])


def watched_by(layout: Layout, namespaces: list[bytes]) -> list[Range]:
    assert layout.spread is not None
    own = [layout.spread.own(namespace) for namespace in namespaces]
    return [*own, *layout.spread.gaps(namespaces)]


@given(st.lists(LABEL, unique=True, max_size=6), LABEL, NAME, NAME, st.sampled_from(["k8s", "cni"]))
def test_every_endpoint_is_in_the_range_it_belongs_to(
    known: list[str], namespace: str, ours: str, theirs: str, orchestrator: str
) -> None:
    found = layout(Interests(kinds=frozenset({"WorkloadEndpoint"}), node=ours))
    key = Key("WorkloadEndpoint", endpoint_name(theirs, orchestrator, "pod-1", "eth0"), namespace)
    raw = etcd_key(key).encode()
    holding = [range for range in watched_by(found, [name.encode() for name in known]) if raw in range]
    wanted = Interests(node=ours).wants(key)
    assert wanted is (ours == theirs)
    assert len(holding) == (1 if namespace not in known or wanted else 0)
    assert found.spread is not None
    assert (raw in found.spread.own(namespace.encode())) is wanted


@given(st.lists(LABEL, unique=True, max_size=4), st.lists(LABEL, unique=True, min_size=1, max_size=3))
def test_splitting_a_gap_gives_what_knowing_before_would_have(before: list[str], new: list[str]) -> None:
    spread = Spread(b"/r/", endpoint_prefix("n").encode())
    known = [name.encode() for name in before]
    added = [name.encode() for name in new if name not in before]
    gaps: list[Range] = []
    for gap in spread.gaps(known):
        inside = [name for name in added if spread.own(name).start in gap]
        gaps += spread.gaps(inside, within=gap)
    assert sorted(gaps) == sorted(spread.gaps([*known, *added]))


def test_layouts() -> None:
    everything = layout(Interests())
    assert everything.spread is None
    assert len(everything.fixed) == len(set(everything.fixed)) >= 12
    agent = layout(Interests(kinds=frozenset({"Node", "BlockAffinity"}), node="a"))
    assert agent.fixed == (
        prefix_range("/calico/resources/v3/projectcalico.org/nodes/"),
        prefix_range("/calico/ipam/v2/host/a/"),
    )
    assert b"/calico/ipam/v2/host/a-b/ipv4/block/10.0.0.0-26" not in agent.fixed[1]
    (single,) = layout(Interests(kinds=frozenset({"IPAMConfig"}))).fixed
    assert single == Range(b"/calico/ipam/v2/config")
    assert single.start in single
    assert b"/calico/ipam/v2/config/x" not in single
    (questions,) = layout(Interests(kinds=frozenset({"ServiceQuestion"}), node="a")).fixed
    asked = [etcd_key(Key("ServiceQuestion", name)).encode() for name in ("a.x", "ab.x")]
    assert [each in questions for each in asked] == [True, False]
    assert [each in Range(b"b", b"d") for each in (b"a", b"b", b"c", b"d")] == [False, True, True, False]


def test_what_is_a_route_and_no_more_is_no_setting() -> None:
    """Whoever watches does not wait for what else may have changed with it."""
    kinds = frozenset({"BlockAffinity", "IPPool", "Node", "WorkloadEndpoint"})
    settings = frozenset(map(prefix_range, map(etcd_prefix, ("IPPool", "Node"))))
    assert layout(Interests(kinds=kinds)).settings == settings
    assert layout(Interests(kinds=kinds, node="a")).settings == settings
