"""The election of reflectors: any history gives the same outcome, one change changes one place, nobody is
left without a reflector on the way.
"""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan import NodePlan, PeeringKind, plan_node
from bgpd.plan.diff import diff_cluster
from bgpd.plan.election import elect
from bgpd.plan.facts import election_of
from bgpd.resources import CairnConfiguration, Key, Node, NodeLease, Resource, ResourceSet
from bgpd.resources.cairn import ReflectorElection
from tests.plan.cluster import bgp, cluster, documents, plans, session, sessions

RACK = "topology.kubernetes.io/zone"
NAMES = [f"r{number}" for number in range(12)]


def declaration(count: int, selector: str = "has(rr)") -> CairnConfiguration:
    return CairnConfiguration.model_validate(
        {"spec": {"reflectors": {"count": count, "nodeSelector": selector}}}, by_alias=True
    )


def candidate(name: str, rack: str | None, host: int = 0) -> Node:
    labels = {"rr": ""} if rack is None else {"rr": "", RACK: rack}
    return Node.model_validate(
        {
            "metadata": {"name": name, "labels": labels},
            "spec": {"bgp": {"ipv4Address": f"10.0.1.{host + 1}/16"}},
        },
        by_alias=True,
    )


def lease(name: str) -> NodeLease:
    return NodeLease.model_validate({"metadata": {"name": name}}, by_alias=True)


def elected(racks: dict[str, str | None], count: int) -> list[str]:
    candidates = {name: rack or "" for name, rack in racks.items()}
    return list(elect(ReflectorElection(count=count), candidates, frozenset(candidates)).elected)


labelled = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["a", "b", "c", None]), min_size=1)
counts = st.integers(1, 6)


@given(labelled, counts, st.randoms())
def test_the_outcome_knows_no_order(racks: dict[str, str | None], count: int, random: object) -> None:
    items = list(racks.items())
    random.shuffle(items)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert elected(dict(items), count) == elected(racks, count)
    assert len(elected(racks, count)) == min(len(racks), max(2, count))


@given(labelled, counts)
def test_reflectors_are_spread_as_evenly_as_the_racks_allow(racks: dict[str, str | None], count: int) -> None:
    chosen = elected(racks, count)
    share = {rack: sum(racks[name] == rack for name in chosen) for rack in set(racks.values())}
    for rack, number in share.items():
        spare = sum(value == rack for value in racks.values()) > number
        assert not spare or number >= max(share.values()) - 1


@given(labelled, counts, st.sampled_from([*NAMES, "new"]), st.sampled_from(["a", "b", "c", "d", None]))
def test_one_that_joins_takes_at_most_one_place(
    racks: dict[str, str | None], count: int, name: str, rack: str | None
) -> None:
    racks.pop(name, None)
    before = set(elected(racks, count)) if racks else set()
    after = set(elected({**racks, name: rack}, count))
    assert after - before <= {name} | after
    assert len(before - after) <= 1
    assert len(after - before) <= 1
    # Without pressure on places nobody leaves.
    assert len(racks) >= max(2, count) or before <= after


@given(labelled, counts, st.data())
def test_one_that_dies_is_replaced_and_no_other_moves(
    racks: dict[str, str | None], count: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(racks)))
    rest = {other: rack for other, rack in racks.items() if other != name}
    before = set(elected(racks, count))
    after = set(elected(rest, count)) if rest else set()
    assert len(before - after) <= 1
    assert len(after - before) <= 1
    assert name in before or after == before


@given(labelled, counts, st.data())
def test_moving_a_candidate_between_racks_changes_at_most_one_place(
    racks: dict[str, str | None], count: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(racks)))
    moved = {**racks, name: data.draw(st.sampled_from(["a", "b", "c", "d", None]))}
    assert len(set(elected(racks, count)) - set(elected(moved, count))) <= 1


# The election in plans


def base(count: int = 2) -> list[Resource]:
    nodes = [candidate(name, "abc"[number % 3], number) for number, name in enumerate(NAMES[:6])]
    clients = documents("\n---\n".join(bgp(f"n{host}", host) for host in (1, 2, 3)))
    return [declaration(count), *nodes, *clients]


def alive(resources: ResourceSet, names: Iterable[str]) -> ResourceSet:
    wanted = {Key("NodeLease", name): lease(name) for name in names}
    gone = dict.fromkeys(key for key in resources.of_kind("NodeLease") if key not in wanted)
    return resources.with_changes({**gone, **wanted})


def reflectors_of(plan: NodePlan) -> set[str]:
    return {str(peering.peer_node) for peering in plan.peerings if peering.kind is PeeringKind.ELECTED}


steps = st.lists(
    st.tuples(st.sampled_from(["join", "die", "rack"]), st.sampled_from(NAMES[:6]), st.sampled_from("abc")),
    max_size=12,
)


@given(steps, counts)
def test_any_history_ends_in_the_same_plans_and_nobody_is_ever_without_a_reflector(
    history: list[tuple[str, str, str]], count: int
) -> None:
    resources = alive(ResourceSet.of(base(count)), NAMES[:6])
    states = [resources]
    live = set(NAMES[:6])
    for what, name, rack in history:
        match what:
            case "join":
                live.add(name)
            case "die":
                live.discard(name)
            case _:
                node = candidate(name, rack, NAMES.index(name))
                resources = resources.with_changes({node.key: node})
        resources = alive(resources, live)
        # Planned at every step, so that what is carried forward is what is tested.
        plan_node(resources, "n1")
        states.append(resources)
    fresh = ResourceSet.of(list(resources))
    assert plans(resources) == plans(fresh)
    for before, after in pairwise(states):
        was, now = (reflectors_of(plan_node(state, "n1")) for state in (before, after))
        living = {key.name for key in after.of_kind("NodeLease")}
        assert now
        # One that was there and is still alive carries the node while a new session is made.
        assert was & now or not was & living


