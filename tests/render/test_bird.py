"""BIRD configurations: what they say, and that the real parsers take them (see also test_bird_any)."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.plan import NodePlan, SecretRef, plan_node
from bgpd.render import BirdOptions, RenderError, bird, bird_files
from bgpd.render.quoting import described, quoted, readable, symbol
from tests.plan.cluster import MESH_OFF, THREE, bgp, cluster, node
from tests.render.parsers import check_bird

EVERYTHING = """\
kind: BGPConfiguration
metadata: {name: default}
spec:
  asNumber: 64512
  listenPort: 1790
  bindMode: NodeIP
  logSeverityScreen: Debug
  serviceClusterIPs: [{cidr: 10.96.0.0/12}]
  prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: ['65000:10', '65000:1:2']}]
  ignoredInterfaces: [docker0]
---
kind: IPPool
metadata: {name: main}
spec: {cidr: 10.1.0.0/16, vxlanMode: CrossSubnet}
---
kind: IPPool
metadata: {name: hidden}
spec: {cidr: 10.2.0.0/16, disableBGPExport: true}
---
kind: IPPool
metadata: {name: six}
spec: {cidr: 'fd00:1::/64'}
---
kind: Node
metadata: {name: n1, labels: {rack: a}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64'}}
---
kind: Node
metadata: {name: n2, labels: {rack: a}}
spec: {bgp: {ipv4Address: 10.0.0.2/24, ipv6Address: 'fd00::2/64'}}
---
kind: Node
metadata: {name: rr, labels: {rr: ''}}
spec: {bgp: {ipv4Address: 10.0.0.3/24, routeReflectorClusterID: 244.0.0.1}}
---
kind: BlockAffinity
spec: {node: n1, cidr: 10.1.0.0/26, state: confirmed}
---
kind: BlockAffinity
spec: {node: n1, cidr: 10.1.1.0/26, state: pending}
---
kind: BlockAffinity
spec: {node: n1, cidr: 'fd00:1::/122'}
---
kind: WorkloadEndpoint
metadata: {namespace: d, creationTimestamp: '2026-01-01T00:00:00Z'}
spec:
  node: n1
  orchestrator: k8s
  pod: p
  endpoint: eth0
  ipNetworks: [10.1.0.1, 10.1.7.7]
  interfaceName: cali1
---
kind: BGPPeer
metadata: {name: rrs}
spec: {nodeSelector: '!has(rr)', peerSelector: has(rr)}
---
kind: BGPPeer
metadata: {name: tor}
spec:
  nodeSelector: rack == 'a'
  peerIP: 192.0.2.1
  asNumber: 65001
  localASNumber: 65100
  reachableBy: 10.0.0.254
  filters: [f]
  password: {secretKeyRef: {name: s, key: k}}
  ttlSecurity: 2
  keepaliveTime: 20s
  maxRestartTime: 5m
  numAllowedLocalASNumbers: 1
  nextHopMode: Keep
---
kind: BGPFilter
metadata: {name: f}
spec:
  exportV4:
  - {action: Reject, cidr: 10.1.7.0/24, matchOperator: In, prefixLength: {min: 32}}
  - action: Accept
    source: RemotePeers
    interface: 'eth*'
    peerType: eBGP
    communities: {values: ['65000:1']}
    asPathPrefix: [65001, 65002]
    priority: 100
    operations:
    - {addCommunity: {value: '65000:1:2'}}
    - {prependASPath: {prefix: [1, 2]}}
    - {setPriority: {value: 77}}
  - {action: Reject, cidr: 10.1.0.0/16, matchOperator: NotIn}
  importV4:
  - {action: Accept, cidr: 10.9.0.0/16, matchOperator: Equal}
  - {action: Reject, cidr: 10.9.0.0/16, matchOperator: NotEqual}"""
PASSWORDS = {SecretRef("s", "k"): "pa;ss } # word"}


def everything(name: str = "n1") -> NodePlan:
    return plan_node(cluster(EVERYTHING), name)


def section(text: str, title: str) -> str:
    """Give the text of one protocol or function."""
    found = re.search(rf"^{re.escape(title)}.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[0]


@pytest.mark.parametrize("name", ["n1", "n2", "rr"])
@pytest.mark.parametrize(("version", "family"), [(2, 4), (1, 4), (1, 6)])
@pytest.mark.parametrize("reflector", [False, True])
def test_the_real_parser_takes_it(name: str, version: int, family: int, reflector: bool) -> None:
    text = bird(everything(name), version, PASSWORDS, BirdOptions(reflector=reflector), family=family)
    verdict = check_bird(text, version, family)
    assert verdict.accepted, verdict.message


def test_the_parser_used_here_refuses_what_is_wrong() -> None:
    assert not check_bird("router id 1.2.3.4;\nprotocol bgp x {").accepted
    for family in (4, 6):
        assert not check_bird("router id 1.2.3.4;\nprotocol bgp x {", 1, family).accepted


def test_a_session_says_all_its_terms() -> None:
    tor = section(bird(everything(), 2, PASSWORDS), "protocol bgp Node_192_0_2_1 ")
    for line in (
        "local 10.0.0.1 port 1790 as 65100;",
        "strict bind on;",
        "neighbor 192.0.2.1 as 65001;",
        "multihop 2;",
        "ttl security on;",
        'password "pa;ss } # word";',
        "graceful restart time 300;",
        "hold time 60;",
        "keepalive time 20;",
        "allow local as 1;",
        "gateway recursive;",
        "next hop keep;",
        "bgpfilter_f_import_v4(false);",
        "bgpfilter_f_export_v4(false);",
        "cairn_export_v4(false);",
    ):
        assert line in tor
    assert "\nrouter id 10.0.0.1;" in bird(everything())
    assert "passive" not in tor
    assert "add paths on;" not in tor  # towards another AS the same path would only be told several times
    assert "add paths on;" in section(bird(everything()), "protocol bgp Node_10_0_0_3_port_1790 ")


def test_with_bind_mode_node_ip_no_session_listens_everywhere() -> None:
    terms = "{peerIP: 192.0.2.1, asNumber: 65001, sourceAddress: None}"
    tor = f"kind: BGPPeer\nmetadata: {{name: tor}}\nspec: {terms}"
    bound = "kind: BGPConfiguration\nmetadata: {name: default}\nspec: {bindMode: NodeIP}"
    text = bird(plan_node(cluster(THREE, tor, bound), "n1"))
    assert text.count("strict bind on;") == text.count("protocol bgp ") > 1
    assert "local as" not in text
    assert "local as 64512;" in bird(plan_node(cluster(THREE, tor), "n1"))


def test_a_reflector_names_its_clients_and_its_cluster() -> None:
    client = section(bird(everything("rr")), "protocol bgp Node_10_0_0_1_port_1790 ")
    reflected = "if (source = RTS_BGP) then accept; # reflected as it is"
    for line in ("rr client;", "rr cluster id 244.0.0.1;", "passive on;", "cairn_export_v4(true);"):
        assert line in client
    assert reflected in client
    assert reflected not in bird(everything("rr"), options=BirdOptions(transit=True))


def test_a_reflector_keeps_pools_that_are_not_for_export_from_another_as() -> None:
    tor = "kind: BGPPeer\nmetadata: {name: rr-tor}\nspec: {node: rr, peerIP: 10.0.0.254, asNumber: 65001}"
    text = bird(plan_node(cluster(EVERYTHING, tor), "rr"))
    refused = "if (net ~ 10.2.0.0/16) then reject;"
    reflected = "if (source = RTS_BGP) then accept; # reflected as it is"
    router = section(text, "protocol bgp Node_10_0_0_254 ")
    assert router.index(refused) < router.index(reflected)
    assert refused not in section(text, "protocol bgp Node_10_0_0_1_port_1790 ")
    assert "rr client;" not in router


def test_a_filter_rule_says_every_condition_and_operation() -> None:
    rules = section(bird(everything(), 2, PASSWORDS), "function bgpfilter_f_export_v4")
    assert "if ((net ~ [ 10.1.7.0/24{32,32} ])) then { reject; }" in rules
    assert (
        'if ((source = RTS_BGP) && !same_as && (source != RTS_BGP) && (ifname != "") && (ifname ~ "eth*") && '
        "((65000, 1) ~ bgp_community) && (bgp_path ~ [= 65001 65002 * =]) && "
        "(bgp_local_pref = 2147483547)) then { bgp_large_community.add((65000, 1, 2)); "
        "bgp_path.prepend(2); bgp_path.prepend(1); bgp_local_pref = 2147483570; "
        "if (!same_as) then bgp_med = 77; accept; }"
    ) in rules
    assert "if ((net !~ [ 10.1.0.0/16{16,32} ])) then { reject; }" in rules


def test_the_nodes_own_rules_stand_in_calicos_order() -> None:
    text = section(bird(everything()), "function cairn_export_v4")
    order = [
        "if (net ~ 10.2.0.0/16) then reject; # IPPool hidden: disableBGPExport",
        "if (same_as && ((ifname ~",
        "if (net ~ 10.1.0.0/16) then { bgp_community.add((65000, 10)); bgp_large_community.add(",
        "if (net = 10.1.0.0/26) then accept;",
        "if (net ~ 10.1.0.0/26) then reject;",
        "if (net ~ 10.96.0.0/12) then accept;",
        "if (net ~ 10.1.0.0/16) then accept;",
    ]
    assert [text.index(line) for line in order] == sorted(text.index(line) for line in order)
    assert "10.1.1.0/26" not in text


def test_of_a_block_in_another_the_inner_has_its_say_first() -> None:
    blocks = "\n---\n".join(
        f"kind: BlockAffinity\nspec: {{node: n1, cidr: {cidr}, state: confirmed}}"
        for cidr in ("10.1.0.0/24", "10.1.0.64/26", "10.1.2.0/26")
    )
    text = section(bird(plan_node(cluster(THREE, blocks), "n1")), "function cairn_export_v4")
    order = [
        "if (net = 10.1.0.64/26) then accept;",
        "if (net ~ 10.1.0.64/26) then reject;",
        "if (net = 10.1.0.0/24) then accept;",
        "if (net ~ 10.1.0.0/24) then reject;",
    ]
    assert [text.index(line) for line in order] == sorted(text.index(line) for line in order)


def filtered(rules: str) -> NodePlan:
    tor = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}"
    declared = f"kind: BGPFilter\nmetadata: {{name: f}}\nspec: {{{rules}}}"
    return plan_node(cluster(THREE, tor, declared), "n1")


@pytest.mark.parametrize(
    ("match", "condition"),
    [
        ("cidr: 10.1.0.0/16, matchOperator: Equal", "(net = 10.1.0.0/16)"),
        ("cidr: 10.1.0.0/16, matchOperator: NotEqual", "(net != 10.1.0.0/16)"),
        ("cidr: 10.1.0.0/16, matchOperator: Equal, prefixLength: {min: 17}", "(false)"),
        ("cidr: 10.1.0.0/16, matchOperator: NotEqual, prefixLength: {max: 15}", "(true)"),
        ("cidr: 10.1.0.0/16, matchOperator: In, prefixLength: {max: 15}", "(false)"),
        ("cidr: 10.1.0.0/16, matchOperator: NotIn, prefixLength: {max: 15}", "(true)"),
        ("communities: {values: ['65000:7']}", "((65000, 7) ~ bgp_community)"),
        ("communities: {values: ['65000:1:2']}", "((65000, 1, 2) ~ bgp_large_community)"),
    ],
)
def test_each_match_of_a_rule_in_birds_words(match: str, condition: str) -> None:
    text = bird(filtered(f"importV4: [{{action: Reject, {match}}}]"))
    assert f"if ({condition}) then {{ reject; }}" in section(text, "function bgpfilter_f_import_v4")
    verdict = check_bird(text, 2)
    assert verdict.accepted, verdict.message


@pytest.mark.parametrize(
    ("mode", "which"),
    [
        ("Always", "net ~ 10.1.0.0/16"),
        ("CrossSubnet", "net ~ 10.1.0.0/16 && ! (bgp_next_hop ~ 10.0.0.0/24)"),
    ],
)
def test_routes_of_a_tunnels_pool_stay_out_of_the_kernel_where_the_tunnel_leads(
    mode: str, which: str
) -> None:
    pool = f"kind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.1.0.0/16, vxlanMode: {mode}}}"
    chosen = section(bird(plan_node(cluster(THREE, pool), "n1")), "filter cairn_kernel_v4")
    assert f"if (source = RTS_BGP && {which}) then reject;" in chosen


def test_of_pools_in_one_another_the_inmost_says_whether_a_tunnel_leads_there() -> None:
    pools = {"10.1.0.0/16": "Never", "10.0.0.0/8": "Always", "10.1.1.0/24": "CrossSubnet"}
    declared = [
        f"kind: IPPool\nmetadata: {{name: p{number}}}\nspec: {{cidr: {cidr}, vxlanMode: {mode}}}"
        for number, (cidr, mode) in enumerate(pools.items())
    ]
    text = bird(plan_node(cluster(THREE, *declared), "n1"))
    chosen = section(text, "filter cairn_kernel_v4")
    assert "&& net ~ 10.0.0.0/8 && net !~ [ 10.1.0.0/16+, 10.1.1.0/24+ ]) then reject;" in chosen
    assert "&& net ~ 10.1.1.0/24 && ! (bgp_next_hop ~ 10.0.0.0/24)) then reject;" in chosen
    assert "net ~ 10.1.0.0/16" not in chosen
    verdict = check_bird(text, 2)
    assert verdict.accepted, verdict.message


def test_the_nodes_own_end_of_a_tunnel_outside_its_blocks_is_told_and_not_for_the_kernel() -> None:
    pool = "kind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.1.0.0/16, ipipMode: Always}"
    text = bird(plan_node(cluster(pool, bgp("n1", 1, ", ipv4IPIPTunnelAddr: 10.1.9.1")), "n1"))
    assert "route 10.1.9.1/32 blackhole;" in text
    assert "if (same_as && net !~ [ 10.1.9.1/32 ] && ((ifname ~" in section(text, "function cairn_export_v4")
    assert "if (net = 10.1.9.1/32) then reject;" in section(text, "filter cairn_kernel_v4")
    verdict = check_bird(text, 2)
    assert verdict.accepted, verdict.message


def test_an_interface_is_never_that_of_a_learned_route() -> None:
    rule = "{action: Reject, interface: 'eth*', cidr: 10.0.0.0/8, matchOperator: In}"
    declared = (
        f"kind: BGPFilter\nmetadata: {{name: f}}\nspec: {{importV4: [{rule}], exportV4: [{rule}]}}",
        "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}",
    )
    for version in (1, 2):
        text = bird(plan_node(cluster(THREE, *declared), "n1"), version)
        taken = section(text, "function bgpfilter_f_import_v4")
        assert "if ((net ~ [ 10.0.0.0/8{8,32} ]) && false) then { reject; }" in taken
        told = section(text, "function bgpfilter_f_export_v4")
        assert '(source != RTS_BGP) && (ifname != "") && (ifname ~ "eth*")' in told
        verdict = check_bird(text, version)
        assert verdict.accepted, verdict.message


def test_a_rule_for_every_interface_holds_whatever_the_interface() -> None:
    rule = "{action: Reject, interface: '*'}"
    declared = (
        f"kind: BGPFilter\nmetadata: {{name: f}}\nspec: {{importV4: [{rule}], exportV4: [{rule}]}}",
        "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 65001, filters: [f]}",
    )
    text = bird(plan_node(cluster(THREE, *declared), "n1"))
    for direction in ("import", "export"):
        assert "if (true) then { reject; }" in section(text, f"function bgpfilter_f_{direction}_v4")


def test_bird_1_begins_a_path_with_its_own_as_before_the_filters() -> None:
    rules = section(bird(everything(), 1, PASSWORDS), "function bgpfilter_f_export_v4")
    assert (
        "if (!same_as) then { own_as = bgp_path.first; bgp_path = delete(bgp_path, own_as); } "
        "bgp_path.prepend(2); bgp_path.prepend(1); if (!same_as) then bgp_path.prepend(own_as);"
    ) in rules
    assert "(!same_as && bgp_path ~ [= ? 65001 65002 * =])" in rules
    plain = "exportV4: [{action: Accept, operations: [{setPriority: {value: 77}}]}]"
    assert "bgp_path" not in section(bird(filtered(plain), 1), "function bgpfilter_f_export_v4")


def test_only_what_the_plan_originates_is_announced_of_all_the_kernel_has() -> None:
    origin = section(bird(everything()), "function cairn_origin_v4")
    assert "if (net !~ [ 10.1.0.0/26, 10.1.7.7/32, 10.96.0.0/12 ]) then reject;" in origin
    assert "  reject;\n" in section(bird(everything("n2")), "function cairn_origin_v6")


def test_a_default_route_is_taken_only_if_asked_for() -> None:
    for family, default in ((4, "0.0.0.0/0"), (6, "::/0")):
        line = f"if (net = {default}) then reject;"
        assert line in bird(everything(), 1, family=family)
        assert line not in bird(everything(), 1, options=BirdOptions(accept_default=True), family=family)
        assert line not in bird(everything(), 1, options=BirdOptions(reflector=True), family=family)


def test_ipv6_next_hops_are_the_addresses_the_resources_name() -> None:
    text = bird(everything())
    assert "next hop prefer global;" in section(text, "protocol bgp Mesh_fd00__2 ")
    assert "prefer global" not in section(text, "protocol bgp Node_192_0_2_1 ")


def test_kernel_routes_are_recursive_merged_and_persistent() -> None:
    text = bird(everything())
    kernel = section(text, "protocol kernel kernel4")
    for word in (
        "learn;",
        "persist;",
        "graceful restart;",
        "merge paths on;",
        "export filter cairn_kernel_v4;",
    ):
        assert word in kernel
    chosen = section(text, "filter cairn_kernel_v4")
    assert "net = 10.96.0.0/12) then reject" in chosen
    assert "net ~ 10.1.0.0/16 && ! (bgp_next_hop ~ 10.0.0.0/24)) then reject" in chosen
    assert chosen.splitlines()[2].strip().startswith("if (source = RTS_DEVICE) then reject;")
    assert "ipv4;" in section(text, "protocol direct")  # next hops resolve through them all the same


def test_bird_1_has_a_metric_for_each_route_and_bird_2_one_for_all() -> None:
    plan = replace(everything(), normal_priority=(1024, 600))
    two, one = bird(plan, 2), bird(plan, 1)
    assert "metric 1024;" in section(two, "protocol kernel kernel4")
    assert "metric 600;" in section(two, "protocol kernel kernel6")
    assert "krt_metric" not in two
    assert " metric " not in section(one, "protocol kernel kernel4")
    chosen = section(one, "filter cairn_kernel_v4")
    assert "krt_metric = 1024;" in chosen
    # A small LOCAL_PREF is a router's own scale and tells no priority.
    assert (
        "bgp_local_pref >= 1073741824 && bgp_local_pref < 2147483647) then krt_metric = 2147483647 -"
        in chosen
    )


def test_a_raised_priority_takes_no_block_service_or_gateway_of_this_node() -> None:
    for version in (1, 2):
        raised = section(bird(everything(), version), "function cairn_raised_v4")
        kept = "10.1.0.0/26, 10.96.0.0/12, 192.0.2.1/32"
        assert f"if (bgp_local_pref > 2147482623 && net !~ [ {kept} ]) then preference = 250;" in raised
    none = section(bird(everything("n2")), "function cairn_raised_v6")
    assert "if (bgp_local_pref > 2147482623) then preference = 250;" in none


@pytest.mark.parametrize("kind", ["workload", "block", "borrowed"])
def test_what_a_workload_or_block_has_is_no_service_to_keep_out_of_the_kernel(kind: str) -> None:
    prefix = {"workload": "10.1.0.5/32", "block": "10.1.0.0/26", "borrowed": "10.1.7.7/32"}[kind]
    service = (
        "kind: BGPConfiguration\nmetadata: {name: default}\n"
        f"spec: {{serviceExternalIPs: [{{cidr: {prefix}}}, {{cidr: 203.0.113.0/24}}]}}"
    )
    block = "kind: BlockAffinity\nspec: {node: n1, cidr: 10.1.0.0/26, state: confirmed}"
    workload = (
        "kind: WorkloadEndpoint\nmetadata: {name: w, namespace: d}\n"
        "spec: {node: n1, interfaceName: cali1, ipNetworks: [10.1.0.5, 10.1.7.7]}"
    )
    for version in (1, 2):
        text = bird(plan_node(cluster(THREE, service, block, workload), "n1"), version)
        chosen = section(text, "filter cairn_kernel_v4")
        assert "if (net = 203.0.113.0/24) then reject;" in chosen
        assert prefix not in chosen
        assert prefix not in section(text, "protocol static services4")
        announced = prefix in section(text, "function cairn_origin_v4")
        assert announced == (kind != "workload")  # a block is announced whole


def test_blocks_are_blackholes_and_workloads_are_routed() -> None:
    text = bird(everything())
    assert "route 10.1.0.0/26 blackhole;" in section(text, "protocol static blocks4")
    assert "10.1.1.0/26 blackhole" not in text
    workloads = section(text, "protocol static workloads4")
    assert 'route 10.1.0.1/32 via "cali1";' in workloads
    assert "protocol static workloads4" not in bird(everything(), options=BirdOptions(workloads=False))
    assert "route 192.0.2.1/32 via 10.0.0.254;" in section(text, "protocol static reach4")


def test_a_machine_that_only_reflects_keeps_its_kernel_and_its_routes() -> None:
    text = bird(everything("rr"), options=BirdOptions(reflector=True))
    assert "export none;" in section(text, "protocol kernel kernel4")
    assert "blackhole" not in text
    assert "only reflects" in text


def test_bird_1_has_a_file_for_each_family() -> None:
    files = bird_files(everything(), 1, PASSWORDS)
    assert set(files) == {"bird.conf", "bird6.conf"}
    assert "listen bgp address 10.0.0.1 port 1790;" in files["bird.conf"]
    assert "10.0.0.2" not in files["bird6.conf"]
    assert "fd00::2" in files["bird6.conf"]
    with pytest.raises(ValueError, match="BIRD 3"):
        bird(everything(), 3)


def test_a_session_without_its_password_is_disabled() -> None:
    tor = section(bird(everything()), "protocol bgp Node_192_0_2_1 ")
    assert "disabled on; # the password in secret s/k is not known" in tor
    assert 'password "' not in tor
    assert check_bird(bird(everything())).accepted


@pytest.mark.parametrize("severity", ["Trace", "Debug", "Info", "Warning", "Error", "Fatal", "Panic", "None"])
def test_every_log_level_is_known_to_bird(severity: str) -> None:
    level = f"kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{logSeverityScreen: '{severity}'}}"
    text = bird(plan_node(cluster(THREE, level), "n1"))
    assert check_bird(text).accepted
    assert ("debug all;" in text) == (severity in ("Trace", "Debug"))
    assert ("log stderr" in text) == (severity != "None")


@pytest.mark.parametrize("password", ['a"b', "a\nb", "a\\b", "é", "", "x" * 81, "a'b", "a\0b"])
def test_a_password_bird_cannot_express_is_refused_without_telling_it(password: str) -> None:
    with pytest.raises(RenderError) as caught:
        bird(everything(), 2, {SecretRef("s", "k"): password})
    assert "secret s/k" in str(caught.value)
    assert not password or password not in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_leaves_its_string_or_comment(text: str) -> None:
    assert re.fullmatch(r'"[ -!#-~]*"', described(text))
    assert re.fullmatch(r"[ -~]*", readable(text))
    assert re.fullmatch(r"[A-Za-z0-9_]{1,60}", symbol("x", text))
    try:
        found = quoted(text, "here")
    except RenderError:
        return
    assert re.fullmatch(r'"[ -!#-~]+"', found)


@given(st.text("ab.-_", min_size=1, max_size=90), st.text("ab.-_", min_size=1, max_size=90))
def test_different_names_have_different_symbols(first: str, second: str) -> None:
    assert (symbol("f", first) == symbol("f", second)) == (first == second)


def test_a_lonely_node_has_a_configuration_too() -> None:
    text = bird(plan_node(cluster(MESH_OFF, bgp("n1", 1)), "n1"))
    assert "No sessions are planned" in text
    assert check_bird(text).accepted
    six = bird(plan_node(cluster(node("n1", "{bgp: {ipv6Address: 'fd00::1/64'}}")), "n1"))
    assert check_bird(six).accepted


def test_a_node_passes_nothing_on_unless_it_is_asked_to_or_reflects() -> None:
    tor = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1, asNumber: 65001}"
    resources = cluster(THREE, bgp("rr", 9, ", routeReflectorClusterID: 244.0.0.1"), tor)
    passing = "if (source = RTS_BGP) then reject;"
    plan = plan_node(resources, "n1")
    for version in (1, 2):
        text, transit = bird(plan, version), bird(plan, version, options=BirdOptions(transit=True))
        assert text.count(passing) == len(plan.peerings)
        assert passing not in transit
        for each in (text, transit):
            verdict = check_bird(each, version)
            assert verdict.accepted, verdict.message
    assert passing not in bird(plan_node(resources, "rr"))


def test_bird_1_leaves_workloads_ipv4_routes_to_another_program_and_says_so() -> None:
    workload = (
        "kind: WorkloadEndpoint\nmetadata: {name: n1-k8s-p-eth0, namespace: a}\n"
        "spec: {node: n1, orchestrator: k8s, "
        "pod: p, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.1.0.5, 'fd00:1::5']}"
    )
    plan = plan_node(cluster(THREE, workload), "n1")
    four, six = bird(plan, 1, family=4), bird(plan, 1, family=6)
    assert 'via "cali1"' in bird(plan, 2)
    assert 'via "cali1"' in six
    assert 'via "cali1"' not in four
    assert "BIRD 1.6 cannot route over interfaces without an IPv4 address" in four
