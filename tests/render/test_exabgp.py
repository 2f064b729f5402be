"""ExaBGP configurations: what they say, and that the real ExaBGP takes them."""

import base64
import re
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.plan import SecretRef, plan_node
from bgpd.render import RenderError, exabgp
from tests.plan.cluster import MESH_OFF, bgp, cluster
from tests.render.parsers import check_exabgp
from tests.render.test_bird import EVERYTHING

COMMAND = "/usr/bin/python3 -I -S /x/y.py '/run/a b/socket'"


def written(node: str = "n1", password: str | None = "secret", command: str = COMMAND) -> str:
    plan = plan_node(cluster(EVERYTHING), node)
    passwords = {} if password is None else {SecretRef("s", "k"): password}
    return exabgp.configuration(
        plan.peerings,
        router_id=plan.router_id,
        helper_command=command,
        passwords=passwords,
        host_name=node,
        listen_port=plan.listen_port,
    )


def neighbor(text: str, address: str) -> str:
    found = re.search(rf"^neighbor {re.escape(address)} {{.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("node", ["n1", "n2", "rr"])
def test_the_real_exabgp_takes_it(node: str) -> None:
    verdict = check_exabgp(written(node))
    assert verdict.accepted, verdict.message


def test_the_parser_used_here_refuses_what_is_wrong() -> None:
    assert not check_exabgp(written().replace("peer-as", "pier-as")).accepted


def test_a_session_says_all_its_terms() -> None:
    tor = neighbor(written(), "192.0.2.1")
    for line in (
        "local-address 10.0.0.1;",
        "local-as 65100;",
        "peer-as 65001;",
        "hold-time 60;",
        "passive false;",
        "connect 179;",
        "outgoing-ttl 255;",
        "incoming-ttl 254;",
        "md5-base64 true;",
        "graceful-restart 300;",
        "family { ipv4 unicast; }",
    ):
        assert line in tor


def test_the_waiting_side_listens_where_the_plan_says() -> None:
    text = written("rr")
    assert "passive true;\n  listen 1790;" in neighbor(text, "10.0.0.1")


def test_a_session_without_a_source_address_is_waited_for_at_the_nodes_own() -> None:
    peer = "kind: BGPPeer\nmetadata: {name: p}\nspec: {peerSelector: all(), sourceAddress: None}"
    plan = plan_node(cluster(MESH_OFF, bgp("n1", 1), bgp("n2", 2), peer), "n1")
    addresses = [plan.address(4), plan.address(6)]
    text = exabgp.configuration(
        plan.peerings,
        router_id=plan.router_id,
        helper_command=COMMAND,
        passwords={},
        addresses=addresses,
    )
    assert "local-address 10.0.0.1;" in neighbor(text, "10.0.0.2")
    assert "passive true;\n  listen 179;" in neighbor(text, "10.0.0.2")
    text = exabgp.configuration(
        plan_node(cluster(MESH_OFF, bgp("n1", 1), bgp("n2", 2), peer), "n2").peerings,
        router_id=plan.router_id,
        helper_command=COMMAND,
        passwords={},
        addresses=addresses,
    )
    assert "local-address auto;" in neighbor(text, "10.0.0.1")


def test_the_agent_owns_end_of_rib_and_hears_raw_packets() -> None:
    text = written()
    for line in (
        "manual-eor true;",
        "adj-rib-in false;",
        "receive { packets;",
        "send { packets;",
        f"run {COMMAND};",
    ):
        assert line in text


def test_a_session_without_its_password_is_left_out_and_named() -> None:
    text = written(password=None)
    assert "neighbor 192.0.2.1" not in text
    assert "is left out: the password in secret s/k is not known" in text
    plan = plan_node(cluster(EVERYTHING), "n1")
    assert [str(item.peer_address) for item in exabgp.unprotected(plan.peerings, {})] == ["192.0.2.1"]
    assert check_exabgp(text).accepted


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=80))
def test_any_password_arrives_as_it_is_and_stays_in_its_string(octets: bytes) -> None:
    """Also what is no UTF-8: an etcd key and a variable of the environment may have it."""
    password = octets.decode("utf-8", "surrogateescape")
    encoded = re.findall(r'^  md5-password "([A-Za-z0-9+/=]+)";$', written(password=password), re.MULTILINE)
    assert [base64.b64decode(item) for item in encoded] == [octets]


def test_an_odd_password_is_taken_by_the_real_exabgp() -> None:
    for password in ("deadbeef", 'a"; } #\n', "é\0", "x" * 80):
        verdict = check_exabgp(written(password=password))
        assert verdict.accepted, verdict.message


@pytest.mark.parametrize("password", ["", "x" * 81, "\ud800"])
def test_a_password_no_kernel_takes_costs_its_own_session_alone(password: str) -> None:
    text = written(password=password)
    assert "neighbor 192.0.2.1" not in text
    assert "is left out: the password in secret s/k is none a kernel takes" in text
    assert text.count("\nneighbor ") == written().count("\nneighbor ") - 1
    plan = plan_node(cluster(EVERYTHING), "n1")
    left_out = exabgp.unprotected(plan.peerings, {SecretRef("s", "k"): password})
    assert [str(item.peer_address) for item in left_out] == ["192.0.2.1"]


@pytest.mark.parametrize("command", ["", "a; b", "a\nb", "a # b", "a {", "é", "a\\b"])
def test_a_command_the_syntax_cannot_express_is_refused(command: str) -> None:
    with pytest.raises(RenderError):
        written(command=command)


def test_no_sessions_are_a_configuration_too() -> None:
    text = exabgp.configuration((), router_id=IPv4Address("10.0.0.1"), helper_command=COMMAND, passwords={})
    assert "neighbor 1" not in text


def test_the_mark_tells_one_configuration_from_another() -> None:
    first, second = written(), written(password="another")
    marks = {exabgp.mark_of(text) for text in (first, second)}
    assert len(marks) == 2
    for text in (first, second):
        described = [line for line in text.splitlines() if line.startswith("  description ")]
        assert described
        assert all(line.startswith(f'  description "{exabgp.mark_of(text)}: ') for line in described)
    assert exabgp.mark_of("") == ""
