"""Snapshots: what is found in them, and that a successor equals a fresh one however it came about."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from bgpd.resources import (
    BGPConfiguration,
    BlockAffinity,
    Key,
    Node,
    NodeLease,
    Resource,
    ResourceSet,
    WorkloadEndpoint,
)
from bgpd.resources.resource_set import State, changed_keys


def endpoint(name: str, node: str, *addresses: str) -> WorkloadEndpoint:
    return WorkloadEndpoint(
        metadata={"name": name, "namespace": "d"}, spec={"node": node, "ipNetworks": list(addresses)}
    )


def affinity(node: str, cidr: str, state: str = "confirmed") -> BlockAffinity:
    return BlockAffinity(spec={"node": node, "cidr": cidr, "state": state})


def test_resources_are_found_by_key_kind_node_and_address() -> None:
    one, two = endpoint("a", "n1", "10.0.0.1"), endpoint("b", "n2", "10.0.0.1", "10.0.0.2")
    block = affinity("n1", "10.0.0.0/26")
    resources = ResourceSet.of(
        [one, two, block, Node(metadata={"name": "n1"}), NodeLease(metadata={"name": "n1"})]
    )
    assert resources.get(one.key) is one
    assert one.key in resources
    assert len(resources) == 5
    assert resources.endpoints_on("n2") == (two,)
    assert resources.endpoints_with(ip_network("10.0.0.1")) == (one, two)
    assert resources.affinities_of("n1") == (block,)
    assert resources.affinities_to(ip_network("10.0.0.0/26")) == (block,)
    assert list(resources.nodes) == ["n1"]
    assert resources.live_nodes == {"n1"}
    assert resources.bgp_configuration() is None
    own = BGPConfiguration(metadata={"name": "node.n1"})
    assert resources.with_changes({own.key: own}).bgp_configuration("n1") is own


def test_a_snapshot_does_not_change() -> None:
    one = endpoint("a", "n1", "10.0.0.1")
    before = ResourceSet.of([one])
    after = before.with_changes({one.key: None})
    assert before.endpoints_on("n1") == (one,)
    assert after.endpoints_on("n1") == ()
    assert len(after) == 0


def _count_nodes(resources: ResourceSet) -> object:
    return (len(resources.nodes), object())


def test_what_is_derived_is_kept_until_its_kinds_change() -> None:
    resources = ResourceSet.of([Node(metadata={"name": "n1"})])
    first = resources.derived(_count_nodes, ("Node",))
    one = endpoint("a", "n1", "10.0.0.1")
    assert resources.with_changes({one.key: one}).derived(_count_nodes, ("Node",)) is first
    other = Node(metadata={"name": "n2"})
    assert resources.with_changes({other.key: other}).derived(_count_nodes, ("Node",)) is not first
    same = Node(metadata={"name": "n1"})
    assert resources.with_changes({same.key: same}).derived(_count_nodes, ("Node",)) is first


def _seen(
    resources: ResourceSet,
    last: list[list[str]] | None,
    past: State | None,
    present: State,
    who: str,
) -> list[list[str]]:
    if last is None or past is None:
        return []
    return [*last, [key.name for key in changed_keys(past[0], present[0])]]


def test_a_revision_is_told_every_change_since_the_last() -> None:
    nodes = {name: Node(metadata={"name": name}) for name in ("n1", "n2", "n3")}
    first = ResourceSet.of([nodes["n1"]])
    assert first.revised(_seen, ("Node",), "often") == first.revised(_seen, ("Node",), "rarely") == []
    second = first.with_changes({nodes["n2"].key: nodes["n2"]})
    assert second.revised(_seen, ("Node",), "often") == [["n2"]]
    third = second.with_changes({nodes["n3"].key: nodes["n3"], nodes["n1"].key: None})
    assert third.revised(_seen, ("Node",), "often") == [["n2"], ["n1", "n3"]]
    assert third.revised(_seen, ("Node",), "rarely") == [["n1", "n2", "n3"]]


def test_what_a_snapshot_derives_later_serves_the_one_made_of_it() -> None:
    resources = ResourceSet.of([Node(metadata={"name": "n1"})])
    one = endpoint("a", "n1", "10.0.0.1")
    after = resources.with_changes({one.key: one})
    assert resources.derived(_count_nodes, ("Node",)) is after.derived(_count_nodes, ("Node",))


addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])
pool_of_resources: st.SearchStrategy[Resource] = st.one_of(
    st.builds(
        lambda name, node, ips: endpoint(name, node, *ips),
        st.sampled_from("abc"),
        st.sampled_from(["n1", "n2"]),
        st.lists(addresses, max_size=2, unique=True),
    ),
    st.builds(affinity, st.sampled_from(["n1", "n2"]), st.sampled_from(["10.0.0.0/26", "10.0.1.0/26"])),
    st.builds(lambda name: Node(metadata={"name": name}), st.sampled_from(["n1", "n2"])),
)


@given(st.lists(st.tuples(pool_of_resources, st.booleans()), max_size=20))
def test_a_successor_equals_a_fresh_snapshot(steps: list[tuple[Resource, bool]]) -> None:
    current = ResourceSet.of()
    expected: dict[Key, Resource] = {}
    for resource, deleted in steps:
        current.nodes  # noqa: B018  to have something derived that must not survive
        current = current.with_changes({resource.key: None if deleted else resource})
        if deleted:
            expected.pop(resource.key, None)
        else:
            expected[resource.key] = resource
    fresh = ResourceSet.of(expected.values())
    assert {item.key: item for item in current} == expected
    assert dict(current.nodes) == dict(fresh.nodes)
    for node in ("n1", "n2"):
        assert current.endpoints_on(node) == fresh.endpoints_on(node)
        assert current.affinities_of(node) == fresh.affinities_of(node)
    for text in ("10.0.0.1", "10.0.0.2", "fd00::1"):
        assert current.endpoints_with(ip_network(text)) == fresh.endpoints_with(ip_network(text))
