"""The quick start's two nodes, walked as it is written: two machines that are namespaces, with real packets.

The commands and files are the page's own. What is not: where the page says `systemctl`, the unit's ExecStart
is run, because there is no systemd in a namespace. `pytest -s` tells what each step took. With
CAIRN_ALL_CLUSTERS the walk goes on through pages of tasks: watching from afar, draining, and from the mesh to
reflectors, under which no packet may be lost.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.agent.ground import namespace, needs_root, sh
from tests.docs.test_documents import TOP, examples, lines

PAGE = TOP / "docs/quick-start.md"
UNIT = TOP / "configs/systemd/cairn-agent.service"
ENTER = (  # a name, a /run and an /etc of its own, where only /etc is also seen from outside
    'hostname "$1" && mount -t tmpfs none /run && mkdir /run/cairn && '
    'mount -t overlay none -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/work" /etc && cd "$2" && shift 2 && '
    'exec "$@"'
)
pytestmark = [needs_root, pytest.mark.etcd]


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CAIRN_", "ETCD_"))}
    return {**kept, "PYTHONPATH": str(TOP), "COLUMNS": "200"}


@dataclass
class Machine:
    """A namespace with its own name, /etc and /run."""

    name: str
    inside: str
    folder: Path
    services: list[subprocess.Popen[Any]] = field(default_factory=list)
    root: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=_environment)

    def start(self) -> None:
        """The machine itself: a process whose namespaces later ones enter."""
        (self.folder / "etc").mkdir(parents=True)
        (self.folder / "work").mkdir()
        words = ["ip", "netns", "exec", self.inside, "unshare", "-mu", "sh", "-c", ENTER, "sh"]
        anchor = subprocess.Popen(
            [*words, self.name, str(self.folder), "sh", "-c", "echo up; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        self.services.append(anchor)
        assert anchor.stdout is not None
        assert anchor.stdout.readline() == b"up\n"
        self.root = ["nsenter", "-t", str(anchor.pid), "-n", "-m", "-u", f"--wd={self.folder}"]

    def write(self, path: str, text: str) -> None:
        subprocess.run(
            [*self.root, "sh", "-c", f"mkdir -p {Path(path).parent} && cat > {path}"],
            input=text, text=True, check=True,
        )  # fmt: skip

    def run(self, words: list[str], code: int | None = 0) -> str:
        done = subprocess.run(
            [*self.root, *_installed(words)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, (self.name, words, done.stdout, done.stderr)
        return done.stdout

    def serve(self, words: list[str]) -> None:
        with (self.folder / "service.log").open("wb") as log:
            self.services.append(
                subprocess.Popen(
                    [*self.root, *_installed(words)], env=self.environment, stdout=log, stderr=log
                )
            )

    def stop(self) -> None:
        for service in reversed(self.services):
            service.send_signal(signal.SIGUSR2 if service is not self.services[0] else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(20)
            service.kill()
            service.wait()
            if service.stdout is not None:
                service.stdout.close()


def _installed(words: list[str]) -> list[str]:
    """The words with the `cairn` of this checkout."""
    return [sys.executable, "-m", "ctl", *words[1:]] if Path(words[0]).name == "cairn" else words


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(namespace("switch"))
        sh(f"ip -n {switch} link add br0 type bridge && ip -n {switch} link set br0 up")
        found = {}
        for name, address in (
            ("etcd", 5),
            ("node-a", 1),
            ("node-b", 2),
            ("rr-1", 251),
            ("rr-2", 252),
        ):  # etcd is stopped last
            inside = stack.enter_context(namespace(name))
            sh(f"ip -n {switch} link add to-{name} type veth peer name eth0 netns {inside}")
            sh(f"ip -n {switch} link set to-{name} master br0 up")
            sh(f"ip -n {inside} addr add 10.0.0.{address}/24 dev eth0 && ip -n {inside} link set eth0 up")
            sh(f"ip -n {inside} route add default via 10.0.0.254")
            sh(f"ip netns exec {inside} sysctl -qw net.ipv4.ip_forward=1")
            machine = Machine(name, inside, tmp_path / name)
            machine.start()
            stack.callback(machine.stop)
            found[name] = machine
        found["etcd"].serve(
            ["etcd", "--data-dir", str(tmp_path / "data"), "--listen-client-urls", "http://10.0.0.5:2379",
             "--advertise-client-urls", "http://10.0.0.5:2379", "--log-level", "error"]
        )  # fmt: skip
        yield found


def eventually(machine: Machine, words: list[str], what: str) -> str:
    deadline = time.monotonic() + 60
    while what not in (seen := machine.run(words, None)):
        assert time.monotonic() < deadline, (machine.name, words, seen)
        time.sleep(0.1)
    return seen


@pytest.mark.timeout(900)  # with all tasks, on a machine that has other work
def test_two_nodes_by_the_page_alone(machines: dict[str, Machine]) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    declared, configured = (
        next(text for text in examples(PAGE) if text.startswith(f"# {name}"))
        for name in ("two-nodes.yaml", "agent.yaml")
    )
    commands = [shlex.join(words) for words in lines(PAGE)]
    start = next(index for index, words in enumerate(commands) if "two-nodes.yaml" in words)
    apply, doctor, enable, *looks = commands[start:]
    assert enable == "systemctl enable --now cairn-agent"
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
    assert "10.77.2.0/26 via 10.0.0.2 dev eth0" in seen["ip route show proto 84"]
    assert "10.77.1.0/26 via 10.0.0.1 dev eth0" in b.run(["ip", "route", "show", "proto", "84"])
    sh(f"ip -n {b.inside} addr add 10.77.2.1/32 dev lo")
    a.run(["ping", "-c", "1", "-W", "5", "10.77.2.1"])
    step("a packet went from node-a to an address of node-b")
    if "CAIRN_ALL_CLUSTERS" in os.environ:
        watch_from_afar(etcd)
        step("watched from afar")
        drain(a, b)
        step("drained and back")
        to_reflectors(etcd, a, reflectors, run, step)


def task(name: str) -> tuple[list[list[str]], list[str]]:
    """The command lines and the examples of a page of tasks."""
    page = TOP / f"docs/tasks/{name}.md"
    return list(lines(page)), examples(page)


def watch_from_afar(etcd: Machine) -> None:
    here = {"node-1": "node-a", "rack-3-*": "node-b"}
    asked = [words for words in task("watch")[0] if "--datastore" in words]
    assert len(asked) > 5
    for words in asked:
        etcd.run([here.get(word, word) for word in words])


def drain(a: Machine, b: Machine) -> None:
    commands = [words for words in task("drain")[0] if words[:2] == ["cairn", "agent"]]
    for words, seen in zip(commands, (False, True), strict=True):
        a.run(words)
        deadline = time.monotonic() + 60
        while ("10.77.1.0/26" in b.run(["ip", "route", "show", "proto", "84"])) != seen:
            assert time.monotonic() < deadline, words
            time.sleep(0.1)


def to_reflectors(
    etcd: Machine, a: Machine, reflectors: list[Machine], run: list[str], step: Callable[[str], None]
) -> None:
    commands, files = task("mesh-to-reflectors")
    for text in files:
        etcd.write(text.splitlines()[0].removeprefix("# "), text)
    pinging = [*a.root, "ping", "-q", "-i", "0.1", "10.77.2.1"]
    ping = subprocess.Popen(pinging, stdout=subprocess.PIPE, text=True)
    a.services.append(ping)
    diff, apply, status, down, diff_after, switch, *_ = [
        words if words[1] in ("status", "peers") else [*words, "--datastore", "etcd://10.0.0.5:2379"]
        for words in commands
        if words[0] == "cairn"
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
        [*etcd.root, *_installed(switch)], env=_environment(), input="yes\n", text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert confirmed.returncode == 0, (confirmed.stdout, confirmed.stderr)
    eventually(a, status, "2/2")
    step("the mesh is off")
    ping.send_signal(signal.SIGINT)
    said, _ = ping.communicate(timeout=30)
    assert " 0% packet loss" in said, said
    print(said.splitlines()[-2])
