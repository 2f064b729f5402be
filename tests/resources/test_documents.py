"""Files are read strictly: every fault with its line, and what was probably meant."""

import json
from contextlib import suppress
from textwrap import dedent

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from bgpd.resources import (
    MODELS,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    Key,
    Node,
    ResourceError,
    documents_schema,
    dump_documents,
    json_schema,
    load_documents,
)
from bgpd.resources.bgp_filter import FilterRuleV4
from tests.resources.test_codec import STORED

PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: tor
spec:
  peerIP: 192.0.2.1
  asNumber: 65001
"""


def refused(text: str) -> str:
    with pytest.raises(ResourceError) as caught:
        load_documents(dedent(text), "f.yaml")
    return str(caught.value)


def test_several_documents_and_lists_are_read() -> None:
    text = (
        PEER
        + "---\n---\n"
        + dedent("""\
        apiVersion: projectcalico.org/v3
        kind: NodeList
        items:
        - apiVersion: projectcalico.org/v3
          kind: Node
          metadata: {name: n1}
        - {apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n2}}
        """)
    )
    assert [str(item.key) for item in load_documents(text, "f")] == ["BGPPeer tor", "Node n1", "Node n2"]


def test_json_is_read_too_also_with_tabs() -> None:
    value = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"é": "😀"}},
    }
    for text in (json.dumps(value), json.dumps(value, indent="\t"), json.dumps([value])):
        (node,) = load_documents(text, "f.json")
        assert node.labels == {"é": "😀"}


def test_an_unknown_field_is_refused_with_line_and_nearest_name() -> None:
    assert refused(PEER + "  keepAliveTime: 5s\n") == (
        "f.yaml:8: BGPPeer tor: spec.keepAliveTime: unknown field keepAliveTime; did you mean keepaliveTime?"
    )


def test_an_unknown_kind_is_refused_with_line_and_nearest_name() -> None:
    assert refused(PEER + "---\n" + PEER.replace("BGPPeer", "BgpPeers")) == (
        "f.yaml:10: unknown kind 'BgpPeers'; did you mean BGPPeer?"
    )


def test_what_is_of_another_program_is_not_taken_for_a_slip_of_the_pen() -> None:
    """Calico's manual has the Secret of a password in the same file as the BGPPeer."""
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: bgp-secrets}\nstringData: {tor: s3cret}\n"
    assert refused(f"{PEER}---\n{secret}").startswith(
        "f.yaml:10: Secret (v1) is no resource of Calico's; passwords are files here, NAME/KEY, "
    )
    operators = "apiVersion: operator.tigera.io/v1\nkind: Installation\nmetadata: {name: default}\n"
    assert refused(operators).startswith("f.yaml:2: Installation (operator.tigera.io/v1) is no resource")
    first = "apiVersion: v1\nkind: bgpPeer\nmetadata: {scope: global, peerIP: 192.0.2.1}\n"
    assert refused(first) == "f.yaml:2: unknown kind 'bgpPeer'; did you mean BGPPeer?"


@pytest.mark.parametrize("kind", ["[Node]", "{Node: 1}", "5", "true"])
def test_a_kind_that_is_no_text_is_an_unknown_one(kind: str) -> None:
    assert refused(PEER.replace("BGPPeer", kind)).startswith("f.yaml:2: unknown kind ")


def test_a_document_without_a_kind_is_told_them_all() -> None:
    assert refused("spec: {}\n").startswith("f.yaml:1: kind is required; known here: BGPConfiguration, ")


