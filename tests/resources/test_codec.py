"""What a store holds is read, and what is not understood is written again unharmed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.resources import (
    MODELS,
    BGPPeer,
    BlockAffinity,
    IPAMBlock,
    Key,
    Node,
    ResourceError,
    WorkloadEndpoint,
    decode,
    encode,
)
from bgpd.resources.resource_set import ResourceSet
from bgpd.resources.scalars import Community, read_duration, write_duration

_BODIES: dict[Key, dict[str, Any]] = {
    Key("Node", "n1"): {
        "metadata": {
            "name": "n1",
            "uid": "0f-1",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"rack": "r1"},
            "annotations": {"cairn.dev/learn-only": "true"},
            "managedFields": [{"manager": "x"}],
        },
        "spec": {
            "bgp": {
                "asNumber": 65001,
                "ipv4Address": "10.0.0.1/24",
                "ipv6Address": "fd00::1/64",
                "ipv4IPIPTunnelAddr": "10.1.0.1",
                "routeReflectorClusterID": "244.0.0.1",
            },
            "ipv4VXLANTunnelAddr": "10.1.0.2",
            "vxlanTunnelMACAddr": "66:00:00:00:00:01",
            "ipv6VXLANTunnelAddr": "fd00:1::2",
            "vxlanTunnelMACAddrV6": "66:00:00:00:00:02",
            "orchRefs": [{"nodeName": "n1", "orchestrator": "k8s"}],
            "addresses": [{"address": "10.0.0.1/24", "type": "CalicoNodeIP"}],
            "wireguard": {"interfaceIPv4Address": "10.2.0.1"},
        },
        "status": {"wireguardPublicKey": "abc", "podCIDRs": ["10.3.0.0/24"]},
    },
    Key("BGPConfiguration", "default"): {
        "spec": {
            "logSeverityScreen": "Info",
            "nodeToNodeMeshEnabled": True,
            "asNumber": 63400,
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "104.244.42.129/32"}],
            "serviceLoadBalancerIPs": [{"cidr": "172.217.3.0/24"}],
            "serviceLoadBalancerAggregation": "Disabled",
            "communities": [{"name": "bgp-large", "value": "63400:300:100"}],
            "prefixAdvertisements": [{"cidr": "172.218.4.0/26", "communities": ["bgp-large", "63400:120"]}],
            "listenPort": 178,
            "bindMode": "NodeIP",
            "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}},
            "nodeMeshMaxRestartTime": "2m0s",
            "ignoredInterfaces": ["docker*"],
            "ipv4NormalRoutePriority": 1024,
            "ipv6NormalRoutePriority": 1025,
        },
    },
    Key("BGPPeer", "some.name"): {
        "spec": {
            "nodeSelector": "rack == 'r1'",
            "peerIP": "[fd00::9]:1790",
            "asNumber": 64567,
            "localASNumber": 64568,
            "nextHopMode": "Keep",
            "password": {"secretKeyRef": {"name": "bgp", "key": "tor", "optional": False}},
            "sourceAddress": "UseNodeIP",
            "maxRestartTime": "1m30s",
            "keepaliveTime": "20s",
            "numAllowedLocalASNumbers": 2,
            "ttlSecurity": 1,
            "reachableBy": "fd00::1",
            "filters": ["a", "b"],
            "reversePeering": "Manual",
        },
    },
    Key("BGPFilter", "f"): {
        "spec": {
            "exportV4": [
                {
                    "cidr": "77.0.0.0/16",
                    "prefixLength": {"min": 16, "max": 24},
                    "matchOperator": "In",
                    "source": "RemotePeers",
                    "interface": "eth*",
                    "peerType": "eBGP",
                    "communities": {"values": ["65000:1"]},
                    "asPathPrefix": [65000, 65001],
                    "priority": 1024,
                    "action": "Accept",
                    "operations": [
                        {"addCommunity": {"value": "65000:1:2"}},
                        {"prependASPath": {"prefix": [65002]}},
                        {"setPriority": {"value": 512}},
                    ],
                }
            ],
            "importV6": [{"cidr": "fd00::/16", "matchOperator": "NotEqual", "action": "Reject"}],
        },
    },
    Key("IPPool", "p"): {
        "spec": {
            "cidr": "10.1.0.0/16",
            "vxlanMode": "Never",
            "ipipMode": "CrossSubnet",
            "natOutgoing": True,
            "disabled": False,
            "disableBGPExport": False,
            "blockSize": 26,
            "nodeSelector": "all()",
            "allowedUses": ["Workload", "Tunnel"],
        },
    },
    Key("WorkloadEndpoint", "n1-k8s-p-eth0", "prod"): {
        "spec": {
            "orchestrator": "k8s",
            "node": "n1",
            "containerID": "abc",
            "pod": "p",
            "endpoint": "eth0",
            "serviceAccountName": "default",
            "ipNetworks": ["10.1.0.5/32", "fd00:1::5/128"],
            "ipNATs": [{"internalIP": "10.1.0.5", "externalIP": "192.0.2.5"}],
            "ipv4Gateway": "",
            "profiles": ["kns.prod"],
            "interfaceName": "cali0ef24ba",
            "mac": "ca:fe:1d:52:bb:e9",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""}],
            "allowSpoofedSourcePrefixes": ["192.0.2.0/24"],
        },
    },
    Key("CalicoNodeStatus", "s"): {
        "spec": {"node": "n1", "classes": ["Agent", "BGP"], "updatePeriodSeconds": 10},
        "status": {
            "agent": {"birdV4": {"state": "Ready", "version": "v1", "routerID": "10.0.0.1"}},
            "bgp": {
                "numberEstablishedV4": 1,
                "numberNotEstablishedV4": 0,
                "peersV4": [{"peerIP": "10.0.0.2", "type": "NodeMesh", "state": "Established"}],
            },
            "routes": {"routesV4": [{"type": "FIB", "learnedFrom": {"sourceType": "NodeMesh"}}]},
        },
    },
    Key("BlockAffinity", "n1/10.1.0.0/26"): {"state": "confirmed", "deleted": False},
    Key("IPAMBlock", "10.1.0.0/29"): {
        "cidr": "10.1.0.0/29",
        "affinity": "host:n1",
        "allocations": [0, None, None, None, None, None, None, None],
        "unallocated": [1, 2, 3, 4, 5, 6, 7],
        "attributes": [{"handle_id": "h", "secondary": {"node": "n1"}}],
        "sequenceNumber": 7,
        "sequenceNumberForAllocation": {"0": 6},
        "deleted": False,
    },
    Key("IPAMHandle", "h"): {"block": {"10.1.0.0/29": 1}, "deleted": False},
    Key("IPAMConfig", "default"): {
        "strict_affinity": True,
        "auto_allocate_blocks": True,
        "maxBlocksPerHost": 20,
    },
    Key("IPAMConfiguration", "default"): {
        "spec": {"strictAffinity": False, "maxBlocksPerHost": 4, "kubeVirtVMAddressPersistence": "Enabled"},
    },
    Key("CairnConfiguration", "default"): {
        "spec": {"reflectors": {"count": 3, "nodeSelector": "has(rr)", "clusterID": "244.0.0.2"}},
    },
    Key("NodeLease", "n1"): {
        "spec": {"holder": "n1/123", "since": "2026-01-01T00:00:00Z"},
    },
    Key("ServiceReport", "agent.n1"): {
        "spec": {
            "service": "agent",
            "node": "n1",
            "reportedAt": "2026-01-01T00:00:00Z",
            "since": "2026-01-01T00:00:00Z",
            "status": {"ready": False, "log_level": "info"},
            "down": [{"name": "rr-1", "last_reason": "connection refused"}],
        },
    },
    Key("ServiceQuestion", "n1.agent.0f"): {
        "spec": {"service": "agent", "node": "n1", "what": "routes", "query": {"longer": "true"}},
        "status": {"document": {"total": 0, "routes": []}},
    },
}


_OURS = ("CairnConfiguration", "NodeLease", "ServiceReport", "ServiceQuestion")
_BARE = ("BlockAffinity", "IPAMBlock", "IPAMHandle", "IPAMConfig")


def _stored(key: Key, body: dict[str, Any]) -> dict[str, Any]:
    if key.kind in _BARE:
        return body
    metadata = {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})}
    version = "cairn.dev/v1" if key.kind in _OURS else "projectcalico.org/v3"
    return {"kind": key.kind, "apiVersion": version, "metadata": metadata, **body}


STORED = {key: _stored(key, body) for key, body in _BODIES.items()}


@pytest.mark.parametrize("odd", ["yesterday", "2026-01-01T00:00:00", ""])
def test_a_report_of_no_known_time_is_refused(odd: str) -> None:
    key = Key("ServiceReport", "agent.n1")
    stored = {**STORED[key], "spec": {**STORED[key]["spec"], "reportedAt": odd}}
    with pytest.raises(ResourceError, match=r"reportedAt.*a time is written like"):
        decode(key, json.dumps(stored).encode())


def test_every_kind_is_among_the_examples() -> None:
    assert {key.kind for key in STORED} == set(MODELS)


@pytest.mark.parametrize("key", STORED, ids=str)
def test_a_stored_value_is_written_again_as_it_was(key: Key) -> None:
    value = STORED[key]
    resource = decode(key, json.dumps(value).encode())
    assert resource.key == key
    written = json.loads(encode(resource))
    expected = json.loads(json.dumps(value))
    if key.kind == "WorkloadEndpoint":
        assert written["spec"].pop("ipv4Gateway") == expected["spec"].pop("ipv4Gateway")
    assert written == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _objects(value: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        found.append(value)
        for item in value.values():
            found.extend(_objects(item))
    elif isinstance(value, list):
        for item in value:
            found.extend(_objects(item))
    return found


# Maps from free names to values have no fields one could add to.
_FREE_MAPS = ("labels", "annotations", "block", "secondary", "sequenceNumberForAllocation")


@given(st.sampled_from(sorted(STORED)), st.data())
def test_unknown_fields_at_any_depth_survive(key: Key, data: st.DataObject) -> None:
    value = json.loads(json.dumps(STORED[key]))
    free = [id(item) for part in _objects(value) for name, item in part.items() if name in _FREE_MAPS]
    places = [place for place in _objects(value) if id(place) not in free]
    for place in data.draw(st.lists(st.sampled_from(range(len(places))), min_size=1, max_size=3)):
        places[place]["x" + data.draw(st.text(max_size=5))] = data.draw(json_values)
    resource = decode(key, json.dumps(value).encode())
    assert json.loads(encode(resource)) == value


@pytest.mark.parametrize(
    ("value", "is_confirmed"), [(b"", True), (b"{}", True), (b'{"state":"pending"}', False)]
)
def test_an_empty_affinity_is_a_confirmed_one(value: bytes, is_confirmed: bool) -> None:
    affinity = decode(Key("BlockAffinity", "n1/10.0.0.0/26"), value)
    assert isinstance(affinity, BlockAffinity)
    assert affinity.is_confirmed is is_confirmed
    assert (affinity.node, str(affinity.cidr)) == ("n1", "10.0.0.0/26")


def test_a_stored_peer_that_names_nobody_is_read() -> None:
    """As Calico stores it: one that could not be read would keep a BIRD from every other change."""
    peer = decode(Key("BGPPeer", "p"), b'{"spec":{"node":"n1","peerIP":""}}')
    assert isinstance(peer, BGPPeer)
    assert peer.names_nobody


def test_metadata_missing_in_a_store_is_completed_from_the_key() -> None:
    node = decode(Key("Node", "n1"), b'{"spec":{"bgp":{"asNumber":"1.10","ipv4Address":"10.0.0.1"}}}')
    assert isinstance(node, Node)
    assert (node.name, node.bgp.as_number, str(node.ipv4)) == ("n1", 65546, "10.0.0.1/32")
    endpoint = decode(Key("WorkloadEndpoint", "a", "ns"), b'{"spec":{"ipNetworks":["10.0.0.1"]}}')
    assert isinstance(endpoint, WorkloadEndpoint)
    assert endpoint.metadata.namespace == "ns"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (Key("Node", "n1"), b"\xff", ["/nodes/n1", "not JSON"]),
        (Key("Node", "n1"), b"[]", ["/nodes/n1", "not an object"]),
        (Key("Node", "n1"), b'{"metadata":{"name":"n2"}}', ["n2", "own key"]),
        (Key("Node", "n1"), b'{"kind":"BGPPeer"}', ["BGPPeer"]),
        (
            Key("Node", "n1"),
            b'{"spec":{"bgp":{"ipv4Address":"fd00::1/64"}}}',
            ["spec.bgp.ipv4Address", "ipv6Address"],
        ),
        (Key("IPAMBlock", "10.0.0.0/26"), b'{"cidr":"10.0.1.0/26"}', ["10.0.1.0/26"]),
        (Key("BlockAffinity", "n1/10.0.0.0/26"), b'{"state":"maybe"}', ["spec.state", "pendingDeletion"]),
    ],
)
def test_a_bad_value_is_refused_with_its_place(key: Key, value: bytes, words: list[str]) -> None:
    with pytest.raises(ResourceError) as caught:
        decode(key, value)
    for word in words:
        assert word in str(caught.value)


@given(st.sampled_from(sorted(STORED)), st.binary(max_size=50))
def test_any_bytes_decode_or_are_refused(key: Key, value: bytes) -> None:
    try:
        resource = decode(key, value)
    except ResourceError:
        return
    assert resource.key == key


def test_a_password_is_a_reference_and_never_a_value() -> None:
    key = Key("BGPPeer", "some.name")
    peer = decode(key, json.dumps(STORED[key]).encode())
    assert isinstance(peer, BGPPeer)
    assert peer.spec.password is not None
    assert peer.spec.password.secret_key_ref is not None
    assert (peer.spec.password.secret_key_ref.name, peer.spec.password.secret_key_ref.key) == ("bgp", "tor")


def test_a_blocks_owner_is_its_affinity() -> None:
    key = Key("IPAMBlock", "10.1.0.0/29")
    block = decode(key, json.dumps(STORED[key]).encode())
    assert isinstance(block, IPAMBlock)
    assert block.node == "n1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h0m0.5s", 3600.5),
        ("250ms", 0.25),
        ("0s", 0.0),
        ("0", 0.0),
        ("0.000001ms", 1e-9),
        ("123.456789ms", 0.123456789),
        ("1m0.000000001s", 60.000000001),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds
    assert read_duration(write_duration(seconds)) == seconds
    assert write_duration(seconds) in (text, "1m30s", "2h0m0s", "0s")


@given(st.integers(0, 10**7).map(lambda value: value / 1000))
def test_a_written_duration_is_read_back(seconds: float) -> None:
    assert read_duration(write_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1x", "-1s", "1m 30s", "1.2.3s"])
def test_what_go_does_not_write_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        read_duration(text)


def test_communities_know_their_size() -> None:
    assert str(Community((65000, 1))) == "65000:1"
    assert Community((1, 2, 3)).is_large


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("IPPool", {"cidr": "fd00::%{}/64"}),
        ("BGPConfiguration", {"serviceClusterIPs": [{"cidr": "fd00::%{}/64"}]}),
        ("BGPFilter", {"exportV6": [{"action": "Accept", "matchOperator": "In", "cidr": "fd00::%{}/64"}]}),
        ("Node", {"bgp": {"ipv6Address": "fd00::1%{}/64"}}),
        ("BGPPeer", {"peerIP": "fd00::1%{}", "asNumber": 65000}),
        ("WorkloadEndpoint", {"node": "n", "interfaceName": "cali1", "ipNetworks": ["fd00::1%{}/128"]}),
    ],
)
@pytest.mark.parametrize("zone", ["eth0", "x\nannounce route fd00:666:: next-hop self\nx", "x; }"])
def test_no_address_brings_a_zone_which_may_be_any_text(kind: str, spec: object, zone: str) -> None:
    key = Key(kind, "n-k8s-w-eth0", "d") if kind == "WorkloadEndpoint" else Key(kind, "default")
    value = json.dumps({"spec": spec}).replace("%{}", "%" + json.dumps(zone)[1:-1])
    with pytest.raises(ResourceError, match="zone"):
        decode(key, value.encode())


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"[]",
        b'{"spec": {"holder": {"agent": "n"}, "since": [1]}}',
        b'{"apiVersion": "cairn.dev/v2", "kind": "Lease", "metadata": {"name": "m"}, "spec": 7}',
    ],
)
def test_a_lease_shows_its_node_alive_whatever_is_written_in_it(value: bytes) -> None:
    assert ResourceSet.of([decode(Key("NodeLease", "n"), value)]).live_nodes == {"n"}
