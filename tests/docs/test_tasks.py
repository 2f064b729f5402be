"""Pages of tasks, walked command by command: a router, its password, a node of BIRD that becomes an agent's.

`pytest -s` tells what each step took; the times in the pages are from there. The pages' commands and files
are used as they stand, on machines that are namespaces.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.ground import needs_root, sh
from tests.docs.commands import TOP, commands
from tests.docs.machines import Machine, eventually, on_a_switch
from tests.docs.test_documents import examples

pytestmark = [
    needs_root,
    pytest.mark.etcd,
    pytest.mark.timeout(900),
    pytest.mark.skipif("CAIRN_ALL_CLUSTERS" not in os.environ, reason="CAIRN_ALL_CLUSTERS walks the tasks"),
]
STORE = "etcd://10.0.0.5:2379"
AGENT = ["cairn", "agent", "--config", "/etc/cairn/agent.yaml"]
HERE = ["--api", "http://127.0.0.1:9178"]
CLUSTER = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 64512, nodeToNodeMeshEnabled: true}
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
kind: BlockAffinity
metadata: {name: node-2-10-77-2-0-26}
spec: {node: node-2, cidr: 10.77.2.0/26, state: confirmed}
"""
DECLARED = "".join(
    f"---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: node-{number}}}\n"
    f"spec: {{bgp: {{ipv4Address: 10.0.1.1{number}/16}}}}\n"
    for number in (1, 2)
)


class Stopwatch:
    """Tells what each step of a page took."""

    def __init__(self, page: str) -> None:
        self.begun = time.monotonic()
        self.page = page

    def __call__(self, text: str) -> None:
        print(f"{self.page}: {time.monotonic() - self.begun:6.1f} s  {text}")


def example(page: str) -> str:
    return examples(TOP / f"docs/tasks/{page}.md")[0]