def test_all_faults_of_a_file_come_at_once() -> None:
    faults = refused(
        """\
        apiVersion: projectcalico.org/v3
        kind: BGPPeer
        metadata:
          name: tor
        spec:
          peerIP: 192.0.2.300
          asNumber: 0
          filters:
          - ok
          - not"ok
        ---
        apiVersion: v3
        kind: Node
        """
    ).splitlines()
    assert [line.split(" ")[0] for line in faults] == ["f.yaml:6:", "f.yaml:7:", "f.yaml:10:", "f.yaml:12:"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{peerIP: 192.0.2.1, peerSelector: all()}", "exclude each other"),
        ("{peerIP: 192.0.2.1, node: a, nodeSelector: all()}", "exclude each other"),
        ("{peerSelector: all(), asNumber: 5}", "leave it out"),
        ("{peerSelector: rack = 'a'}", "position 6"),
        ("{peerIP: '192.0.2.1:0'}", "port"),
        ("{peerIP: '192.0.2.1:99999'}", "port"),
        ("{peerIP: '192.0.2.1:'}", "port"),
        ("{peerIP: '[2001:db8::1]:'}", "port"),
        ("{peerIP: 'fe80::1%eth0'}", "zone"),
        ("{peerIP: 192.0.2.1, ttlSecurity: 256}", "255"),
        ("{peerIP: 192.0.2.1, maxRestartTime: 2h}", "4095"),
        ("{peerIP: 192.0.2.1, keepaliveTime: 0s}", "keepalive"),
        ("{peerIP: 192.0.2.1, nextHopMode: Maybe}", "'Auto', 'Self' or 'Keep'"),
        ("{peerIP: 192.0.2.1, nextHopMode: Self, keepOriginalNextHop: true}", "exclude each other"),
        ("{peerIP: 192.0.2.1, reachableBy: 'fd00::1'}", "same family"),
        ("{peerSelector: all(), reachableBy: 192.0.2.9}", "needs peerIP"),
        ("{peerIP: 192.0.2.1, asNumber: 4294967296}", "AS number"),
        ("{peerIP: 192.0.2.1, asNumber: 1.10}", "asdot"),
        ("{peerIP: 192.0.2.1, password: {secretKeyRef: {name: a}}}", "is required"),
        ("{peerIP: 192.0.2.1, numAllowedLocalASNumbers: -1}", "0"),
    ],
)
def test_a_bgp_peers_rules_are_kept(spec: str, words: str) -> None:
    text = f"apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: p}}\nspec: {spec}\n"
    assert words in refused(text)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{action: Maybe}", "'Accept' or 'Reject'"),
        ("{}", "is required"),
        ("{action: Accept, cidr: 10.0.0.0/8}", "go together"),
        ("{action: Accept, matchOperator: In}", "go together"),
        ("{action: Accept, prefixLength: {min: 8}}", "needs a cidr"),
        ("{action: Accept, cidr: 10.0.0.1/8, matchOperator: In}", "did you mean 10.0.0.0/8"),
        ("{action: Accept, cidr: 'fd00::/8', matchOperator: In}", "IPv6 CIDR in an IPv4 rule"),
        (
            "{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 24, max: 16}}",
            "greater",
        ),
        ("{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 33}}", "32"),
        ("{action: Reject, operations: [{setPriority: {value: 1}}]}", "not changed"),
        ("{action: Accept, operations: []}", "at least 1"),
        ("{action: Accept, operations: [{}]}", "exactly one"),
        ("{action: Accept, operations: [{setPriority: {value: 0}}]}", "1"),
        ("{action: Accept, operations: [{addCommunity: {value: '65536:1'}}]}", "65535"),
        ("{action: Accept, communities: {values: ['1:1', '1:2']}}", "at most 1"),
        ("{action: Accept, interface: 'a b'}", "interface"),
    ],
)
def test_a_filter_rules_rules_are_kept(rule: str, words: str) -> None:
    text = (
        "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: f}\n"
        f"spec:\n  exportV4:\n  - {rule}\n"
    )
    assert words in refused(text)


