"""docker-compose.yml's cluster in containers: the images of the Dockerfile, as podman runs them.

Not for every day: it wants podman with a runtime that works here, and the images, so it runs only where
CAIRN_CONTAINERS names the beginning of podman's command line ("podman", "podman --runtime runc"). The images
are built from the Dockerfile before, under the names of its targets: `cairn`, `etcd`, `frr` (see
CONTRIBUTING.md). What needs images that are not ours (the broker, Prometheus, Grafana) stays out.

Each service gets from the file what it says: user, capabilities, sysctls, mounts, environment, command,
address.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.agent.ground import namespace, needs_root
from tests.ctl.cairn import ROOT

PODMAN = shlex.split(os.environ.get("CAIRN_CONTAINERS", ""))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ONCE = ("certificates", "declare")
LASTING = ("rr1", "rr2", "node1", "node2", "node3", "tor")
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")  # no more than a test machine may have

pytestmark = [needs_root, pytest.mark.skipif(not PODMAN, reason="CAIRN_CONTAINERS is not set")]


class Engine:
    """Containers on one network in a namespace of its own."""

    def __init__(self, inside: str) -> None:
        self._podman = [
            "nsenter",
            f"--net=/run/netns/{inside}",
            *PODMAN,
        ]  # `ip netns exec` would hide cgroups
        self.started: list[str] = []
        self("network", "create", "--subnet=10.60.0.0/24", "--disable-dns", f"cairn-{os.getpid()}")

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run([*self._podman, *words], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def run(self, name: str, *, wait: bool = False) -> str:
        """Start a service as the file has it; with `wait` run it to its end."""
        service = SERVICES[name]
        words = [f"--name={self.name(name)}", *LIMITS, f"--hostname={service.get('hostname', name)}"]
        if "networks" in service:
            address = service["networks"]["fabric"]["ipv4_address"]
            words += [f"--network=cairn-{os.getpid()}", f"--ip={address}"]
        else:
            words.append(f"--network={service['network_mode']}")
        words += [f"--user={service['user']}"] if "user" in service else []
        words += [f"--cap-drop={each}" for each in service.get("cap_drop", ())]
        words += [f"--cap-add={each}" for each in service.get("cap_add", ())]
        words += [f"--sysctl={key}={value}" for key, value in service.get("sysctls", {}).items()]
        words += [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
        words += [f"--tmpfs={each}" for each in service.get("tmpfs", ())]
        for volume in service.get("volumes", ()):
            source, rest = volume.split(":", 1)
            source = str(ROOT / source) if source.startswith("./") else f"{source}-{os.getpid()}"
            words.append(f"--volume={source}:{rest}")
        image = service.get("image") or service["build"]["target"]
        self.started.append(name)
        how = [] if wait else ["--detach"]
        return self("run", *how, *words, f"localhost/{image}", *service.get("command", ()))

    def name(self, service: str) -> str:
        return f"cairn-{os.getpid()}-{service}"

    def exec(self, service: str, *words: str, check: bool = True) -> str:
        return self("exec", self.name(service), *words, check=check)

    def healthy(self, service: str) -> bool:
        """What the file's health check finds."""
        test = SERVICES[service]["healthcheck"]["test"][1:]
        return "0" in self.exec(
            service, "sh", "-c", f"{shlex.join(test)} >/dev/null 2>&1; echo $?", check=False
        )

    def close(self) -> None:
        for name in reversed(self.started):
            self("rm", "--force", "--time=5", self.name(name), check=False)
        self("volume", "rm", f"pki-{os.getpid()}", f"etcd-{os.getpid()}", check=False)
        self("network", "rm", f"cairn-{os.getpid()}", check=False)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with namespace("containers") as inside:
        engine = Engine(inside)
        try:
            yield engine
        finally:
            engine.close()


def until(what: str, found: Any) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def capabilities(engine: Engine, service: str) -> tuple[str, int]:
    """The user of a service's process, and its effective capabilities."""
    text = engine.exec(service, "cat", "/proc/1/status")
    values = {line.partition(":")[0]: line.split()[1] for line in text.splitlines() if ":" in line}
    return values["Uid"], int(values["CapEff"], 16)


@pytest.mark.timeout(400)
def test_the_compose_files_cluster_in_containers(engine: Engine) -> None:
    begun = time.monotonic()
    engine.run("etcd")
    until("etcd is healthy", lambda: engine.healthy("etcd"))
    for name in ONCE:
        engine.run(name, wait=True)
    for name in LASTING:
        engine.run(name)

    def summary() -> Any:
        said = engine.exec("node1", "cairn", "status", "-o", "json", check=False)
        return json.loads(said) if said else {"ok": False, "summary": "nothing"}

    until("node1 sees everybody Established", lambda: "17 of 17 sessions up" in summary()["summary"])
    print(f"{time.monotonic() - begun:.1f} s: {summary()['summary']}")
    for name in LASTING[:-1]:
        until(f"{name} is healthy", lambda name=name: engine.healthy(name))
    net_admin, net_bind = 1 << 12, 1 << 10
    assert capabilities(engine, "node1") == ("0", net_admin | net_bind)
    assert capabilities(engine, "rr1") == ("65532", 0)
    assert "10.77.2.0/26 via 10.60.0.22 dev eth0" in engine.exec(
        "node1", "ip", "route", "show", "proto", "84"
    )
    assert "10.77.1.0/26" in engine.exec("tor", "vtysh", "-c", "show ip route bgp")
    engine.exec("node2", "ip", "addr", "add", "10.77.2.1/32", "dev", "lo")
    assert "0% packet loss" in engine.exec("tor", "ping", "-c", "1", "-W", "5", "10.77.2.1")
