"""The compose file's cluster, for real: the same commands, files and addresses, in namespaces instead of
containers.

What a container engine adds (images, users, capabilities) is not tried here. Everything else is: etcd, the
broker, the certificate, the declared state, two reflectors, three nodes, Prometheus and FRR find each other;
FRR learns every node's workloads, Prometheus sees every service, `cairn status` on a node the whole cluster.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ctl.cairn import ROOT, clean_environment
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.world import Host, World

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = ("node1", "node2", "node3")
REFLECTORS = ("rr1", "rr2")

# As a container has it: a /run of its own, and in it the volume with certificate and token.
PRIVATE = (
    "unshare", "-m", "sh", "-c",
    'mount -t tmpfs tmpfs /run && mkdir /run/pki && mount --bind "$1" /run/pki && shift && exec "$@"', "sh",
)  # fmt: skip

pytestmark = [pytest.mark.scenario, pytest.mark.peer("etcd", "frr", "mosquitto", "prometheus")]


@pytest.fixture
def world() -> Iterator[World]:
    with World("compose") as made:
        made.segment("fabric")
        yield made


def host_of(world: World, name: str) -> Host:
    service = SERVICES[name]
    host = world.host(name, router="net.ipv4.ip_forward" in service.get("sysctls", {}))
    world.attach("fabric", host, "eth0", f"{service['networks']['fabric']['ipv4_address']}/24")
    return host


def mounted(service: dict[str, Any], path: str) -> Path:
    """The file that a container would see at `path`."""
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if target == path:
            return Path(ROOT, source)
    raise LookupError(path)


def words(service: dict[str, Any]) -> list[str]:
    """The service's `cairn` command, with the files it would see."""
    seen = (str(mounted(service, word)) if word.startswith("/") else word for word in service["command"])
    return [sys.executable, "-m", "ctl", *seen]


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {**clean_environment(), **service.get("environment", {})}


def start_etcd(world: World) -> None:
    host = host_of(world, "etcd")
    command = [word for word in SERVICES["etcd"]["command"] if not word.startswith("--data-dir")]
    host.start("etcd", *command, f"--data-dir={host.directory / 'data'}", "--log-level=warn")
    check = SERVICES["etcd"]["healthcheck"]["test"][1:]
    world.wait_until("etcd healthy", lambda: host.namespace.run(*check, check=False).returncode == 0)


def inside(world: World, name: str, pki: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """What `docker compose exec NAME` would run, with the environment and the certificate of the service."""
    settings = [f"{key}={value}" for key, value in SERVICES[name]["environment"].items()]
    return world.hosts[name].namespace.run(
        *PRIVATE, str(pki), "env", f"PYTHONPATH={ROOT}", *settings, sys.executable, "-m", "ctl", *command,
        check=False,
    )  # fmt: skip


def is_healthy(world: World, name: str, pki: Path) -> bool:
    """What the container's health check would find."""
    return inside(world, name, pki, *SERVICES[name]["healthcheck"]["test"][2:]).returncode == 0


def start_prometheus(world: World, pki: Path, folder: Path) -> Host:
    service = SERVICES["prometheus"]
    host = host_of(world, "prometheus")
    config = mounted(service, "/etc/prometheus/prometheus.yml")
    for name in (config.name, "cairn.rules.yml"):
        shutil.copy(mounted(service, f"/etc/prometheus/{name}"), folder / name)
    options = [word for word in service["command"] if not word.startswith("--config.file")]
    command = (
        "prometheus",
        f"--config.file={folder / config.name}",
        f"--storage.tsdb.path={folder / 'data'}",
    )
    host.start("prometheus", *PRIVATE, str(pki), *command, *options, "--log.level=warn")
    return host


def up(prometheus: Host) -> dict[str, str]:
    """What Prometheus says is up, by instance."""
    address = SERVICES["prometheus"]["networks"]["fabric"]["ipv4_address"]
    url = f"http://{address}:9090/api/v1/query?query=up"
    ask = f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())"
    done = prometheus.namespace.run(sys.executable, "-c", ask, check=False)
    if done.returncode:
        return {}
    return {
        each["metric"]["instance"]: each["value"][1] for each in json.loads(done.stdout)["data"]["result"]
    }


@pytest.mark.timeout(240)
def test_the_compose_files_cluster_comes_up_and_everybody_sees_it(world: World, tmp_path: Path) -> None:
    start_etcd(world)
    broker = host_of(world, "mosquitto")
    broker.start(
        "mosquitto", "mosquitto", "-c", mounted(SERVICES["mosquitto"], "/mosquitto/config/mosquitto.conf")
    )
    tor = Frr(host_of(world, "tor"), mounted(SERVICES["tor"], "/etc/frr/frr.conf").read_text())

    declare = SERVICES["declare"]
    settings = [f"{key}={value}" for key, value in environment(declare).items() if key == "CAIRN_DATASTORE"]
    said = host_of(world, "declare").run("env", f"PYTHONPATH={ROOT}", *settings, *words(declare), timeout=60)
    assert "applied:" in said

    pki = tmp_path / "pki"
    pki.mkdir()
    subprocess.run(
        [*PRIVATE, str(pki), *SERVICES["certificates"]["command"]], check=True, capture_output=True
    )
    for name in (*REFLECTORS, *NODES):
        kind = "reflector" if name in REFLECTORS else "agent"
        command = (*PRIVATE, str(pki), *words(SERVICES[name]))
        host_of(world, name).start(kind, *command, environment=environment(SERVICES[name]))
    prometheus = start_prometheus(world, pki, tmp_path)

    addresses = {name: SERVICES[name]["networks"]["fabric"]["ipv4_address"] for name in NODES}
    world.wait_equal(
        "the router has every node's block",
        tor.routes,
        {f"10.77.{name[-1]}.0/26": frozenset({address}) for name, address in addresses.items()},
        timeout=90,
    )
    for name in NODES:
        for other in set(NODES) - {name}:
            wanted = frozenset({(addresses[other], "eth0")})
            world.wait_equal(
                f"{name} sends to {other}",
                lambda name=name, other=other: world.hosts[name].next_hops(f"10.77.{other[-1]}.0/26"),  # type: ignore[misc]  # bound at once
                wanted,
            )
    for name in (*REFLECTORS, *NODES):
        world.wait_until(f"{name} healthy", lambda name=name: is_healthy(world, name, pki))  # type: ignore[misc]  # bound at once
    well = "OK: 5 of 5 nodes alive; 5 of 5 services ready; 17 of 17 sessions up"
    world.wait_until(
        "node1 sees everybody", lambda: inside(world, "node1", pki, "status").stdout.startswith(well)
    )
    every = dict.fromkeys((*REFLECTORS, *NODES), "1")
    world.wait_equal("prometheus sees everybody", lambda: up(prometheus), every)
    retained = broker.run(
        *(
            "mosquitto_sub",
            "-h",
            "10.60.0.6",
            "-t",
            "cairn/v1/+/+/status",
            "-v",
            "--retained-only",
            "-W",
            "2",
        ),
        check=False,
    )
    topics = {line.split()[0] for line in retained.splitlines()}
    assert topics == {f"cairn/v1/agent/{name}/status" for name in NODES} | {
        f"cairn/v1/reflector/{name}/status" for name in REFLECTORS
    }