@pytest.mark.parametrize(
    ("kind", "name", "spec", "words"),
    [
        ("BGPConfiguration", "node.a", "{asNumber: 5}", "default"),
        ("BGPConfiguration", "node.a", "{nodeToNodeMeshEnabled: false}", "default"),
        ("BGPConfiguration", "node.a", "{serviceClusterIPs: [{cidr: 10.96.0.0/12}]}", "default"),
        ("BGPConfiguration", "default", "{listenPort: 0}", "1"),
        ("BGPConfiguration", "default", "{nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 9s}", "mesh"),
        ("BGPConfiguration", "default", "{communities: [{name: a, value: '1:2:3:4'}]}", "community"),
        ("BGPConfiguration", "default", "{logSeverityScreen: loud}", "'Info'"),
        ("BGPConfiguration", "default", "{ignoredInterfaces: ['docker*', '*']}", "no interface by which"),
        ("BGPPeer", "p", "{peerIP: 10.0.0.1, keepaliveTime: 21846s}", "1s to 21845s"),
        ("BGPPeer", "p", "{peerIP: 10.0.0.1, keepaliveTime: 999ms}", "1s to 21845s"),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, blockSize: 33}", "20 to 32"),
        ("IPPool", "p", "{cidr: 10.0.0.0/27, blockSize: 26}", "fit"),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, vxlanMode: Always, ipipMode: Always}", "exclude"),
        ("IPPool", "p", "{cidr: 'fd00::/64', ipipMode: Always}", "IPv4"),
        ("IPPool", "p", "{}", "is required"),
        ("Node", "n", "{bgp: {routeReflectorClusterID: 'fd00::1'}}", "cluster ID"),
        ("BGPConfiguration", "default", "{nodeMeshMaxRestartTime: 2h}", "4095"),
        ("BGPConfiguration", "default", f"{{nodeMeshMaxRestartTime: {'9' * 400}s}}", "no duration"),
        ("BGPConfiguration", "default", "{nodeMeshMaxRestartTime: 1e999}", "no duration"),
        ("BlockAffinity", "a", '{node: "a\\e[31mb", cidr: 10.0.0.0/26}', "is no name"),
        ("BlockAffinity", "a", "{node: .., cidr: 10.0.0.0/26}", "is no name"),
        ("IPAMHandle", "h", '{handleID: "h\\e[31m"}', "is no name"),
        ("IPAMHandle", "h", "{handleID: a/b}", "is no name"),
        ("FelixConfiguration", "default", "{}", "a kind of Calico's that Cairn leaves to Felix"),
        ("IPReservation", "r", "{}", "a kind of Calico's that Cairn leaves to Calico's own programs"),
        ("Node", "n", "{bgp: {ipv4Address: 300.0.0.1}}", "address"),
        ("Node", "n", "{vxlanTunnelMACAddr: nonsense}", "no MAC address"),
        ("Node", "n", "{vxlanTunnelMACAddr: '00:00:00:00:00:00'}", "no MAC address"),
        ("Node", "n", "{vxlanTunnelMACAddrV6: '01:00:5e:00:00:01'}", "no MAC address"),
        ("Node", "n", "{ipv4VXLANTunnelAddr: 'fd00::1'}", "IPv4 address belongs"),
        ("Node", "n", "{ipv6VXLANTunnelAddr: 10.0.0.1}", "IPv6 address belongs"),
        ("Node", "'a/b'", "{}", "name"),
        ("WorkloadEndpoint", "w", "{ipNetworks: [10.0.0.0/26]}", "more than one address"),
        ("WorkloadEndpoint", "w", "{ipNetworks: [10.0.0.1/24]}", "more than one address"),
        ("WorkloadEndpoint", "w", "{ipNetworks: ['fd00::/127']}", "more than one address"),
        ("WorkloadEndpoint", "w", "{ipNetworks: [here]}", "no address such as"),
        (
            "BGPConfiguration",
            "default",
            "{listenPort: true}",
            "listenPort: a number is expected here",
        ),
        ("BGPPeer", "p", "{peerIP: 10.0.0.1, ttlSecurity: true}", "a number is expected here, not true"),
        ("BGPFilter", "f", "{exportV4: [{action: Accept, priority: true}]}", "a number is expected here"),
        ("CairnConfiguration", "default", "{maxPrefixes: true}", "a number is expected here, not true"),
        ("Node", "n", f"{{bgp: {{asNumber: '{'9' * 5000}'}}}}", "an AS number is 1 to 4294967295"),
    ],
)
def test_each_kinds_ranges_and_exclusions_are_kept(kind: str, name: str, spec: str, words: str) -> None:
    version = MODELS[kind].API_VERSION if kind in MODELS else "projectcalico.org/v3"
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    assert words in refused(text)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("BGPPeer", "{peerIP: 10.0.0.1, keepaliveTime: 1s}"),
        ("BGPPeer", "{peerIP: 10.0.0.1, keepaliveTime: 21845s}"),
        ("IPPool", "{cidr: 10.0.0.0/16, blockSize: 20}"),
        ("IPPool", "{cidr: 10.0.0.0/16, blockSize: 32}"),
    ],
)
def test_the_ends_of_a_range_are_in_it(kind: str, spec: str) -> None:
    head = f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: a}}\n"
    assert len(load_documents(f"{head}spec: {spec}\n", "a.yaml")) == 1


def test_what_a_rule_has_empty_is_absent() -> None:
    rule = "action: Accept, cidr: '', matchOperator: '', source: '', interface: '', peerType: ''"
    head = "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: f}\n"
    (read,) = load_documents(f"{head}spec: {{exportV4: [{{{rule}}}]}}\n", "filter.yaml")
    assert isinstance(read, BGPFilter)
    assert read.spec.export_v4 == [FilterRuleV4(action="Accept")]


