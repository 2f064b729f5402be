"""The other side of the sessions: read by the routers' own parsers, or compared with written references."""

import shutil
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.plan import SecretRef
from bgpd.render import RenderError
from bgpd.render.routers import router_text
from bgpd.render.tor import Router, Vendor, router, routers_in
from bgpd.resources import ResourceError, ResourceSet, load_documents
from tests.plan.cluster import bgp, cluster, node, plans
from tests.render.parsers import check_bird, needs

POOLS = (
    "kind: IPPool\nmetadata: {name: p4}\nspec: {cidr: 10.77.0.0/16}\n---\n"
    "kind: IPPool\nmetadata: {name: p6}\nspec: {cidr: 'fd00:77::/48'}\n---\n"
    "kind: IPPool\nmetadata: {name: inside}\nspec: {cidr: 10.78.0.0/16, disableBGPExport: true}"
)
SETTINGS = (
    "kind: BGPConfiguration\nmetadata: {name: default}\n"
    "spec: {listenPort: 1790, serviceExternalIPs: [{cidr: 10.96.0.1/32}]}"
)
TOR = (
    "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: '10.0.0.254:179', asNumber: 65001, "
    "keepaliveTime: 5s, ttlSecurity: 2, password: {secretKeyRef: {name: a, key: b}}}\n---\n"
    "kind: BGPPeer\nmetadata: {name: tor6}\nspec: {node: n1, peerIP: '[fd00::fe]:179', asNumber: 65001}"
)
LIMIT = (
    "apiVersion: cairn.dev/v1\nkind: CairnConfiguration\nmetadata: {name: default}\nspec: {maxPrefixes: 500}"
)
ADDRESSES = (ip_address("10.0.0.254"), ip_address("fd00::fe"))
SECRETS = {SecretRef("a", "b"): "pass.word"}


def rack() -> ResourceSet:
    resources = cluster(
        POOLS,
        SETTINGS,
        TOR,
        node("n1", "{bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64'}}"),
        node("n2", "{bgp: {ipv4Address: 10.1.0.2/24, asNumber: 65001}}"),
    )
    return ResourceSet.of([*resources, *load_documents(LIMIT, "limit.yaml")])


def facing(resources: ResourceSet, secrets: Mapping[SecretRef, str]) -> Router:
    return router(list(plans(resources).values()), ADDRESSES, secrets)


@pytest.mark.parametrize("vendor", [Vendor.EOS, Vendor.JUNOS])
def test_what_has_no_parser_here_is_as_written_by_hand(vendor: Vendor) -> None:
    reference = Path(__file__).parent / "references" / f"{vendor}.txt"
    assert router_text(facing(rack(), SECRETS), vendor) == reference.read_text()


@pytest.mark.parametrize("vendor", Vendor)
def test_where_the_router_has_to_listen_is_said(vendor: Vendor) -> None:
    """By a remark where no statement is: FRR's port is an option of its program."""
    peer = "kind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: '10.0.0.254:%d', asNumber: 65001}"
    node1 = node("n1", "{bgp: {ipv4Address: 10.0.0.1/24}}")
    texts = [router_text(facing(cluster(peer % port, node1), {}), vendor) for port in (1793, 179)]
    assert ["1793" in text for text in texts] == [True, False]
    remark = "have it listen there" in texts[0]
    assert remark == (vendor in (Vendor.FRR, Vendor.EOS, Vendor.JUNOS))


def command(vendor: Vendor, path: Path) -> list[str]:
    """The vendor's own program, told only to read."""
    if vendor is Vendor.FRR:
        return [needs(shutil.which("vtysh"), "FRR (Debian package frr)"), "-C", "-f", str(path)]
    if vendor is Vendor.GOBGP:
        return [needs(shutil.which("gobgpd"), "GoBGP (Debian package gobgpd)"), "-d", "-f", str(path)]
    return [
        needs(shutil.which("/usr/sbin/bgpd"), "OpenBGPD (Debian package openbgpd)"),
        "-n",
        "-f",
        str(path),
    ]


