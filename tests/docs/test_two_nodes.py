"""The quick start's two nodes, walked as it is written: two machines that are namespaces, with real packets.

The commands and files are the page's own. What is not: where the page says `systemctl`, the unit's ExecStart
is run, because there is no systemd in a namespace. `pytest -s` tells what each step took. With
CAIRN_ALL_CLUSTERS the walk goes on through pages of tasks: watching from afar, draining, and from the mesh to
reflectors, under which no packet may be lost.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.ground import needs_root, sh
from tests.docs.commands import TOP, commands
from tests.docs.machines import Machine, environment, eventually, installed, on_a_switch
from tests.docs.test_documents import examples

PAGE = TOP / "docs/quick-start.md"
UNIT = TOP / "configs/systemd/cairn-agent.service"
pytestmark = [needs_root, pytest.mark.etcd]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    addresses = {"etcd": 5, "node_a": 1, "node_b": 2, "rr_1": 251, "rr_2": 252}
    with on_a_switch(tmp_path, 24, **{name: f"10.0.0.{last}" for name, last in addresses.items()}) as found:
        yield found


@pytest.mark.timeout(900)  # with all tasks, on a machine that has other work
def test_two_nodes_by_the_page_alone(machines: dict[str, Machine]) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    declared, configured = (
        next(text for text in examples(PAGE) if text.startswith(f"# {name}"))
        for name in ("two-nodes.yaml", "agent.yaml")
    )
    apply, doctor, *looks = map(
        shlex.join, commands("test_two_nodes_by_the_page_alone", "docs/quick-start.md")
    )
    run = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)[0].split()
    etcd, a, b, *reflectors = machines.values()
    begun = time.monotonic()

    def step(text: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {text}")

    etcd.write("two-nodes.yaml", declared)
    eventually(etcd, [*shlex.split(apply), "--yes"], "applied: 4 created")
    step("the cluster is declared")
    for machine in (a, b):
        machine.write("/etc/cairn/agent.yaml", configured)
        assert "problem" not in machine.run(shlex.split(doctor))
    step("both machines are checked")
    for machine in (a, b):
        machine.serve(run)
    for machine, other in ((a, b), (b, a)):
        eventually(machine, ["cairn", "status", "--api", "http://127.0.0.1:9178"], "1/1")
        step(f"{machine.name} has its session with {other.name}")
    assert "problem" not in a.run(shlex.split(doctor)), "the port is Cairn's own"
    seen: dict[str, str] = {}
    for line in looks:
        if "--datastore" in line:
            seen["afar"] = eventually(
                etcd, shlex.split(line), "OK: 2 of 2 nodes alive; 2 of 2 services ready"
            )
        else:
            seen[line] = a.run(shlex.split(line))
    step("everything was looked at")
    assert "Established" in seen["cairn peers"] or "ESTABLISHED" in seen["cairn peers"]
    assert re.search(r"\*\s+10\.77\.2\.0/26\s+10\.0\.0\.2", seen["cairn routes"])
    assert "10.77.2.0/26 via 10.0.0.2 dev eth0" in seen["ip route show proto 179"]
    assert "10.77.1.0/26 via 10.0.0.1 dev eth0" in b.run(["ip", "route", "show", "proto", "179"])
    sh(f"ip -n {b.inside} addr add 10.77.2.1/32 dev lo")
    a.run(["ping", "-c", "1", "-W", "5", "10.77.2.1"])
    step("a packet went from node-a to an address of node-b")
    if "CAIRN_ALL_CLUSTERS" in os.environ:
        watch_from_afar(etcd)
        step("watched from afar")
        drain(a, b)
        step("drained and back")
        to_reflectors(etcd, a, reflectors, run, step)
        upgrade(etcd, a, reflectors[0], run, step)


def watch_from_afar(etcd: Machine) -> None:
    here = {"node-1": "node-a", "rack-3-*": "node-b"}
    asked = commands("test_two_nodes_by_the_page_alone", "*/watch.md")
    assert len(asked) > 5
    for words in asked:
        etcd.run([here.get(word, word) for word in words])


def drain(a: Machine, b: Machine) -> None:
    for verb, seen in (("drain", False), ("undrain", True)):
        a.run(["cairn", "agent", verb])
        deadline = time.monotonic() + 60
        while ("10.77.1.0/26" in b.run(["ip", "route", "show", "proto", "179"])) != seen:
            assert time.monotonic() < deadline, verb
            time.sleep(0.1)


def to_reflectors(
    etcd: Machine, a: Machine, reflectors: list[Machine], run: list[str], step: Callable[[str], None]
) -> None:
    for text in examples(TOP / "docs/tasks/mesh-to-reflectors.md"):
        etcd.write(text.splitlines()[0].removeprefix("# "), text)
    pinging = [*a.root, "ping", "-q", "-i", "0.1", "10.77.2.1"]
    ping = subprocess.Popen(pinging, stdout=subprocess.PIPE, text=True)
    a.services.append(ping)
    diff, apply, status, down, diff_after, switch = [
        words if words[1] in ("status", "peers") else [*words, "--datastore", "etcd://10.0.0.5:2379"]
        for words in commands("test_two_nodes_by_the_page_alone", "*/mesh-to-reflectors.md")
    ]
    told = etcd.run(diff, 1)
    assert "+ session to" in told
    assert "- session to" not in told
    etcd.run(apply)
    for machine in reflectors:
        machine.write(
            "/etc/cairn/reflector.yaml",
            f"node: {machine.name}\ndatastore: etcd://10.0.0.5:2379\nhttp: {{}}\n",
        )
        machine.serve([word.replace("agent", "reflector") for word in run])
    eventually(a, status, "3/3")
    assert a.run(down) == ""
    step("both reflectors have all their sessions")
    etcd.run(diff_after, 1)
    confirmed = subprocess.run(
        [*etcd.root, *installed(switch)], env=environment(), input="yes\n", text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert confirmed.returncode == 0, (confirmed.stdout, confirmed.stderr)
    eventually(a, status, "2/2")
    step("the mesh is off")
    ping.send_signal(signal.SIGINT)
    said, _ = ping.communicate(timeout=30)
    assert " 0% packet loss" in said, said
    print(said.splitlines()[-2])


def upgrade(
    etcd: Machine, a: Machine, reflector: Machine, run: list[str], step: Callable[[str], None]
) -> None:
    """`systemctl restart` is SIGQUIT and the unit's command again; no packet may be lost."""
    pinging = [*a.root, "ping", "-q", "-i", "0.1", "10.77.2.1"]
    ping = subprocess.Popen(pinging, stdout=subprocess.PIPE, text=True)
    a.services.append(ping)
    old = reflector.services[-1]
    old.send_signal(signal.SIGQUIT)
    assert old.wait(60) == 0
    reflector.serve([word.replace("agent", "reflector") for word in run])
    for words in (["cairn", "peers"], ["cairn", "peers", "--api", "http://127.0.0.1:9178"]):
        eventually(reflector if len(words) == 2 else a, words, "ESTABLISHED")
    eventually(etcd, ["cairn", "status", "--datastore", "etcd://10.0.0.5:2379"], "OK")
    step("a reflector was restarted, and the status says OK")
    ping.send_signal(signal.SIGINT)
    said, _ = ping.communicate(timeout=30)
    assert " 0% packet loss" in said, said
    print(said.splitlines()[-2])
    told = etcd.run(
        ["cairn", "watch", "--seconds", "0", "--severity", "warning", "--past", "100", "--node", "node-a",
         "--datastore", "etcd://10.0.0.5:2379"]
    )  # fmt: skip
    assert "session.down" in told, "the page says that these go"