@pytest.mark.parametrize("severity", ["info", "INFO", "Info"])
def test_a_severity_is_written_in_any_case(severity: str) -> None:
    """Calico's API has it so: a cluster's settings are not refused for a capital letter."""
    text = (
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n"
        f"spec: {{logSeverityScreen: {severity}, nodeToNodeMeshEnabled: false}}\n"
    )
    (found,) = load_documents(text, "f")
    assert found.spec.log_severity_screen == "Info"
    (without,) = load_documents(text.replace(severity, "''"), "f")
    assert without.spec.log_severity_screen is None


def test_a_disabled_pool_may_be_smaller_than_its_blocks() -> None:
    """It gives out no addresses; Calico stores its default block size with it."""
    text = (
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: beyond}\n"
        "spec: {cidr: 192.0.2.5/32, blockSize: 26, disabled: true}\n"
    )
    (found,) = load_documents(text, "f")
    assert str(found.spec.cidr) == "192.0.2.5/32"
    assert "fit" in refused(text.replace(", disabled: true", ""))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("IPPool", "spec: {cidr: 10.0.0.0/16}\nstatus: {conditions: [{type: Allocatable, status: 'True'}]}"),
        ("IPAMBlock", "spec: {cidr: 10.0.0.0/26, affinityClaimTime: '2026-01-01T00:00:00Z'}"),
        ("IPAMBlock", "spec: {cidr: 10.0.0.0/26, attributes: [{handle_id: h, alternate: {pod: p}}]}"),
        ("IPAMConfig", "spec: {strictAffinity: true, kubeVirtVMAddressPersistence: Enabled}"),
        ("IPAMConfiguration", "spec: {autoAllocateBlocks: true, minIPReclaimAgeSeconds: 60}"),
        ("WorkloadEndpoint", "spec: {node: n1, qosControls: {ingressBandwidth: 1000000, dscp: AF11}}"),
        ("BlockAffinity", "spec: {node: n1, cidr: 10.0.0.0/26, state: confirmed, deleted: ''}"),
    ],
)
def test_what_newer_calicos_show_of_their_own_is_kept(kind: str, body: str) -> None:
    text = f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: x}}\n{body}\n"
    (found,) = load_documents(text, "f")
    assert load_documents(dump_documents([found]), "again") == [found]


def test_a_community_needs_no_quotes_and_a_word_is_a_word() -> None:
    """PyYAML alone reads 65000:10 as a number to the base of 60, and `on` as true."""
    text = dedent("""\
        apiVersion: projectcalico.org/v3
        kind: BGPConfiguration
        metadata: {name: default, labels: {power: on, day: 2026-01-01, big: 0123}}
        spec: {communities: [{name: a, value: 65000:10}]}
        """)
    (found,) = load_documents(text, "f")
    assert isinstance(found, BGPConfiguration)
    assert str((found.spec.communities or [])[0].value) == "65000:10"
    assert found.labels == {"power": "true", "day": "2026-01-01", "big": "0123"}


@pytest.mark.parametrize("namespace", ["a/b", "..", ".hid", '"e\\e[31m"'])
def test_a_namespace_is_a_name(namespace: str) -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
    text = f"{head}metadata: {{name: w, namespace: {namespace}}}\n"
    assert "metadata.namespace: " in refused(text)
    assert "is no name" in refused(text)


def test_what_only_address_management_reads_may_be_of_a_newer_calico() -> None:
    text = "{cidr: 10.0.0.0/16, allowedUses: [Workload, Moon], assignmentMode: Sometimes}"
    head = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\n"
    (found,) = load_documents(f"{head}spec: {text}\n", "f")
    assert load_documents(dump_documents([found]), "again") == [found]


def test_a_label_is_text_however_it_is_written() -> None:
    """As `calicoctl` reads it, whose own tests select `yes` by 'true'."""
    labels = "{rack: 1, rr: yes, up: True, no: off, quoted: 'yes', none: , version: 1.10}"
    (found,) = load_documents(A_NODE % (f", labels: {labels}", ""), "f")
    read = {
        "rack": "1",
        "rr": "true",
        "up": "true",
        "no": "false",
        "quoted": "yes",
        "none": "",
        "version": "1.10",
    }
    assert found.labels == read
    assert load_documents(dump_documents([found]), "again") == [found]


