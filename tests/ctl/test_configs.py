"""Everything in configs/ and the compose file: loaded by the programs that are to read it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import agent.config
import reflector.config
from bgpd.plan import plan_node
from bgpd.resources import MODELS, ResourceSet, load_documents
from tests.ctl.cairn import ROOT, cairn

CONFIGS = ROOT / "configs"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WRITTEN_BY_SERVICES_ALONE = {"NodeLease", "ServiceReport", "ServiceQuestion"}


def test_every_kind_has_an_example_and_all_are_valid_together() -> None:
    done = cairn("validate", "-f", CONFIGS / "resources", "-o", "json")
    assert done.code == 0, done.err
    assert set(done.json["resources"]) == set(MODELS) - WRITTEN_BY_SERVICES_ALONE


def test_the_examples_make_a_cluster_that_can_be_planned() -> None:
    texts = {path: path.read_text() for path in sorted((CONFIGS / "resources").glob("*.yaml"))}
    resources = ResourceSet.of(r for path, text in texts.items() for r in load_documents(text, path.name))
    plan = plan_node(resources, "node-1")
    assert {str(route.prefix) for route in plan.originated} >= {"10.77.1.0/26", "10.96.0.0/12"}
    assert {str(peering.peer_address) for peering in plan.peerings} >= {"10.0.1.1", "10.0.1.5"}
    assert plan.remarks == ()


def keys(document: object, path: str = "") -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield f"{path}{key}"
            yield from keys(value, f"{path}{key}.")


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for field in model.model_fields.values():
        name = f"{path}{field.alias}"
        yield name
        nested = field.annotation
        for candidate in (nested, *getattr(nested, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                yield from fields(candidate, f"{name}.")


def test_the_agents_example_shows_every_option() -> None:
    path = CONFIGS / "agent.yaml"
    config = agent.config.load(path)
    assert (config.node, config.kernel.protocol) == ("node-1", 179)
    left_to_the_reader = re.compile(
        r"asn|ipv6|exabgp\.localAddress|http\.(token|certificate|key)|mqtt\.(username|password|ca)|.*\.(file|env)"
    )
    shown = set(keys(yaml.safe_load(path.read_text())))
    wanted = {name for name in fields(agent.config.AgentConfig) if not left_to_the_reader.fullmatch(name)}
    assert wanted - shown == set()


@pytest.mark.parametrize(
    "name", ["reflector.yaml", "reflector-declared.yaml", "compose/rr1.yaml", "compose/rr2.yaml"]
)
def test_reflector_examples_load(name: str) -> None:
    config = reflector.config.load(CONFIGS / name)
    assert config.datastore is not None or config.clients


def test_every_file_is_in_the_index() -> None:
    index = (CONFIGS / "README.md").read_text()
    for path in CONFIGS.iterdir():
        assert path.name == "README.md" or f"`{path.name}" in index, path


# The compose file: what the specification demands of the parts used here.

_KEYS_OF_A_SERVICE = {
    "build", "cap_add", "cap_drop", "command", "depends_on", "environment", "healthcheck", "hostname",
    "image", "network_mode", "networks", "pull_policy", "restart", "sysctls", "tmpfs", "user", "volumes",
}  # fmt: skip
_CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
_DURATION = re.compile(r"(\d+(h|m|s|ms|us))+")


def test_the_compose_file_has_the_parts_it_promises() -> None:
    assert set(COMPOSE) - {"name", "services", "networks", "volumes"} == {
        "x-agent",
        "x-reflector",
        "x-status",
    }
    assert set(SERVICES) == {
        "etcd", "mosquitto", "certificates", "declare", "rr1", "rr2", "node1", "node2", "node3", "tor",
        "prometheus", "grafana",
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_the_compose_file_is_well_formed(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= _KEYS_OF_A_SERVICE
    assert "image" in service or "build" in service
    if "build" in service:
        stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert service["build"]["target"] in stages
    for other, how in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] in _CONDITIONS
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
    for value in [*service.get("sysctls", {}).values(), *service.get("environment", {}).values()]:
        assert isinstance(value, str)
    check = service.get("healthcheck", {})
    assert all(
        _DURATION.fullmatch(check[key]) for key in ("interval", "timeout", "start_period") if key in check
    )
    assert service.get("restart", "no") in ("no", "always", "on-failure", "unless-stopped")


def test_addresses_in_the_compose_file_agree_with_the_declared_state() -> None:
    network = ip_network(COMPOSE["networks"]["fabric"]["ipam"]["config"][0]["subnet"])
    addresses = {
        name: ip_address(service["networks"]["fabric"]["ipv4_address"])
        for name, service in SERVICES.items()
        if "networks" in service
    }
    assert len(set(addresses.values())) == len(addresses)
    assert all(address in network for address in addresses.values())
    cluster = load_documents((CONFIGS / "compose/cluster.yaml").read_text(), "cluster.yaml")
    resources = ResourceSet.of(cluster)
    for node in resources.nodes:
        plan = plan_node(resources, node)
        assert plan.address(4) == addresses[node]
        peers = {str(peering.peer_address) for peering in plan.peerings}
        reflectors = {str(addresses["rr1"]), str(addresses["rr2"])} - {str(addresses[node])}
        assert peers >= reflectors
        if node.startswith("node"):
            assert peers == reflectors | {str(addresses["tor"])}
            assert [str(route.prefix) for route in plan.originated] == [f"10.77.{node[-1]}.0/26"]
    etcd = f"etcd://{addresses['etcd']}:2379"
    for name, service in SERVICES.items():
        assert service.get("environment", {}).get("CAIRN_DATASTORE", etcd) == etcd, name
        if name.startswith("rr"):
            config = reflector.config.load(CONFIGS / f"compose/{name}.yaml")
            assert (config.node, config.datastore) == (name, etcd)
            assert config.mqtt is not None
            assert config.mqtt.host == str(addresses["mosquitto"])
        if name.startswith("node"):
            assert service["environment"]["NODENAME"] == name
    shared = agent.config.load(CONFIGS / "compose/agent.yaml")
    assert shared.mqtt is not None
    assert shared.mqtt.host == str(addresses["mosquitto"])


@pytest.mark.peer("frr")
def test_frr_takes_the_routers_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/usr/lib/frr/bgpd", "-C", "-f", str(CONFIGS / "compose/frr.conf")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["cairn-agent.service", "cairn-reflector.service"])
def test_systemd_takes_the_units(name: str, tmp_path: Path) -> None:
    text = (CONFIGS / "systemd" / name).read_text()
    program = re.search(r"^ExecStart=(\S+) (agent|reflector) --config \S+$", text, re.MULTILINE)
    assert program is not None
    unit = tmp_path / name
    unit.write_text(
        text.replace(program[1], "/bin/true")
    )  # where the program is, is the installation's choice
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if name in line]
    assert complaints == []


def test_prometheus_and_grafana_of_the_compose_file_find_what_they_need() -> None:
    prometheus, grafana = SERVICES["prometheus"], SERVICES["grafana"]
    config = yaml.safe_load((CONFIGS / "compose/prometheus.yml").read_text())
    mounted = {Path(volume.split(":")[1]) for volume in prometheus["volumes"]}
    assert {Path("/etc/prometheus") / name for name in config["rule_files"]} <= mounted
    seen = {}
    for job in config["scrape_configs"]:
        for found in job["static_configs"]:
            [seen[found["labels"]["instance"]]] = found["targets"]
    services = [name for name in SERVICES if re.fullmatch(r"(node|rr)\d", name)]
    assert seen == {
        name: f"{SERVICES[name]['networks']['fabric']['ipv4_address']}:{9179 if name[0] == 'r' else 9178}"
        for name in services
    }
    certificate = " ".join(SERVICES["certificates"]["command"])
    assert all(f"IP:{target.partition(':')[0]}" in certificate for target in seen.values())
    [source] = yaml.safe_load((CONFIGS / "compose/grafana-datasource.yml").read_text())["datasources"]
    address = prometheus["networks"]["fabric"]["ipv4_address"]
    assert source["url"] == f"http://{address}:9090"
    assert f"--web.listen-address={address}:9090" in prometheus["command"]
    [provider] = yaml.safe_load((CONFIGS / "compose/grafana-dashboards.yml").read_text())["providers"]
    dashboards = {Path(volume.split(":")[1]).parent for volume in grafana["volumes"]}
    assert Path(provider["options"]["path"]) in dashboards
