"""What the pages say of running services, done to those that a real systemd runs: an agent, a reflector.

The commands are the pages' own (`commands`). An ordinary run has those that are for systemd; with
CAIRN_ALL_CLUSTERS all of them are run.
"""

import itertools
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.ground import needs_root
from tests.docs.commands import TOP, commands
from tests.docs.machines import Machine, eventually, on_a_switch
from tests.docs.test_documents import examples

pytestmark = [
    needs_root,
    pytest.mark.etcd,
    pytest.mark.skipif(not Path("/lib/systemd/systemd").exists(), reason="systemd is not installed"),
]
ALL = "CAIRN_ALL_CLUSTERS" in os.environ
STORE = "etcd://10.0.0.5:2379"
CLUSTER = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 64512, nodeToNodeMeshEnabled: false}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: workloads}
spec: {cidr: 10.77.0.0/16, ipipMode: Never, vxlanMode: Never}
---
apiVersion: projectcalico.org/v3
kind: BlockAffinity
metadata: {name: node-1-10-77-1-0-26}
spec: {node: node-1, cidr: 10.77.1.0/26, state: confirmed}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: rr-1, labels: {role: reflector}}
spec: {bgp: {ipv4Address: 10.0.0.251/24, routeReflectorClusterID: 244.0.0.1}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: reflectors}
spec: {nodeSelector: all(), peerSelector: role == 'reflector'}
"""
BLOCK = "10.77.1.0/26"
NAMES = {
    "ADDRESS": "10.77.1.5", "FILE": "cluster.yaml", "NODE": "node-1", "PEER": "10.0.0.7", "PREFIX": BLOCK,
}  # fmt: skip


class Walk:
    """Runs commands of the pages, and knows which are left."""

    def __init__(self, documented: list[list[str]]) -> None:
        self.known = documented
        self.left = list(documented)

    def words(self, command: str) -> list[str]:
        words = shlex.split(command)
        assert words in self.known, "no page says so"
        if words in self.left:
            self.left.remove(words)
        return [NAMES.get(word, word) for word in words]

    def __call__(self, machine: Machine, command: str, *more: str, code: int | None = 0) -> str:
        words = self.words(command)
        return machine.run(["sh", "-c", command] if "|" in words else [*words, *more], code)

    def serve(self, machine: Machine, command: str) -> None:
        machine.serve(self.words(command))

    def until(self, machine: Machine, command: str, what: str) -> str:
        return eventually(machine, self.words(command), what)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def service(machine: Machine, name: str) -> dict[str, str]:
    """What systemd knows of a unit."""
    return dict(line.split("=", 1) for line in machine.run(["systemctl", "show", name]).splitlines())


def exabgp(node: Machine) -> str:
    return node.run(["pgrep", "-f", "agent.exabgp"], None)


@pytest.mark.timeout(600)
def test_services_are_looked_after_as_the_pages_say(tmp_path: Path) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    walk = Walk(commands("test_services_are_looked_after_as_the_pages_say"))
    ends = {"etcd": "10.0.0.5", "node_1": "10.0.0.7", "rr_1": "10.0.0.251"}
    with on_a_switch(tmp_path, 24, booted=("node_1", "rr_1"), **ends) as machines:
        etcd, node, reflector = machines.values()
        etcd.environment["ETCDCTL_ENDPOINTS"] = "http://10.0.0.5:2379"
        for machine in machines.values():
            machine.environment["CAIRN_DATASTORE"] = STORE
            machine.write("cluster.yaml", CLUSTER)
        eventually(etcd, ["cairn", "apply", "-f", "cluster.yaml"], "5 created")
        if ALL:
            in_the_foreground(walk, node, reflector)
        started(walk, node, reflector)
        if ALL:
            looked_at(walk, node, reflector)
            listened_to(walk, node, tmp_path)
            drained(walk, node, reflector)
            one_session(walk, node, reflector)
        restarted(walk, node, reflector)
        ended_for_good(walk, node, reflector)
        if ALL:
            walk(etcd, "etcdctl endpoint status")
            walk(etcd, "cairn delete bgppeer reflectors")
    assert not [words for words in walk.left if ALL or words[0] in ("systemctl", "journalctl")]


def in_the_foreground(walk: Walk, node: Machine, reflector: Machine) -> None:
    """The README's two lines."""
    node.write("agent.yaml", f"datastore: {STORE}\nhttp: {{}}\n")
    [text] = examples(TOP / "README.md")
    reflector.write("reflector.yaml", text)
    for machine, command, port, end, code in (
        (node, "cairn agent --config agent.yaml", ":9178", "-USR2", 5),  # for good, systemd is told so
        (reflector, "cairn reflector --config reflector.yaml", ":179", "-TERM", 0),
    ):
        walk.serve(machine, command)
        eventually(machine, ["ss", "-Hltn"], port)
        machine.run(["pkill", end, "-f", command.partition(" ")[2]])
        assert machine.services.pop().wait(60) == code