@pytest.mark.parametrize("name", ["007", "08", "0o17", "0x1F", "1e3", "1.10", "1.50", "17", "1.5", "0.30e1"])
def test_a_number_where_text_belongs_is_what_was_written(name: str) -> None:
    """A name that is a number is not another name afterwards, also not in JSON."""
    head = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\n"
    (found,) = load_documents(
        f"{head}metadata: {{name: {name}}}\nspec: {{peerIP: 192.0.2.1, asNumber: 0xFDE9}}\n", "f"
    )
    assert isinstance(found, BGPPeer)
    assert (found.name, found.spec.as_number) == (name, 65001)
    assert load_documents(dump_documents([found]), "again") == [found]
    as_text = yaml.safe_load(dump_documents([found]))["metadata"]["name"]
    assert as_text == name  # also for who reads YAML 1.1


def test_a_number_of_json_where_text_belongs_is_what_was_written() -> None:
    text = (
        '{"apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": 1.10},'
        ' "spec": {"peerIP": "192.0.2.1", "asNumber": 65001}}'
    )
    assert load_documents(text, "f")[0].name == "1.10"


def test_numbers_of_fields_nobody_knows_are_kept_as_numbers() -> None:
    (found,) = load_documents(A_NODE % (", managedFields: [{since: 0x10}]", ""), "f")
    assert load_documents(dump_documents([found]), "again") == [found]
    assert "since: 16" in dump_documents([found])


def test_numbers_are_text_where_text_belongs_and_truth_values_are_not() -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
    text = head + "metadata: {name: %s}\nspec: {containerID: %s}"
    (found,) = load_documents(text % (17, 1337495556942031415926535), "f")
    assert (found.name, found.spec.container_id) == ("17", "1337495556942031415926535")
    with pytest.raises(ResourceError, match="text is expected here, not True; put it in quotes"):
        load_documents(text % ("a", "true"), "f")


@pytest.mark.parametrize("kind", ["BGPConfiguration", "BGPFilter", "Node"])
def test_an_empty_spec_is_an_absent_one(kind: str) -> None:
    head = f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: default}}\n"
    assert load_documents(head + "spec:\n", "f") == load_documents(head, "f")


def test_an_empty_block_of_service_addresses_is_kept_and_announces_nothing() -> None:
    (found,) = load_documents(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n"
        "spec: {serviceClusterIPs: [{}, {cidr: ''}, {cidr: 10.96.0.0/12}]}",
        "f",
    )
    assert [block.cidr and str(block.cidr) for block in found.spec.service_cluster_ips] == [
        None,
        None,
        "10.96.0.0/12",
    ]


def test_a_nodes_own_communities() -> None:
    (found,) = load_documents(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: node.n1}\n"
        "spec: {communities: [{name: large, value: '50:50:5364'}],"
        " prefixAdvertisements: [{cidr: 192.168.0.0/16, communities: [large, '5663:12']}]}",
        "f",
    )
    assert str(found.spec.community("large")) == "50:50:5364"


def test_a_field_given_twice_is_refused_unless_it_says_the_same() -> None:
    assert refused(PEER + "  peerIP: 192.0.2.2\n") == "f.yaml:8: peerIP is given twice; keep one"
    assert load_documents(PEER + "  peerIP: 192.0.2.1\n", "f") == load_documents(PEER, "f")


def test_a_resource_given_twice_is_refused() -> None:
    assert "f.yaml:9: BGPPeer tor was already given on line 1" in refused(PEER + "---\n" + PEER)


def test_what_is_no_yaml_is_refused_with_its_line() -> None:
    assert refused("a: b\nc: [1\n").startswith("f.yaml:")


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for letter, former in zip("bcdefghij", "abcdefghi", strict=True):
        bomb += f"{letter}: &{letter} [{','.join([f'*{former}'] * 10)}]\n"
    assert "f.yaml" in refused(bomb)


