"""BIRD configurations of any cluster: no text breaks out of its string; the real parsers take all."""

import os
import re
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.plan import SecretRef, plan_node
from bgpd.render import BirdOptions, RenderError, bird
from bgpd.resources import (
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    CairnConfiguration,
    IPPool,
    Node,
    Resource,
    ResourceSet,
    WorkloadEndpoint,
)
from bgpd.resources.cairn import LEARN_ONLY
from tests.render.parsers import check_bird

EXAMPLES = int(os.environ.get("CAIRN_FUZZ_EXAMPLES", "40"))

hostile = st.text(st.sampled_from("\"';{}#\n\r\\ab é()/*"), max_size=12)


# What may be a name in a store: an endpoint's has no rules but these.
hostile_name = hostile.map(lambda text: "".join(mark for mark in text if mark.isprintable() and mark != "/"))
KINDS = st.sampled_from([(2, 4), (1, 4), (1, 6)])
ASCII = st.characters(min_codepoint=32, max_codepoint=126)
EXPRESSIBLE = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\"'\\")
devices = st.text(EXPRESSIBLE, max_size=14) | hostile
words = st.text(EXPRESSIBLE, min_size=1, max_size=80) | st.text(ASCII, min_size=1, max_size=80)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile, hostile, hostile_name, devices, KINDS, words)
def test_hostile_words_change_nothing_but_words(
    label: str, secret: str, endpoint: str, device: str, kind: tuple[int, int], password: str
) -> None:
    """The same cluster with kind and with hostile words must come out with the same lines of
    configuration, whichever BIRD they are for, or be refused.
    """

    def made(rack: str, key: str, name: str, interface: str, word: str) -> str:
        resources: list[Resource] = [
            Node(
                metadata={"name": "n1", "labels": {"rack": rack}},
                spec={"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}},
            ),
            WorkloadEndpoint(
                metadata={"name": f"w{name}", "namespace": "d"},
                spec={
                    "node": "n1",
                    "ipNetworks": ["10.1.0.9/32", "fd00:1::9/128"],
                    "interfaceName": f"c{interface}",
                },
            ),
            IPPool(metadata={"name": "p4"}, spec={"cidr": "10.1.0.0/16"}),
            IPPool(metadata={"name": "p6"}, spec={"cidr": "fd00:1::/64"}),
            BGPConfiguration(metadata={"name": "default"}, spec={"ignoredInterfaces": [f"i{interface}"]}),
        ]
        for place in ("192.0.2.1", "2001:db8::1"):
            terms = {
                "nodeSelector": "has(rack) || rack in {'" + rack.replace("'", "") + "'}",
                "peerIP": place,
                "asNumber": 65001,
                "password": {"secretKeyRef": {"name": "s" + key, "key": "k"}},
            }
            resources.append(BGPPeer(metadata={"name": f"t{':' in place}".lower()}, spec=terms))
        plan = plan_node(ResourceSet.of(resources), "n1")
        return bird(plan, kind[0], {SecretRef("s" + key, "k"): word}, family=kind[1])

    def meaning(text: str) -> list[str]:
        lines = (re.sub(r'"[^"]*"', '""', line) for line in text.splitlines())
        return [line.partition("#")[0].rstrip() for line in lines]

    device = device[:14]
    if re.search(r"""["'\\]|[^ -~]""", device + password):
        with pytest.raises(RenderError):
            made(label, secret, endpoint, device, password)
        return
    text = made(label, secret, endpoint, device, password)
    assert meaning(text) == meaning(made("x", "x", "x", "x", "x"))
    verdict = check_bird(text, *kind)
    assert verdict.accepted, verdict.message


STATES = ["confirmed", "pending", "pendingDeletion"]
cairn_specs = st.sampled_from(
    [
        {"maxPrefixes": 1},
        {"reflectors": {"count": 1, "nodeSelector": "all()", "clusterID": "244.0.0.9"}},
    ]
)
networks = st.sampled_from(["10.1.0.0/16", "10.1.4.0/24", "0.0.0.0/0", "10.1.0.1/32"])
networks6 = st.sampled_from(["fd00::/16", "::/0", "fd00:1::1/128"])
communities = st.sampled_from(["65000:1", "0:0", "65535:65535", "4294967295:1:2"])


@st.composite
def rules(draw: st.DrawFn, version: int) -> dict[str, object]:
    rule: dict[str, object] = {"action": draw(st.sampled_from(["Accept", "Reject"]))}
    if draw(st.booleans()):
        cidr = draw(networks if version == 4 else networks6)
        rule["cidr"] = cidr
        rule["matchOperator"] = draw(st.sampled_from(["Equal", "NotEqual", "In", "NotIn"]))
        if draw(st.booleans()):
            top = ip_network(cidr).max_prefixlen
            low, high = sorted((draw(st.integers(0, top)), draw(st.integers(0, top))))
            rule["prefixLength"] = {"min": low, "max": high}
    if draw(st.booleans()):
        rule["source"] = "RemotePeers"
    if draw(st.booleans()):
        rule["interface"] = draw(st.sampled_from(["eth0", "cali*", "*", "a?"]))
    if draw(st.booleans()):
        rule["peerType"] = draw(st.sampled_from(["eBGP", "iBGP"]))
    if draw(st.booleans()):
        rule["communities"] = {"values": [draw(communities)]}
    if draw(st.booleans()):
        rule["asPathPrefix"] = draw(st.lists(st.integers(1, 4294967295), min_size=1, max_size=3))
    if draw(st.booleans()):
        rule["priority"] = draw(st.integers(1, 2147483646))
    if rule["action"] == "Accept" and draw(st.booleans()):
        operations = st.one_of(
            communities.map(lambda value: {"addCommunity": {"value": value}}),
            st.lists(st.integers(1, 4294967295), min_size=1, max_size=3).map(
                lambda value: {"prependASPath": {"prefix": value}}
            ),
            st.integers(1, 2147483646).map(lambda value: {"setPriority": {"value": value}}),
        )
        rule["operations"] = draw(st.lists(operations, min_size=1, max_size=3))
    return rule


@st.composite
def any_cluster(draw: st.DrawFn) -> ResourceSet:
    resources: list[Resource] = []
    for index in range(draw(st.integers(1, 3))):
        spec: dict[str, object] = {"ipv4Address": f"10.0.0.{index + 1}/24"}
        if draw(st.booleans()):
            spec["ipv6Address"] = f"fd00::{index + 1}/64"
        if draw(st.booleans()):
            spec["routeReflectorClusterID"] = draw(st.sampled_from(["244.0.0.1", "244.0.0.2"]))
        if draw(st.booleans()):
            spec["asNumber"] = draw(st.sampled_from([64512, 65001, 4200000000]))
        if index and draw(st.booleans()):
            del spec["ipv4Address"]  # an IPv6 node, or one that is not registered yet
        about: dict[str, object] = {"name": f"n{index}", "labels": {"word": draw(hostile)}}
        if draw(st.booleans()):
            about["annotations"] = {f"cairn.dev/{LEARN_ONLY}": "true"}
        resources.append(Node(metadata=about, spec={"bgp": spec}))
    settings_spec: dict[str, object] = {
        "logSeverityScreen": draw(st.sampled_from(["Trace", "Debug", "Info", "Warning", "Fatal", "None"])),
        "serviceLoadBalancerAggregation": draw(st.sampled_from(["Enabled", "Disabled"])),
    }
    if draw(st.booleans()):
        settings_spec["nodeToNodeMeshEnabled"] = False
    elif draw(st.booleans()):
        settings_spec["nodeMeshPassword"] = {"secretKeyRef": {"name": draw(hostile) + "m", "key": "k"}}
    else:
        settings_spec["nodeMeshMaxRestartTime"] = draw(st.sampled_from(["0s", "4095s"]))
    if draw(st.booleans()):
        settings_spec["ignoredInterfaces"] = draw(st.lists(st.sampled_from(["docker0", "br-*", "en?"])))
    if draw(st.booleans()):
        settings_spec["ipv4NormalRoutePriority"] = draw(st.sampled_from([1, 2147483646]))
        settings_spec["ipv6NormalRoutePriority"] = draw(st.sampled_from([1, 2147483646]))
    if draw(st.booleans()):
        settings_spec["serviceExternalIPs"] = [{"cidr": "10.96.5.0/24"}, {"cidr": "10.1.0.0/26"}]
        settings_spec["serviceLoadBalancerIPs"] = [{"cidr": "203.0.113.7/32"}, {"cidr": "fd00:97::/64"}]
    if draw(st.booleans()):
        own = {"listenPort": draw(st.sampled_from([1, 65535])), "prefixAdvertisements": []}
        resources.append(BGPConfiguration(metadata={"name": "node.n0"}, spec=own))
    if draw(st.booleans()):
        resources.append(CairnConfiguration(metadata={"name": "default"}, spec=draw(cairn_specs)))
    if draw(st.booleans()):
        settings_spec["bindMode"] = "NodeIP"
    if draw(st.booleans()):
        settings_spec["listenPort"] = draw(st.sampled_from([179, 1790]))
    if draw(st.booleans()):
        settings_spec["serviceClusterIPs"] = [{"cidr": "10.96.0.0/12"}, {"cidr": "fd00:96::/108"}]
    if draw(st.booleans()):
        settings_spec["communities"] = [{"name": "by-name", "value": draw(communities)}]
        settings_spec["prefixAdvertisements"] = [
            {"cidr": cidr, "communities": ["by-name", draw(communities)]}
            for cidr in draw(
                st.lists(st.sampled_from(["10.1.0.0/16", "0.0.0.0/0", "10.1.0.0/26", "fd00::/8"]))
            )
        ]
    resources.append(BGPConfiguration(metadata={"name": "default"}, spec=settings_spec))
    for index, (cidr, modes) in enumerate(
        (
            ("10.1.0.0/16", ["vxlanMode", "ipipMode"]),
            ("10.2.0.0/16", ["ipipMode"]),
            ("fd00:1::/64", ["vxlanMode"]),
        )
    ):
        pool: dict[str, object] = {"cidr": cidr, "disableBGPExport": draw(st.booleans())}
        if draw(st.booleans()):
            pool[draw(st.sampled_from(modes))] = draw(st.sampled_from(["Always", "CrossSubnet"]))
        resources.append(IPPool(metadata={"name": f"p{index}"}, spec=pool))
    cidrs = st.sampled_from(["10.1.0.0/26", "10.1.0.9/32", "fd00:1::/122"])
    resources.extend(
        BlockAffinity(spec={"node": "n0", "cidr": cidr, "state": draw(st.sampled_from(STATES))})
        for cidr in draw(st.lists(cidrs, unique=True))
    )
    for index in range(draw(st.integers(0, 2))):
        endpoint: dict[str, object] = {
            "node": "n0",
            "ipNetworks": draw(
                st.lists(st.sampled_from(["10.1.0.9/32", "10.2.0.1/32", "fd00:1::9/128"]), unique=True)
            ),
            "interfaceName": f"cali{index}",
        }
        stamp = {"creationTimestamp": "2026-01-01T00:00:00Z"} if draw(st.booleans()) else {}
        metadata = {"name": f"w{index}{draw(hostile_name)}", "namespace": "d", **stamp}
        resources.append(WorkloadEndpoint(metadata=metadata, spec=endpoint))
    spec = {f"{way}V{version}": draw(st.lists(rules(version), max_size=3))
            for way in ("import", "export") for version in (4, 6)}  # fmt: skip
    resources.append(
        BGPFilter(metadata={"name": "filter-" + draw(st.text("ab.", max_size=5)) + "x"}, spec=spec)
    )
    for index in range(draw(st.integers(0, 2))):
        places = ["192.0.2.1", "2001:db8::1", "192.0.2.1:1790", "[2001:db8::1]:1790", "10.0.0.2", ""]
        address = draw(st.sampled_from(places))
        terms: dict[str, object] = {"peerIP": address, "asNumber": draw(st.sampled_from([64512, 65001]))}
        if not address:
            terms = {"peerSelector": "all()", "reversePeering": draw(st.sampled_from(["Auto", "Manual"]))}
        if draw(st.booleans()):
            terms["node"] = "n0"
        if draw(st.booleans()):
            terms["password"] = {"secretKeyRef": {"name": draw(hostile) + "s", "key": draw(hostile) + "k"}}
        if draw(st.booleans()):
            terms["filters"] = [resources[-1].name if isinstance(resources[-1], BGPFilter) else "filter-x"]
        if draw(st.booleans()):
            terms["nextHopMode"] = draw(st.sampled_from(["Auto", "Self", "Keep"]))
        if draw(st.booleans()):
            terms["ttlSecurity"] = draw(st.integers(0, 255))
        if draw(st.booleans()):
            terms["maxRestartTime"] = "4095s"
        if draw(st.booleans()):
            terms["keepaliveTime"] = draw(st.sampled_from(["1s", "21845s"]))
        if draw(st.booleans()):
            terms["numAllowedLocalASNumbers"] = draw(st.integers(0, 255))
        if draw(st.booleans()):
            terms["localASNumber"] = 65100
        if draw(st.booleans()):
            terms["sourceAddress"] = "None"
        if address and draw(st.booleans()):
            terms["reachableBy"] = "fd00::fe" if ":" in address.replace(":1790", "") else "10.0.0.254"
        resources.append(BGPPeer(metadata={"name": f"peer{index}"}, spec=terms))
    return ResourceSet.of(resources)


bird_options = st.builds(
    BirdOptions,
    reflector=st.booleans(),
    workloads=st.booleans(),
    add_paths=st.booleans(),
    transit=st.booleans(),
    accept_default=st.booleans(),
    kernel_table=st.sampled_from([None, 100]),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(any_cluster(), bird_options, KINDS, st.text(EXPRESSIBLE, min_size=1, max_size=80))
def test_whatever_is_declared_the_real_parser_takes_it(
    resources: ResourceSet, options: BirdOptions, kind: tuple[int, int], password: str
) -> None:
    plan = plan_node(resources, "n0")
    secrets = [peering.password for peering in plan.peerings if peering.password is not None]
    known = dict.fromkeys(secrets[::2], password)
    text = bird(plan, kind[0], known, options, family=kind[1])
    verdict = check_bird(text, *kind)
    assert verdict.accepted, f"{verdict.message}\n{text}"
