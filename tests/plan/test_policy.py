"""BGPFilter rules and Calico's export order, evaluated."""

from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan.policy import (
    CompiledFilter,
    Coverage,
    Covered,
    Judge,
    Operator,
    PrefixMatch,
    RouteFacts,
    Rule,
    compiled_filter,
    interface_matches,
    local_pref_of,
    priority_of,
)
from bgpd.plan.policy import decide as first_to_hold
from bgpd.plan.route_policy import facts_of
from bgpd.resources import BGPFilter
from bgpd.resources.scalars import within
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.iana import SegmentType
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of, numbers_of
from tests.plan.cluster import MESH_OFF, THREE, cluster, plans, session


def decide(rule: str, route: RouteFacts, internal: bool = True, direction: str = "export") -> bool | None:
    """Give what a single rule decides of a route: its action, or ``None``."""
    (declared,) = cluster(
        f"kind: BGPFilter\nmetadata: {{name: f}}\nspec: {{{direction}V{route.prefix.version}: [{rule}]}}"
    )
    assert isinstance(declared, BGPFilter)
    compiled = compiled_filter(declared, direction, route.prefix.version)
    assert compiled is not None
    (only,) = compiled.rules
    return only.applied(route).accept if only.holds(route, internal) else None


def facts(prefix: str, **more: Any) -> RouteFacts:
    return RouteFacts(ip_network(prefix), 1024)._replace(**more)


@pytest.mark.parametrize(
    ("match", "holds_for", "not_for"),
    [
        (
            "cidr: 10.1.0.0/16, matchOperator: Equal",
            ["10.1.0.0/16"],
            ["10.1.0.0/17", "10.0.0.0/15", "10.2.0.0/16"],
        ),
        ("cidr: 10.1.0.0/16, matchOperator: NotEqual", ["10.1.0.0/17", "10.2.0.0/16"], ["10.1.0.0/16"]),
        (
            "cidr: 10.1.0.0/16, matchOperator: In",
            ["10.1.0.0/16", "10.1.2.0/24"],
            ["10.0.0.0/8", "10.2.0.0/24"],
        ),
        (
            "cidr: 10.1.0.0/16, matchOperator: NotIn",
            ["10.0.0.0/8", "10.2.0.0/24"],
            ["10.1.0.0/16", "10.1.2.0/24"],
        ),
        (
            "cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {min: 24, max: 26}",
            ["10.1.0.0/24", "10.1.0.64/26"],
            ["10.1.0.0/16", "10.1.0.0/23", "10.1.0.0/27"],
        ),
        (
            "cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {min: 24, max: 24}",
            ["10.1.3.0/24"],
            ["10.1.2.0/23", "10.1.3.0/25"],
        ),
        ("cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {max: 16}", ["10.1.0.0/16"], ["10.1.0.0/17"]),
        ("cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {min: 8}", ["10.1.0.0/32"], ["10.0.0.0/8"]),
        (
            "cidr: 10.1.0.0/16, matchOperator: NotIn, prefixLength: {min: 24}",
            ["10.1.0.0/16", "10.2.0.0/24"],
            ["10.1.0.0/24"],
        ),
        ("cidr: 'fd00::/16', matchOperator: In", ["fd00:1::/64"], ["fe00::/16"]),
    ],
)
def test_prefixes_are_compared_by_operator_and_length(
    match: str, holds_for: list[str], not_for: list[str]
) -> None:
    rule = f"{{action: Reject, {match}}}"
    assert [decide(rule, facts(prefix)) for prefix in holds_for] == [False] * len(holds_for)
    assert [decide(rule, facts(prefix)) for prefix in not_for] == [None] * len(not_for)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([(SegmentType.AS_SEQUENCE, (65001, 65002))], (65001, 65002)),
        ([(SegmentType.AS_SEQUENCE, (65001,)), (SegmentType.AS_SEQUENCE, (65002,))], (65001, 65002)),
        ([(SegmentType.AS_SET, (65008,)), (SegmentType.AS_SEQUENCE, (65001,))], ()),
        (
            [
                (SegmentType.AS_SEQUENCE, (65001,)),
                (SegmentType.AS_SET, (65008,)),
                (SegmentType.AS_SEQUENCE, (65002,)),
            ],
            (65001,),
        ),
        ([], ()),
    ],
)
def test_a_path_begins_with_its_numbers_up_to_a_set(
    segments: list[tuple[SegmentType, tuple[int, ...]]], expected: tuple[int, ...]
) -> None:
    attributes = AttributeSet.of(encode_attributes(as_path=tuple(segments), next_hop=bytes(4)))
    assert facts_of(nlri_of(ip_network("10.0.0.0/8")), IPV4_UNICAST, attributes, 1024).as_path == expected


