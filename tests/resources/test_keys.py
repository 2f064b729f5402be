"""Calico's etcd keys, to the letter, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.resources import Key, endpoint_name, etcd_key, etcd_prefix, key_of_etcd
from bgpd.resources.keys import KINDS, endpoint_name_parts

EXAMPLES = {
    Key("Node", "n1"): "/calico/resources/v3/projectcalico.org/nodes/n1",
    Key("BGPPeer", "rack-1.tor"): "/calico/resources/v3/projectcalico.org/bgppeers/rack-1.tor",
    Key("BGPConfiguration", "node.n1"): "/calico/resources/v3/projectcalico.org/bgpconfigurations/node.n1",
    Key("BGPFilter", "f"): "/calico/resources/v3/projectcalico.org/bgpfilters/f",
    Key("IPPool", "p"): "/calico/resources/v3/projectcalico.org/ippools/p",
    Key("CalicoNodeStatus", "s"): "/calico/resources/v3/projectcalico.org/caliconodestatuses/s",
    Key(
        "WorkloadEndpoint", "node--1-k8s-pod--a-eth0", "prod"
    ): "/calico/resources/v3/projectcalico.org/workloadendpoints/prod/node--1-k8s-pod--a-eth0",
    Key("IPAMBlock", "10.0.0.0/26"): "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
    Key("IPAMBlock", "fd00::/122"): "/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
    Key("BlockAffinity", "n1/10.0.0.0/26"): "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-26",
    Key("BlockAffinity", "n1/fd00:1::/122"): "/calico/ipam/v2/host/n1/ipv6/block/fd00:1::-122",
    Key("IPAMHandle", "k8s-pod-network.abc"): "/calico/ipam/v2/handle/k8s-pod-network.abc",
    Key("IPAMConfig", "default"): "/calico/ipam/v2/config",
    Key("IPAMConfiguration", "default"): "/calico/resources/v3/projectcalico.org/ipamconfigurations/default",
    Key("CairnConfiguration", "default"): "/cairn/v1/configurations/default",
    Key("NodeLease", "n1"): "/cairn/v1/leases/n1",
    Key("ServiceReport", "agent.n1"): "/cairn/v1/reports/agent.n1",
    Key("ServiceQuestion", "n1.agent.0f"): "/cairn/v1/questions/n1.agent.0f",
}


@pytest.mark.parametrize(("key", "path"), EXAMPLES.items(), ids=str)
def test_a_key_is_where_calico_puts_it(key: Key, path: str) -> None:
    assert etcd_key(key) == path
    assert key_of_etcd(path) == key
    assert path.startswith(etcd_prefix(key.kind))


def test_every_kind_has_an_example() -> None:
    assert {key.kind for key in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize(
    "path",
    [
        "/calico/resources/v3/projectcalico.org/networkpolicies/default/x",
        "/calico/resources/v3/projectcalico.org/nodes/",
        "/calico/resources/v3/projectcalico.org/nodes/a/b",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/only-a-name",
        "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.1-26",
        "/calico/ipam/v2/host/n1/ipv6/block/10.0.0.0-26",
        "/calico/ipam/v2/host/n1/ipv6/block/fd00::%x-122",
        "/calico/ipam/v2/assignment/ipv4/block/nonsense",
        "/cairn/v1/leases/",
        "/cairn/v1/others/n1",
        "/elsewhere",
        "",
    ],
)
def test_a_path_that_is_none_of_ours_has_no_key(path: str) -> None:
    assert key_of_etcd(path) is None


@pytest.mark.parametrize(
    "key",
    [
        Key("BlockAffinity", "no-cidr"),
        Key("IPAMBlock", "10.0.0.1/26"),
        Key("Node", "a/b"),
        Key("Node", ""),
        Key("WorkloadEndpoint", "a"),
        Key("Nodes", "a"),
    ],
    ids=str,
)
def test_a_malformed_key_is_refused(key: Key) -> None:
    with pytest.raises(ValueError, match=r".+"):
        etcd_key(key)


def test_affinities_can_be_narrowed_to_one_node() -> None:
    assert etcd_prefix("BlockAffinity", "n1") == "/calico/ipam/v2/host/n1/"


parts = st.text("abz09-.", min_size=1, max_size=8).filter(lambda text: text.strip("-") == text)


@given(parts, parts, parts, parts)
def test_an_endpoints_name_can_be_taken_apart_again(
    node: str, orchestrator: str, workload: str, endpoint: str
) -> None:
    name = endpoint_name(node, orchestrator, workload, endpoint)
    assert endpoint_name_parts(name) == [node, orchestrator, workload, endpoint]