class Router:
    """FRR on a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run(["install", "-d", "-o", "frr", "-g", "frr", "/run/frr"])
        for daemon in ("zebra", "bgpd"):
            machine.write(f"/run/frr/{daemon}.conf", "")
            machine.serve(
                [f"/usr/lib/frr/{daemon}", "-u", "frr", "-g", "frr", "--vty_socket", "/run/frr", "-P", "0",
                 "-z", "/run/frr/zserv.api", "-i", f"/run/frr/{daemon}.pid", "-f", f"/run/frr/{daemon}.conf"]
            )  # fmt: skip
            eventually(machine, ["ls", "/run/frr"], f"{daemon}.vty")

    def paste(self, text: str) -> None:
        self.machine.write("/run/frr/pasted", text)
        self.machine.run(["vtysh", "--vty_socket", "/run/frr", "-f", "/run/frr/pasted"])

    def show(self, what: str) -> str:
        return self.machine.run(["vtysh", "--vty_socket", "/run/frr", "-c", f"show {what}"])


def test_a_router_and_its_password(tmp_path: Path) -> None:
    if not Path("/usr/lib/frr/bgpd").exists():
        pytest.skip("FRR is not installed")
    ends = {"node_1": "10.0.1.11", "node_2": "10.0.1.12", "tor": "10.0.1.1"}
    with on_a_switch(tmp_path, 16, etcd="10.0.0.5", **ends) as machines:
        etcd, one, two, tor = machines.values()
        for machine in (etcd, one, two):
            machine.environment["CAIRN_DATASTORE"] = STORE
        etcd.write("cluster.yaml", CLUSTER)
        eventually(etcd, ["cairn", "apply", "-f", "cluster.yaml"], "4 created")
        for machine in (one, two):
            machine.write("/etc/cairn/agent.yaml", f"datastore: {STORE}\nhttp: {{}}\n")
            machine.serve(AGENT)
        for machine in (one, two):
            eventually(machine, ["cairn", "peers", *HERE], "ESTABLISHED")
        router = Router(tor)
        peer_with(etcd, one, two, router)
        rotate(etcd, one, two, router)


def peer_with(etcd: Machine, one: Machine, two: Machine, router: Router) -> None:
    step = Stopwatch("peer-with-a-router")
    get, apply_node, diff, apply, render, peers, routes = commands(
        "test_a_router_and_its_password", "*/peer-with-a-router.md"
    )
    for name in ("node-1", "node-2"):
        here = [word.replace("node-1", name) for word in get]
        document = etcd.run(here[: here.index(">")])
        assert document.count("metadata:\n") == 1
        etcd.write(here[-1], document.replace("metadata:\n", "metadata:\n  labels: {rack: rack-1}\n"))
        etcd.run([word.replace("node-1", name) for word in apply_node])
    step("nodes are labelled")
    etcd.write("tor.yaml", example("peer-with-a-router"))
    told = etcd.run(diff, 1)
    assert told.count("+ session to 10.0.1.1") == 2
    etcd.run(apply)
    step("the router is declared")
    router.paste(etcd.run(render))
    step("the router is configured")
    for node in (one, two):
        eventually(node, [*peers, *HERE], "65001   ESTABLISHED")
        eventually(node, [*routes, *HERE], "10.77.")
    deadline = time.monotonic() + 60
    while "10.77.2.0/26" not in (seen := router.show("bgp ipv4 unicast")) or "10.77.1.0/26" not in seen:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    sh(f"ip -n {one.inside} addr add 10.77.1.1/32 dev lo")
    router.machine.run(["ping", "-c", "1", "-W", "5", "10.77.1.1"])
    step("looked at from both sides; a packet went from the router to a workload")


def rotate(etcd: Machine, one: Machine, two: Machine, router: Router) -> None:
    install, diff, apply, render, down = commands("test_a_router_and_its_password", "*/rotate-a-password.md")
    new = example("rotate-a-password")
    etcd.write("before.yaml", new.replace("password-2026", "password-2025"))
    for node in (one, two):
        node.write("/etc/cairn/secrets/tor/password-2025", "the-old-one\n")
    etcd.run(["cairn", "apply", "-f", "before.yaml"])
    router.paste(one.run(render))
    all_back(one, two, down)

    step = Stopwatch("rotate-a-password")
    for node in (one, two):
        node.run(install, given="the-new-one\n")
    step("the new password is on the nodes")
    etcd.write("tor.yaml", new)
    told = etcd.run(diff, 1)
    assert told.count("~ session to 10.0.1.1") == 2, told
    print(told)
    step("looked at what it means")
    etcd.run(apply)
    step("applied")
    said = one.run(render)
    assert said.count("the-new-one") == 2
    router.paste(said)
    step("the router has it")
    all_back(one, two, down)
    step("all sessions are back")


def all_back(one: Machine, two: Machine, down: list[str]) -> None:
    """On both nodes nothing is down, and the session with the router is one of those that are up."""
    for node in (one, two):
        eventually(node, ["cairn", "peers", *HERE], "65001   ESTABLISHED")
        assert node.run([*down, *HERE]) == ""


def test_from_bird(tmp_path: Path) -> None:
    with on_a_switch(tmp_path, 16, etcd="10.0.0.5", node_1="10.0.1.11", node_2="10.0.1.12") as machines:
        _, one, two = machines.values()
        for machine in (one, two):
            machine.environment |= {"ETCD_ENDPOINTS": "http://10.0.0.5:2379", "DATASTORE_TYPE": "etcdv3"}
        one.write("cluster.yaml", CLUSTER + DECLARED)
        eventually(one, ["cairn", "apply", "-f", "cluster.yaml"], "6 created")
        birds = {machine.name: bird(machine) for machine in (one, two)}
        for number, machine in ((1, one), (2, two)):
            sh(f"ip -n {machine.inside} addr add 10.77.{number}.1/32 dev lo")
        eventually(one, ["ip", "route", "show", "proto", "bird"], "10.77.2.0/26")
        eventually(two, ["ip", "route", "show", "proto", "bird"], "10.77.1.0/26")
        words = ["ping", "-q", "-i", "0.1", "-I", "10.77.2.1", "10.77.1.1"]
        ping = subprocess.Popen([*two.root, *words], stdout=subprocess.PIPE, text=True)
        two.services.append(ping)
        migrate(one, birds["node-1"])
        ping.send_signal(signal.SIGINT)
        said, _ = ping.communicate(timeout=30)
        print(said.splitlines()[-2])
        assert " 0% packet loss" in said, said


def bird(machine: Machine) -> "subprocess.Popen[Any]":
    """BIRD as Calico configures it, which leaves the routes' metric to BIRD."""
    text = machine.run(["cairn", "render", "bird", "--node", machine.name, "--version", "2"])
    assert " metric 1024; " in text
    machine.write("/run/bird/bird.conf", text.replace(" metric 1024; ", " metric 0; "))
    machine.serve(["bird", "-f", "-c", "/run/bird/bird.conf", "-s", "/run/bird/bird.ctl"])
    return machine.services[-1]


def migrate(one: Machine, bird: "subprocess.Popen[Any]") -> None:
    step = Stopwatch("migrate-from-bird")
    get, plan, render, doctor, status, flush = commands("test_from_bird")
    for words in (get, plan, render):
        assert one.run(words)
    step("seen what would be")
    one.write("/etc/cairn/agent.yaml", "http: {}\nlearnOnly: true\nkernel: {dryRun: true}\n")
    one.serve(AGENT)
    watching = one.services[-1]
    eventually(one, ["cairn", "status", *HERE], "agent")
    before = one.run(["ip", "route"])
    time.sleep(5)  # it must go on doing nothing
    assert one.run(["ip", "route"]) == before
    assert bird.poll() is None
    watching.send_signal(signal.SIGUSR2)
    watching.wait(60)
    step("watched")
    bird.kill()  # as a container's processes end
    bird.wait()
    assert "problem" not in one.run(doctor)
    one.write("/etc/cairn/agent.yaml", "http: {}\n")
    one.serve(AGENT)
    assert "10.77.2.0/26" in eventually(one, ["ip", "route", "show", "proto", "179"], "10.77.2.0/26")
    eventually(one, [*status, *HERE], "OK")
    step("the agent has taken over")
    assert "10.77.2.0/26" in one.run(["ip", "route", "show", "proto", "bird"])
    one.run(flush)
    step("BIRD's leftovers are gone")
    time.sleep(2)  # packets go on