ROUTE = facts(
    "10.0.0.0/24",
    remote=True,
    interface="eth0",
    communities={(65000, 1), (65000, 1, 2)},
    as_path=(65001, 65002, 65003),
)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("source: RemotePeers", True),
        ("interface: 'eth*'", True),
        ("interface: 'eth?'", True),
        ("interface: 'cali*'", None),
        ("peerType: iBGP", True),
        ("peerType: eBGP", None),
        ("communities: {values: ['65000:1']}", True),
        ("communities: {values: ['65000:1:2']}", True),
        ("communities: {values: ['65000:2']}", None),
        ("asPathPrefix: [65001]", True),
        ("asPathPrefix: [65001, 65002]", True),
        ("asPathPrefix: [65002]", None),
        ("asPathPrefix: [65001, 65002, 65003, 65004]", None),
        ("priority: 1024", True),
        ("priority: 512", None),
        ("source: RemotePeers, asPathPrefix: [65002]", None),
    ],
)
def test_everything_a_rule_names_must_hold(match: str, expected: bool | None) -> None:
    assert decide(f"{{action: Accept, {match}}}", ROUTE) is expected


def test_a_route_of_our_own_comes_from_no_peer_and_an_unknown_interface_matches_no_name() -> None:
    own = facts("10.0.0.0/24")
    assert decide("{action: Accept, source: RemotePeers}", own) is None
    assert decide("{action: Accept, interface: 'cali*'}", own) is None
    assert decide("{action: Accept, interface: '?*'}", own) is None
    assert not interface_matches("eth*", None)