def started(walk: Walk, node: Machine, reflector: Machine) -> None:
    """As the installer says at its end. Type=notify: a start that fails is an error of systemctl's."""
    common = f"datastore: {STORE}\nhttp: {{}}\n"
    node.write("/etc/cairn/agent.yaml", common + "mqtt: {host: 127.0.0.1}\n" * ALL)
    reflector.write("/etc/cairn/reflector.yaml", f"node: rr-1\n{common}")
    if ALL:
        node.serve(["mosquitto"])
    assert "problem" not in walk(node, "cairn doctor")
    walk(node, "systemctl enable --now cairn-agent")
    reflector.run(["systemctl", "enable", "--now", "cairn-reflector"])
    assert service(reflector, "cairn-reflector")["UnitFileState"] == "enabled"
    eventually(reflector, ["cairn", "peers"], "ESTABLISHED")
    eventually(reflector, ["cairn", "routes"], BLOCK)
    unreadable(node, reflector)
    assert "active (running)" in walk(node, "systemctl status cairn-agent")
    assert "agent started" in walk(node, "journalctl -u cairn-agent -n 50")
    assert walk(node, "journalctl -u cairn-agent | grep refused", code=1) == ""
    walk(node, "systemctl kill --kill-whom=main --signal=SIGRTMIN+22 cairn-agent")
    eventually(node, ["curl", "-s", "http://127.0.0.1:9178/api/v1/status"], "debug")


def unreadable(node: Machine, reflector: Machine) -> None:
    """`cairn doctor` sees what root can read and the service cannot."""
    for machine, kind, path, spoil in (
        (
            node,
            "agent",
            "/etc/cairn/agent.yaml",
            ["chown", "65533"],
        ),  # root without the right to others' files
        (node, "agent", "/etc/cairn/secrets/tor/password", ["chown", "65533"]),
        (reflector, "reflector", "/etc/cairn/reflector.yaml", ["true"]),
    ):
        if path.endswith("password"):
            machine.write(path, "s3cret\n")
        for words, code in (([*spoil, path], 1), (["chown", "0", path], 0)):
            machine.run(words)
            machine.run(["chmod", "600" if code else "644", path])
            said = json.loads(machine.run(["cairn", "doctor", "-o", "json"], code))["findings"]
            [found] = [each for each in said if each["check"] == f"files of cairn-{kind}"]
            assert found["verdict"] == ("problem" if code else "ok")
            assert (f"{path}: Permission denied" in found["seen"]) is bool(code)


def looked_at(walk: Walk, node: Machine, reflector: Machine) -> None:
    walk.until(node, "cairn status", "OK: 2 of 2 nodes alive; 2 of 2 services ready")
    walk(node, "cairn status --api http://127.0.0.1:9178")
    assert walk(node, "curl http://127.0.0.1:9178/healthz") == "healthy\n"
    assert walk(node, "curl http://127.0.0.1:9178/readyz") == "all peers are established\n"
    assert "rr-1" in walk(node, "cairn plan NODE")
    assert walk(node, "cairn peers --down") == ""
    assert json.loads(walk(node, "cairn peers --down -o json"))["peers"] == []
    walk(node, "cairn diff -f FILE")
    walk(node, "cairn get all")
    assert "node-1" in walk(node, "cairn explain 10.77.1.5")
    walk(node, "cairn explain ADDRESS")
    for command in ("cairn routes PREFIX", "cairn routes 10.77.1.5"):
        assert BLOCK in walk(reflector, command)
    assert "blackhole" in walk(node, "ip route show PREFIX")
    walk(node, "ip route get 10.77.1.5", code=None)  # as the kernel has it: an error
    node.run(["ln", "-s", "/opt/cairn/source/configs"])
    walk(node, "cairn apply -f configs/resources/caliconodestatus.yaml")
    walk.until(node, "cairn get caliconodestatus node-1 -o yaml", "Established")
    walk(node, "cairn watch --severity warning", "--seconds", "0")
    walk(node, "cairn --install-completion", code=None)
    node.run(["systemctl", "kill", "--kill-whom=main", "--signal=SIGRTMIN+23", "cairn-agent"])
    until(lambda: '"debug"' not in node.run(["cairn", "status", "-o", "json"]))
    walk(node, "curl -X POST 'http://127.0.0.1:9178/api/v1/log-level?level=debug'")
    walk.until(node, "cairn status -o json", '"debug"')