def refusal(vendor: Vendor, text: str, directory: Path) -> str:
    """What the real parser has against a text; empty if nothing."""
    if vendor is Vendor.BIRD:
        verdict = check_bird(text)
        return "" if verdict.accepted else verdict.message
    path = directory / "router.conf"
    path.write_text(text)
    path.chmod(0o600)
    words = command(vendor, path)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    said = done.stdout + done.stderr
    return (
        "" if done.returncode == 0 and "Unknown command" not in said and "line" not in said else said or "?"
    )


PARSED = [Vendor.FRR, Vendor.BIRD, Vendor.GOBGP, Vendor.OPENBGPD]


@pytest.mark.parametrize("vendor", PARSED)
def test_the_real_parser_takes_it_and_would_not_take_anything(vendor: Vendor, tmp_path: Path) -> None:
    text = router_text(facing(rack(), SECRETS), vendor)
    assert refusal(vendor, text, tmp_path) == ""
    for address in ("10.0.0.1", "10.1.0.2", "fd00::1"):
        assert address in text
    assert "10.78" not in text
    broken = text + ("[[" if vendor is Vendor.GOBGP else "\nneighbour nonsense {\n")
    assert refusal(vendor, broken, tmp_path) != ""


@pytest.mark.parametrize("vendor", Vendor)
def test_without_its_password_a_session_is_down(vendor: Vendor, tmp_path: Path) -> None:
    found = facing(rack(), {})
    assert [session.shut is not None for session in found.sessions] == [True, True, False]
    text = router_text(found, vendor)
    words = {
        Vendor.FRR: "10.0.0.1 shutdown",
        Vendor.EOS: "10.0.0.1 shutdown",
        Vendor.BIRD: "disabled on;",
        Vendor.GOBGP: "admin-down = true",
        Vendor.OPENBGPD: "\tdown",
        Vendor.JUNOS: "shutdown;",
    }
    assert words[vendor] in text
    if vendor in PARSED:
        assert refusal(vendor, text, tmp_path) == ""


def test_openbgpd_has_gtsm_over_hops_and_not_within_its_as(tmp_path: Path) -> None:
    inside = "kind: BGPPeer\nmetadata: {name: in}\nspec: {peerIP: '10.0.0.254:179', asNumber: 65001, %s}"
    nodes = bgp("n1", 1), bgp("n2", 2, ", asNumber: 65001")
    for hops, wanted in ((1, False), (2, True)):
        found = facing(cluster(POOLS, *nodes, inside % f"ttlSecurity: {hops}"), {})
        text = router_text(found, Vendor.OPENBGPD)
        one, two = text.split("neighbor ")[1:]
        assert ("multihop 2" in one) is wanted
        assert "ttl-security yes" in one
        assert "down" not in one
        assert "down # OpenBGPD has no GTSM within an AS: leave out ttlSecurity" in two
        assert refusal(Vendor.OPENBGPD, text, tmp_path) == ""


@pytest.mark.parametrize("vendor", Vendor)
def test_without_ipv4_it_is_the_reflector_of_its_as_too(vendor: Vendor, tmp_path: Path) -> None:
    peer = "kind: BGPPeer\nmetadata: {name: t}\nspec: {peerIP: 'fd00::fe', asNumber: 65001}"
    nodes = [node(f"n{i}", f"{{bgp: {{ipv6Address: 'fd00::{i}/64', asNumber: 65001}}}}") for i in (1, 2)]
    found = router(list(plans(cluster(POOLS, *nodes, peer)).values()), [ip_address("fd00::fe")], {})
    text = router_text(found, vendor)
    words = {
        Vendor.FRR: "fd00::2 route-reflector-client",
        Vendor.EOS: "fd00::2 route-reflector-client",
        Vendor.BIRD: "rr client;",
        Vendor.GOBGP: "route-reflector-client = true",
        Vendor.OPENBGPD: "\troute-reflector\n",
        Vendor.JUNOS: f"cluster {found.cluster_id};",
    }
    assert words[vendor] in text
    assert "router ID" in text
    if vendor in PARSED and vendor is not Vendor.GOBGP:  # which wants its router-id, the operator's to add
        assert refusal(vendor, text, tmp_path) == ""