@pytest.mark.parametrize("pattern", ["*", "**"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_star_alone_fits_every_route_as_in_bird(pattern: str, remote: bool) -> None:
    for interface in (None, "cali1"):
        route = facts("10.0.0.0/24", remote=remote, interface=interface)
        assert decide(f"{{action: Reject, interface: '{pattern}'}}", route) is False


FILTERED = """\
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.1.0.0/16}
---
kind: IPPool
metadata: {name: hidden}
spec: {cidr: 10.2.0.0/16, disableBGPExport: true}
---
kind: BlockAffinity
spec: {node: n1, cidr: 10.1.0.0/26, state: confirmed}
---
kind: BGPConfiguration
metadata: {name: default}
spec:
  asNumber: 65000
  nodeToNodeMeshEnabled: false
  prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: ['65000:9']}]
---
kind: BGPPeer
metadata: {name: t}
spec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [first, second]}
---
kind: BGPFilter
metadata: {name: first}
spec:
  exportV4:
  - {action: Reject, cidr: 10.1.3.0/24, matchOperator: Equal}
  - action: Accept
    cidr: 10.2.5.0/24
    matchOperator: Equal
    operations:
    - {prependASPath: {prefix: [1, 2]}}
    - {addCommunity: {value: '65000:1'}}
    - {prependASPath: {prefix: [3]}}
    - {setPriority: {value: 77}}
  importV4:
  - {action: Reject, cidr: 0.0.0.0/0, matchOperator: Equal}
---
kind: BGPFilter
metadata: {name: second}
spec:
  exportV4:
  - {action: Accept, cidr: 10.1.3.0/24, matchOperator: Equal}
  - {action: Accept, cidr: 192.0.2.0/24, matchOperator: Equal}"""


def test_filters_decide_first_and_the_nodes_rules_decide_the_rest() -> None:
    plan = plans(cluster(THREE, FILTERED))["n1"]
    policy = session(plan, "192.0.2.1").export_policy

    def reason(prefix: str) -> tuple[bool, str]:
        decision = policy.decide(facts(prefix), plan.export_rules)
        return decision.accept, decision.reason

    assert reason("10.1.3.0/24") == (False, "BGPFilter first exportV4[0]: Reject")
    assert reason("192.0.2.0/24") == (True, "BGPFilter second exportV4[1]: Accept")
    assert reason("10.2.0.0/24") == (False, "IPPool hidden: disableBGPExport")
    assert reason("10.1.0.0/26") == (True, "block 10.1.0.0/26, affinity to n1 confirmed")
    assert reason("10.1.0.5/32") == (False, "inside this node's block 10.1.0.0/26, which is announced whole")
    assert reason("10.1.9.9/32") == (True, "in IPPool main")
    assert reason("203.0.113.0/24") == (False, "in no IPPool, block or service CIDR")


def test_operations_are_applied_in_their_order() -> None:
    plan = plans(cluster(THREE, FILTERED))["n1"]
    decision = session(plan, "192.0.2.1").export_policy.decide(facts("10.2.5.0/24"), plan.export_rules)
    assert (decision.accept, decision.prepend, decision.priority, decision.priority_set) == (
        True,
        (3, 1, 2),
        77,
        True,
    )
    assert [str(item) for item in decision.communities] == ["65000:1"]


@pytest.mark.parametrize("version", [4, 6])
def test_rules_of_one_ip_version_say_nothing_of_the_other(version: int) -> None:
    """Also where they name no CIDR: a reflector's session has the filters of both."""
    filters = (CompiledFilter("f", (Rule("nothing", False),), version),)
    for route, length in ((facts("10.1.0.0/26"), 26), (facts("fd00::/64"), 64)):
        found = first_to_hold(filters, route, True)
        assert (found is not None) == (route.prefix.version == version)
        assert Judge(filters, route, True).decide(length, int(route.prefix.network_address)) == found


def test_communities_are_added_to_what_the_nodes_rules_let_out() -> None:
    plan = plans(cluster(THREE, FILTERED))["n1"]
    decision = session(plan, "192.0.2.1").export_policy.decide(facts("10.1.0.0/26"), plan.export_rules)
    assert [str(item) for item in decision.communities] == ["65000:9"]


def test_everything_no_filter_names_is_taken_from_a_peer() -> None:
    policy = session(plans(cluster(THREE, FILTERED))["n1"], "192.0.2.1").import_policy
    assert not policy.decide(facts("0.0.0.0/0", remote=True)).accept
    assert policy.decide(facts("203.0.113.0/24", remote=True)).accept


def test_the_reflectors_policy_lets_clients_routes_pass() -> None:
    found = plans(cluster(THREE, MESH_OFF, "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.0.0/16}"))
    rules = found["n1"].export_rules
    assert rules.decide(facts("10.1.7.0/26", remote=True)).accept


def test_a_priority_travels_as_local_pref_and_comes_back() -> None:
    assert priority_of(local_pref_of(512), 1024) == 512
    assert priority_of(None, 1024) == 1024


prefixes = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda item: ip_network((item[0] >> (32 - item[1]) << (32 - item[1]) if item[1] else 0, item[1]))
)


@given(st.lists(prefixes, max_size=6), prefixes)
def test_the_longest_covering_cidr_is_found(networks: list[object], prefix: object) -> None:
    nets = [item for item in networks if hasattr(item, "prefixlen")]
    coverage = Coverage(Covered(item, str(item)) for item in nets)  # type: ignore[arg-type]  # IPv4Network
    covering = [item for item in nets if within(prefix, item)]  # type: ignore[arg-type]  # IPv4Network
    found = coverage.find(prefix)  # type: ignore[arg-type]  # IPv4Network
    expected = max(covering, key=lambda item: item.prefixlen, default=None)
    assert (found.network if found else None) == expected


matches = st.builds(
    lambda network, operator, bounds: PrefixMatch(network, operator, *sorted(bounds)),
    prefixes,
    st.sampled_from(Operator),
    st.tuples(st.integers(0, 32), st.integers(0, 32)),
)
rules = st.builds(
    Rule,
    st.text(max_size=2),
    st.booleans(),
    prefix=st.none() | matches,
    internal_peer=st.none() | st.booleans(),
    as_path=st.sampled_from([(), (65001,), (65002,)]),
    set_priority=st.none() | st.just(7),
)


@given(st.lists(st.lists(rules, max_size=4).map(tuple)), st.lists(prefixes, min_size=1), st.booleans())
def test_many_routes_are_judged_as_each_is_decided(
    every: list[tuple[Rule, ...]], routes: list[IPv4Network], internal: bool
) -> None:
    filters = [CompiledFilter("f", some) for some in every]
    each = [RouteFacts(prefix, 1024, remote=True, as_path=(65001, 65002)) for prefix in routes]
    judge = Judge(filters, each[0], internal)
    assert [judge.decide(*numbers_of(nlri_of(prefix), IPV4_UNICAST)) for prefix in routes] == [
        first_to_hold(filters, route, internal) for route in each
    ]