def listened_to(walk: Walk, node: Machine, folder: Path) -> None:
    """What goes on until it is ended: it tells of what is done meanwhile."""
    for command, told, deeds in (
        ("ip monitor route", "Deleted", [["ip", "route", "del", "blackhole", BLOCK]]),
        (
            "mosquitto_sub -t 'cairn/v1/+/+/events'",
            "agent.draining",
            [["cairn", "agent", "drain"], ["cairn", "agent", "undrain"]],
        ),
    ):
        deed = itertools.cycle(deeds)
        with (folder / "heard").open("w+") as heard:
            listener = node.begin(walk.words(command), heard)
            deadline = time.monotonic() + 60
            while told not in (folder / "heard").read_text():
                assert time.monotonic() < deadline, command
                node.run(next(deed), None)
                time.sleep(0.2)
            listener.terminate()
    node.run(["cairn", "agent", "undrain"])
    eventually(node, ["ip", "route", "show", "proto", "179"], BLOCK)


def drained(walk: Walk, node: Machine, reflector: Machine) -> None:
    walk(node, "cairn agent drain")
    until(lambda: BLOCK not in reflector.run(["cairn", "routes"], None))
    walk(node, "cairn agent undrain")
    eventually(reflector, ["cairn", "routes"], BLOCK)
    walk(reflector, "cairn reflector drain")
    assert "draining" in reflector.run(["cairn", "status"], 1)
    walk(reflector, "cairn reflector undrain")


def one_session(walk: Walk, node: Machine, reflector: Machine) -> None:
    walk(reflector, "cairn reflector disable 10.0.0.7 --reason 'new line card'")
    eventually(node, ["cairn", "peers", "--down"], "notification received (6,2)")
    walk(reflector, "cairn reflector enable PEER")
    eventually(reflector, ["cairn", "peers"], "ESTABLISHED")
    walk(reflector, "cairn reflector reset 10.0.0.7")
    eventually(reflector, ["cairn", "peers"], "ESTABLISHED")
    walk(reflector, "cairn reflector refresh 10.0.0.7")
    walk(reflector, "cairn reflector enable 10.0.0.7")


def restarted(walk: Walk, node: Machine, reflector: Machine) -> None:
    """The agent's restart is seen by no peer; the reflector's keeps its clients' routes."""
    speaker = exabgp(node)
    assert speaker
    before = service(node, "cairn-agent")["MainPID"]
    walk(node, "systemctl restart cairn-agent")
    assert service(node, "cairn-agent")["MainPID"] != before
    eventually(node, ["cairn", "peers"], "ESTABLISHED")
    assert exabgp(node) == speaker
    reloaded(node)
    assert exabgp(node) == speaker
    walk(reflector, "systemctl restart cairn-reflector")
    assert service(reflector, "cairn-reflector")["ActiveState"] == "active"
    eventually(reflector, ["cairn", "peers"], "ESTABLISHED")
    eventually(reflector, ["cairn", "routes"], BLOCK)


def reloaded(node: Machine) -> None:
    """Another configuration is no stop to systemd."""
    before = service(node, "cairn-agent")["MainPID"]
    node.run(["sh", "-c", "echo 'logLevel: debug' >>/etc/cairn/agent.yaml"])
    node.run(["systemctl", "reload", "cairn-agent"])
    eventually(node, ["curl", "-s", "http://127.0.0.1:9178/api/v1/status"], "debug")
    until(lambda: service(node, "cairn-agent")["SubState"] == "running")
    assert service(node, "cairn-agent")["MainPID"] == before


def ended_for_good(walk: Walk, node: Machine, reflector: Machine) -> None:
    walk(node, "systemctl kill --kill-whom=main --signal=SIGUSR2 cairn-agent")
    until(lambda: BLOCK not in reflector.run(["cairn", "routes"], None))
    until(lambda: service(node, "cairn-agent")["ActiveState"] != "active")
    assert service(node, "cairn-agent")["ActiveState"] == "inactive", "systemd starts it again"
    assert exabgp(node) == ""
    reflector.run(["systemctl", "stop", "cairn-reflector"])
    assert service(reflector, "cairn-reflector")["Result"] == "success"