@given(st.permutations(NAMES[:6]), counts)
def test_leases_that_were_lost_and_come_back_take_one_session_at_a_time(order: list[str], count: int) -> None:
    """Whoever is elected may be alive also without a lease."""
    resources = alive(ResourceSet.of(base(count)), NAMES[:6])
    was = reflectors_of(plan_node(resources, "n1"))
    for number in range(len(order) + 1):
        now = reflectors_of(plan_node(alive(resources, order[:number]), "n1"))
        assert len(now) == len(was)
        assert len(was - now) <= 1
        was = now


def test_every_node_has_a_session_with_each_elected_and_no_mesh() -> None:
    resources = alive(ResourceSet.of(base()), NAMES[:6])
    found = plans(resources)
    chosen = list(election_of(resources).elected)  # type: ignore[union-attr]  # declared above
    assert len(chosen) == 2
    for name in ("n1", "n2", "n3"):
        assert reflectors_of(found[name]) == set(chosen)
        assert len(sessions(found[name])) == 2
        assert not any(peering.rr_client or peering.passive for peering in found[name].peerings)
        assert found[name].cluster_id is None
        for peering in found[name].peerings:
            assert f": {peering.peer_node} is an elected reflector" in peering.reason
    for name in chosen:
        plan = found[name]
        assert str(plan.cluster_id) == "244.0.0.1"
        assert plan.role_reason is not None
        assert "elected reflector" in plan.role_reason
        clients = {str(item.peer_node) for item in plan.peerings if item.rr_client}
        assert clients == set(found) - set(chosen)
        assert all(item.passive for item in plan.peerings if item.rr_client)
    both = [session(found[chosen[0]], str(found[chosen[1]].address(4)))]
    both.append(session(found[chosen[1]], str(found[chosen[0]].address(4))))
    assert [item.rr_client for item in both] == [False, False]
    assert sum(item.passive for item in both) == 1


def test_a_session_that_stays_is_the_same_to_the_last_word() -> None:
    resources = alive(ResourceSet.of(base()), NAMES[:6])
    first, second = election_of(resources).elected  # type: ignore[union-attr]  # declared above
    after = alive(resources, set(NAMES[:6]) - {first})
    address = str(plan_node(resources, second).address(4))
    assert session(plan_node(resources, "n1"), address) == session(plan_node(after, "n1"), address)
    assert plan_node(resources, first).standby_cluster_id == plan_node(after, first).standby_cluster_id


def test_a_death_changes_only_the_sessions_it_must() -> None:
    resources = alive(ResourceSet.of(base()), NAMES[:6])
    first, second = election_of(resources).elected  # type: ignore[union-attr]  # declared above
    after = alive(resources, set(NAMES[:6]) - {first})
    now = set(election_of(after).elected)  # type: ignore[union-attr]  # declared above
    assert second in now
    (replacement,) = now - {second}
    for item in diff_cluster(resources, after):
        if item.node in ("n1", "n2", "n3"):
            told = {(str(change.change), change.peer_node) for change in item.sessions}
            assert told == {("appears", replacement), ("vanishes", first)}


def test_with_nobody_known_to_be_alive_candidates_are_elected_all_the_same() -> None:
    plan = plan_node(ResourceSet.of(base()), "n1")
    assert len(reflectors_of(plan)) == 2
    chosen = plan_node(ResourceSet.of(base()), next(iter(reflectors_of(plan))))
    assert "6 candidates, none of which known to be alive" in str(chosen.role_reason)


def test_without_candidates_the_mesh_stays() -> None:
    resources = ResourceSet.of([item for item in base() if item.name not in NAMES])
    assert sessions(plan_node(resources, "n1")) == {"10.0.0.2", "10.0.0.3"}


def test_an_explicit_peering_with_a_reflector_wins_over_the_automatic_one() -> None:
    resources = ResourceSet.of(
        [
            *base(),
            *documents(
                "kind: BGPPeer\nmetadata: {name: own}\n"
                'spec: {nodeSelector: "!has(rr)", peerSelector: has(rr), keepaliveTime: 7s}'
            ),
        ]
    )
    found = plan_node(resources, "n1").peerings
    assert {peering.kind for peering in found} == {PeeringKind.NODE}
    assert len(found) == 6


def test_a_reflector_by_hand_and_a_node_of_another_as_are_no_candidates() -> None:
    resources = cluster(
        bgp("hand", 20, ", routeReflectorClusterID: 244.0.0.9", "{rr: x}"),
        bgp("far", 21, ", asNumber: 65009", "{rr: x}"),
        bgp("n1", 1, "", "{rr: x}"),
        bgp("n2", 2, "", "{rr: x}"),
        bgp("n3", 3),
    ).with_changes({Key("CairnConfiguration", "default"): declaration(4)})
    outcome = election_of(resources)
    assert outcome is not None
    assert set(outcome.elected) == {"n1", "n2"}
    by_hand = session(plan_node(resources, "n1"), "10.0.0.20")
    back = session(plan_node(resources, "hand"), "10.0.0.1")
    assert (by_hand.rr_client, back.rr_client) == (True, True)
    abroad = session(plan_node(resources, "n1"), "10.0.0.21")
    assert (abroad.rr_client, abroad.peer_asn, abroad.internal) == (False, 65009, False)