def test_an_endpoints_name_is_made_of_its_parts_or_must_agree_with_them() -> None:
    text = dedent("""\
        apiVersion: projectcalico.org/v3
        kind: WorkloadEndpoint
        metadata: {namespace: prod}
        spec: {node: n-1, orchestrator: k8s, pod: p, endpoint: eth0, ipNetworks: [10.0.0.1]}
        """)
    (endpoint,) = load_documents(text, "f")
    assert endpoint.key == Key("WorkloadEndpoint", "n--1-k8s-p-eth0", "prod")
    assert "write n--1-k8s-p-eth0" in refused(text.replace("{namespace", "{name: other, namespace"))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("{node: n-1, orchestrator: cni, containerID: c-1, endpoint: eth0}", "n--1-cni-c--1-eth0"),
        ("{node: n1, orchestrator: libnetwork, endpoint: e1}", "n1-libnetwork-libnetwork-e1"),
        ("{node: n1, orchestrator: vms, workload: w-1, endpoint: e1}", "n1-vms-w--1-e1"),
    ],
)
def test_each_orchestrators_endpoints_are_named_as_calico_names_them(spec: str, name: str) -> None:
    text = f"apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{}}\nspec: {spec}\n"
    (endpoint,) = load_documents(text, "f")
    assert endpoint.key == Key("WorkloadEndpoint", name, "default")


def test_a_name_is_required() -> None:
    assert "metadata.name is required" in refused("apiVersion: projectcalico.org/v3\nkind: Node\n")


def test_what_is_written_is_read_back() -> None:
    resources = load_documents(PEER, "f")
    text = dump_documents(resources)
    assert load_documents(text, "f") == resources
    assert isinstance(resources[0], BGPPeer)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ResourceError):
        load_documents(text, "f")


@given(st.text(st.characters(codec="utf-8"), max_size=30))
@example("\x85")
@example("0E0")
@example("a\u2028b\u2029\ufeff")
def test_any_label_survives_a_file(text: str) -> None:
    node = Node(metadata={"name": "n1", "labels": {"a": text}})
    (back,) = load_documents(dump_documents([node]), "f")
    assert back.labels == {"a": text}


@pytest.mark.parametrize("kind", ["BGPPeer", "BGPFilter", "Node", "BGPConfiguration", "CairnConfiguration"])
def test_a_schema_names_the_fields_as_they_are_written(kind: str) -> None:
    text = json.dumps(json_schema(kind))
    key = next(key for key in STORED if key.kind == kind)
    for name in STORED[key]["spec"]:
        assert f'"{name}"' in text
    assert json_schema(kind)["properties"]["kind"] == {"const": kind}


def test_one_schema_covers_all_documents() -> None:
    schema = documents_schema()
    assert {key.kind for key in STORED} == {item["$ref"].removeprefix("#/$defs/") for item in schema["oneOf"]}


A_PEER = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: tor}\nspec:\n  %s\n"
A_NODE = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1%s}\nspec: {%s}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (A_PEER % "peerIp: 10.0.0.1", "spec.peerIp: unknown field peerIp; did you mean peerIP?"),
        (A_PEER % "{peerIP: 10.0.0.1, filters: mine}", "spec.filters: a list is expected here, not 'mine'"),
        (A_PEER % "{peerIP: 10.0.0.1, nodeSelector: a = 'b'}", "expected '==' (two of them) at position 3"),
        (A_PEER % "{peerIP: 10.0.0.1, nodeSelector: a == b}", "expected a value in quotes, such as 'a'"),
        (
            A_PEER % "{peerIP: 10.0.0.1, nodeSelector: has(a}",
            "expected a label in parentheses, such as has(a)",
        ),
        (A_PEER % "peerIP: 10.0.0.1\n\tfilters: []", "there is a tab, and YAML is indented with spaces"),
        (A_NODE % ("", "bgp: {routeReflectorClusterID: 5}"), "it is written like an IPv4 address"),
    ],
)
def test_what_operators_often_get_wrong_is_told_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(ResourceError) as error:
        load_documents(text, "wrong.yaml")
    assert said in str(error.value)


def test_a_password_written_where_its_reference_belongs_is_not_repeated() -> None:
    for wrong in ("s3cret", "{secretKeyRef: s3cret}"):
        with pytest.raises(ResourceError) as error:
            load_documents(A_PEER % f"{{peerIP: 10.0.0.1, password: {wrong}}}", "wrong.yaml")
        assert "fields are expected here" in str(error.value)
        assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 200_000, "[" * 60_000 + "]" * 60_000, "- " * 60_000, "{a: " * 60_000])
def test_what_nests_deeper_than_any_stack_is_refused(text: str) -> None:
    with pytest.raises(ResourceError, match=r"^f\.yaml:1: nested deeper than 64 levels"):
        load_documents(text, "f.yaml")
    flat = "\n".join("- {a: [1, 2]}" for _ in range(3000))  # many brackets are no depth
    with pytest.raises(ResourceError, match="kind is required"):
        load_documents(flat, "f.yaml")