@pytest.mark.parametrize("vendor", PARSED)
def test_nothing_to_accept_is_said_in_words(vendor: Vendor, tmp_path: Path) -> None:
    peer = "kind: BGPPeer\nmetadata: {name: t}\nspec: {peerIP: 10.0.0.254, asNumber: 65001}"
    found = router(list(plans(cluster(bgp("n1", 1), peer)).values()), [ip_address("10.0.0.254")], {})
    assert refusal(vendor, router_text(found, vendor), tmp_path) == ""
    for either in (Vendor.FRR, Vendor.EOS):
        listed = "ip prefix-list CAIRN-PODS-V4 seq 10 deny 0.0.0.0/0 le 32\n"
        assert listed in router_text(found, either)


def test_what_nodes_take_with_their_own_as_is_sent_to_them(tmp_path: Path) -> None:
    peer = "kind: BGPPeer\nmetadata: {name: t}\nspec: {peerIP: 10.0.0.254, asNumber: 65001%s}"
    for more, wanted in (("", False), (", numAllowedLocalASNumbers: 1", True)):
        resources = cluster(POOLS, bgp("n1", 1), peer % more)
        found = router(list(plans(resources).values()), [ip_address("10.0.0.254")], {})
        assert ("advertise-peer-as;" in router_text(found, Vendor.JUNOS)) is wanted
        text = router_text(found, Vendor.GOBGP)
        assert ("replace-peer-as = true" in text) is wanted
        assert refusal(Vendor.GOBGP, text, tmp_path) == ""


def test_a_secrets_name_stays_inside_its_comment() -> None:
    secret = "password: {secretKeyRef: {name: 'a*/ } x { /*', key: b}}"
    peer = f"kind: BGPPeer\nmetadata: {{name: t}}\nspec: {{peerIP: 10.0.0.254, asNumber: 65001, {secret}}}"
    found = router(list(plans(cluster(POOLS, bgp("n1", 1), peer)).values()), [ip_address("10.0.0.254")], {})
    told = [line for line in router_text(found, Vendor.JUNOS).splitlines() if "secret" in line]
    assert [line.count("*/") for line in told] == [1]


def test_what_a_filter_lets_out_of_no_pool_is_taken() -> None:
    more = """\
kind: BGPFilter
metadata: {name: f}
spec: {exportV4: [{action: Accept, matchOperator: In, cidr: 172.20.0.0/16}]}
---
kind: BGPPeer
metadata: {name: t}
spec: {peerIP: 10.0.0.254, asNumber: 65001, filters: [f]}
---
kind: BlockAffinity
spec: {node: n1, cidr: 172.21.1.0/26}
---
kind: WorkloadEndpoint
metadata: {namespace: default}
spec: {orchestrator: k8s, pod: w, node: n1, endpoint: eth0, interfaceName: cali1, ipNetworks: [172.20.0.5/32]}
"""
    found = router(list(plans(cluster(POOLS, bgp("n1", 1), more)).values()), [ip_address("10.0.0.254")], {})
    assert [str(network) for network in found.accepted_of(4)] == ["10.77.0.0/16", "172.20.0.5/32"]


names = st.text(st.sampled_from("abc019._-"), min_size=1, max_size=30).map(lambda text: f"n{text}n")
passwords = st.text(min_size=1, max_size=85)


