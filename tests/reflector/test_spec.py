"""What is refused before anything is touched: configurations that would not do what they say."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from bgpd.rib.path import SourceKind
from bgpd.telemetry.config import ConfigError, SecretSource
from bgpd.wire.iana import Role
from reflector.config import ReflectorConfig, load
from reflector.spec import from_config, read_password
from tests.reflector.clients import spec_of

PREFIX = {"prefix": "10.0.0.0/8"}


def key(name: str) -> dict[str, str]:
    return {"env": name}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"clients": [PREFIX, PREFIX]}, "given twice"),
        (
            {"clients": [PREFIX], "peers": [{"address": "10.1.1.1"}, {"address": "10.1.1.1"}]},
            "given twice",
        ),
        (
            {"clients": [{**PREFIX, "password": key("KEY")}], "peers": [{"address": "10.1.1.1"}]},
            "has no password but lies in 10.0.0.0/8",
        ),
        ({"clients": [{**PREFIX, "password": key("LONG")}]}, "TCP MD5 takes 80"),
        ({"clients": [{**PREFIX, "password": key("MISSING")}]}, "empty or missing"),
        ({"clients": [{**PREFIX, "role": "peer"}]}, "RFC 9234"),
    ],
)
def test_what_would_not_work_is_refused(config: dict[str, Any], words: str) -> None:
    document = {"asn": 65000, "routerId": "10.255.255.254"} | config
    with pytest.raises(ConfigError, match=words):
        from_config(ReflectorConfig.model_validate(document), {"KEY": "secret", "LONG": "x" * 81})


def test_a_peer_inside_a_protected_prefix_has_a_key_of_its_own() -> None:
    spec = spec_of(
        clients=[{**PREFIX, "password": key("KEY")}],
        peers=[{"address": "10.1.1.1", "password": key("OTHER")}],
    )
    assert {peer.name: peer.password for peer in spec.peers} == {"10.1.1.1": "other", "10.0.0.0/8": "secret"}
    assert "secret" not in repr(spec)


def test_passwords_from_files_lose_their_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    assert read_password(SecretSource(file=tmp_path / "key")) == "secret"
    with pytest.raises(ConfigError, match="No such file"):
        read_password(SecretSource(file=tmp_path / "other"))


def test_peers_of_other_ases() -> None:
    spec = spec_of(
        clients=[],
        peers=[
            {"address": "10.1.1.1", "asn": 65100, "role": "customer", "withoutPolicy": "accept"},
            {"address": "10.1.1.2", "asn": 65101},
            {"address": "10.1.1.3", "client": False, "nextHop": "self"},
        ],
    )
    one, two, three = (peer.member for peer in spec.peers)
    assert (one.kind, one.role, one.accepts, one.own_next_hop) == (
        SourceKind.EXTERNAL,
        Role.CUSTOMER,
        True,
        True,
    )
    assert (two.accepts, two.tells) == (False, False)
    assert (three.kind, three.own_next_hop) == (SourceKind.NON_CLIENT, True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("asn: 65000", "routerId"),
        ("asn: 65000\nrouterId: 10.0.0.1", "nobody may connect"),
        ("asn: 65000\nrouterId: 10.0.0.1\nclients: [{prefix: fd00::/8}]", "fd00::/8 cannot reach"),
        (
            "asn: 65000\nrouterId: 10.0.0.1\npeers: [{address: fd00::1, passive: true}]",
            '{address: "::"}]',
        ),
        ("asn: 0\nrouterId: 10.0.0.1\nclients: [{prefix: 10.0.0.0/8}]", "asn"),
        ("asn: 1\nrouterId: 10.0.0.1\nclients: [{prefix: 10.0.0.0/8, holdtime: 9}]", "clients[0].holdtime"),
        ("asn: 1\nrouterId: 10.0.0.1\nclients: [{prefix: 10.0.0.1/8}]", "clients[0].prefix"),
        ("- asn", "expected a mapping"),
        ("asn: [", "not YAML"),
    ],
)
def test_a_bad_file_names_the_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "reflector.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert place in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_prefix_of_clients_and_an_address_with_a_zone() -> None:
    (local,) = spec_of(clients=[{"prefix": "fe80::/10"}], listen={"address": "::"}).peers
    assert local.takes(ip_address("fe80::1"), "eth0")
    (other,) = spec_of(clients=[PREFIX]).peers
    assert not other.takes(ip_address("fe80::1"), "eth0")


def test_a_route_server_need_not_put_its_as_in_front() -> None:
    peers = [
        {"address": "10.1.1.1", "asn": 65001},
        {"address": "10.1.1.2", "asn": 65001, "role": "rs-client"},
        {"address": "10.1.1.3", "asn": 65001, "role": "rs-client", "enforceFirstAs": True},
        {"address": "10.1.1.4", "asn": 65001, "enforceFirstAs": False, "honourGracefulShutdown": False},
    ]
    found = [peer.member for peer in spec_of(clients=[], peers=peers).peers]
    assert [member.enforce_first_as for member in found] == [True, False, True, False]
    assert [member.honour_graceful_shutdown for member in found] == [True, True, True, False]