@pytest.mark.parametrize("vendor", PARSED)
def test_the_longest_password_a_router_takes_and_no_longer_one(vendor: Vendor, tmp_path: Path) -> None:
    longest = 79 if vendor is Vendor.OPENBGPD else 80
    text = router_text(facing(rack(), {SecretRef("a", "b"): "x" * longest}), vendor)
    assert refusal(vendor, text, tmp_path) == ""
    with pytest.raises(RenderError, match=f"is longer than {longest} octets"):
        router_text(facing(rack(), {SecretRef("a", "b"): "x" * (longest + 1)}), vendor)


@pytest.mark.parametrize("vendor", PARSED)
def test_the_highest_limit_of_prefixes_is_one_every_router_takes(vendor: Vendor, tmp_path: Path) -> None:
    limit = load_documents(LIMIT.replace("500", "4294967295"), "limit.yaml")
    text = router_text(facing(ResourceSet.of([*rack(), *limit]), SECRETS), vendor)
    assert "4294967295" in text
    assert refusal(vendor, text, tmp_path) == ""
    with pytest.raises(ResourceError, match="less than or equal to 4294967295"):
        load_documents(LIMIT.replace("500", "4294967296"), "limit.yaml")


@given(passwords)
def test_a_password_stays_inside_its_word_or_is_refused(password: str) -> None:
    for vendor in Vendor:
        try:
            text = router_text(facing(rack(), {SecretRef("a", "b"): password}), vendor)
        except RenderError as error:
            refused = str(error)
            text = ""
        if text:
            lines = router_text(facing(rack(), SECRETS), vendor)
            assert text == lines.replace("pass.word", password)
        else:
            assert "the password of n1 (secret a/b)" in refused


@pytest.mark.parametrize("vendor", PARSED)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_the_terms_are_the_real_parser_takes_them(
    vendor: Vendor, data: st.DataObject, tmp_path: Path
) -> None:
    terms = {
        "keepaliveTime": data.draw(st.sampled_from([None, "1s", "20s", "1000s"])),
        "ttlSecurity": data.draw(st.sampled_from([None, 1, 3, 254, 255])),
        "maxRestartTime": data.draw(st.sampled_from([None, "0s", "300s"])),
        "localASNumber": data.draw(st.sampled_from([None, 65001, 4200000000])),
    }
    spec = ", ".join(f"{name}: {value}" for name, value in terms.items() if value is not None)
    resources = cluster(
        POOLS,
        SETTINGS,
        "kind: BGPPeer\nmetadata: {name: tor}\n"
        f"spec: {{peerIP: '10.0.0.254:179', asNumber: 65001, {spec}}}",
        bgp(data.draw(names), 1),
        node("far", "{bgp: {ipv4Address: 10.9.0.7/24, asNumber: 65003}}"),
    )
    text = router_text(facing(resources, {}), vendor)
    assert refusal(vendor, text, tmp_path) == "", text


def test_a_node_that_peers_with_two_of_the_addresses_is_named() -> None:
    peer = "kind: BGPPeer\nmetadata: {name: %s}\nspec: {peerIP: %s, asNumber: 65001}"
    resources = cluster(POOLS, bgp("n1", 1), peer % ("a", "10.0.0.254"), peer % ("b", "10.0.0.253"))
    found = list(plans(resources).values())
    both = [ip_address("10.0.0.253"), ip_address("10.0.0.254")]
    ends = r"10\.0\.0\.1 peers with 10\.0\.0\.253 \(node n1\) and 10\.0\.0\.254 \(node n1\)"
    with pytest.raises(RenderError, match=ends):
        router(found, both, {})
    assert [len(router(found, [address], {}).sessions) for address in both] == [1, 1]


def test_who_is_outside_and_a_router_nobody_knows() -> None:
    found = list(plans(rack()).values())
    assert routers_in(found) == {address: {65001} for address in ADDRESSES}
    with pytest.raises(RenderError, match="no node has a session with it"):
        router(found, [ip_address("192.0.2.1")], {})
