"""The lab as a user runs it: as root and not, interrupted and killed; it tells the truth, leaves no trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ctl.lab import netns
from ctl.lab.daemons import processes_of
from ctl.lab.runner import sweep
from tests.ctl.cairn import ROOT, cairn, clean_environment

NOBODY = 65534
needs_namespaces = pytest.mark.scenario


@dataclass
class Lab:
    """A lab that runs, and the events it has told so far."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its namespaces, its processes and its directory are called."""
        [name] = [lab for lab in netns.labs() if lab.startswith(f"lab-{self.process.pid}-")]
        return name

    def until(self, kind: str) -> dict[str, Any]:
        """Read events until one of this kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind:
                return self.events[-1]
        raise AssertionError(f"ended before any {kind}: {self.events}\n{self.process.stderr.read()}")  # type: ignore[union-attr]  # it is a pipe

    def end(self) -> int:
        """Read the rest; its exit code."""
        output, errors = self.process.communicate(timeout=100)
        self.events += [json.loads(line) for line in output.splitlines()]
        if errors:
            print(errors)
        return self.process.returncode

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event["event"] == kind]


@dataclass
class Labs:
    """Starts labs, and ends those that a failing test left."""

    started: list[Lab] = field(default_factory=list)

    def start(self, *words: str, before: Sequence[str] = ()) -> Lab:
        """Run `cairn lab --json` with these words."""
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "ctl", "lab", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        self.started.append(Lab(process))
        return self.started[-1]


@pytest.fixture
def labs() -> Iterator[Labs]:
    started = Labs()
    yield started
    for lab in started.started:
        if lab.process.poll() is None:
            lab.process.send_signal(signal.SIGTERM)
            lab.process.wait(60)
        for pipe in (lab.process.stdout, lab.process.stderr):
            if pipe is not None:
                pipe.close()


def traces(pid: int) -> list[str]:
    """What there is of the lab that the process `pid` made."""
    namespaces = Path("/run/netns")
    found = [lab for lab in netns.labs() if lab.startswith(f"lab-{pid}-")]
    if namespaces.is_dir():
        found += [entry.name for entry in namespaces.iterdir() if f"lab-{pid}-" in entry.name]
    return found + [str(place) for place in Path(tempfile.gettempdir()).glob(f"cairn-lab-{pid}-*")]


TITLES = [
    "add web1 on node1",
    "add web2 on node2",
    "add web3 on node3",
    "add db1 on node1",
    "move web1 to node3",
    "remove web2",
    "kill node3",
    "bring node3 back",
    "move web1 to node1",
]


def assert_the_story_was_told(lab: Lab) -> None:
    assert [event["step"] for event in lab.of("step.done")] == TITLES
    assert [(event["step"], event["converged"]) for event in lab.of("lab.result")] == [
        (title, True) for title in TITLES
    ]
    assert lab.of("lab.done")[0]["converged"] is True
    assert all(event["seconds"] >= 0 and event["last"] for event in lab.of("lab.result"))
    killed = next(event for event in lab.of("step.done") if event["step"] == "kill node3")
    assert "node3" not in killed["reached"]


@needs_namespaces
@pytest.mark.etcd
def test_as_root_with_etcd_and_two_reflectors_every_kernel_follows_and_pings_get_through(labs: Labs) -> None:
    lab = labs.start("--store", "etcd", "--reflectors", "2")
    assert lab.end() == 0, lab.events[-3:]
    assert lab.of("lab.ready")[0]["mode"] == "namespaces"
    assert_the_story_was_told(lab)
    for event in lab.of("step.done"):
        assert event["pinged"] is not None
        assert "router" in event["reached"]
    learned = {(event["member"], event["prefix"], event["route"]) for event in lab.of("route.changed")}
    assert ("router", "10.77.1.1/32", "via 10.200.3.2") in learned  # the moved workload, where it is now
    assert ("node2", "10.77.1.0/26", "via 10.200.2.1") in learned  # another broadcast domain, by the router
    assert ("node1", "10.77.1.0/26", "blackhole") in learned
    assert traces(lab.process.pid) == []


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="setpriv is missing")
def test_without_root_the_same_story_on_loopback(labs: Labs) -> None:
    unprivileged = [
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        # nothing but being able to read the interpreter, wherever root keeps it
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
    ]  # fmt: skip
    lab = labs.start(before=unprivileged if os.geteuid() == 0 else ())
    assert lab.end() == 0, lab.events[-3:]
    assert "need root" in lab.of("lab.loopback")[0]["message"]
    assert lab.of("lab.ready")[0]["mode"] == "loopback"
    assert_the_story_was_told(lab)
    shown = {event["message"] for event in lab.of("route.changed")}
    assert "node2 would write 10.77.1.0/26 via 127.200.0.1" in shown
    assert "node3 would write 10.77.1.1/32 dev caliweb1" in shown
    assert all(event["pinged"] is None for event in lab.of("step.done"))
    assert traces(lab.process.pid) == []


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(labs: Labs, number: signal.Signals) -> None:
    lab = labs.start()
    lab.until("step.begun")
    assert traces(lab.process.pid)
    lab.process.send_signal(number)
    assert lab.end() == 128 + number
    assert lab.of("lab.interrupted")
    assert traces(lab.process.pid) == []


@needs_namespaces
def test_what_a_killed_lab_leaves_the_next_one_cleans_up(labs: Labs) -> None:
    lab = labs.start()
    lab.until("lab.ready")
    name = lab.name
    lab.process.kill()
    lab.process.wait()
    assert netns.processes(name)
    assert traces(lab.process.pid)
    assert name in sweep()
    assert netns.processes(name) == []
    assert traces(lab.process.pid) == []


def test_a_service_that_dies_by_itself_ends_the_lab_with_its_last_words(labs: Labs) -> None:
    lab = labs.start("--loopback")
    lab.until("lab.ready")
    for pid in processes_of(lab.name, "node2"):
        os.kill(pid, signal.SIGKILL)
    assert lab.end() == 1
    assert "node2 ended by itself (killed by SIGKILL)" in lab.of("lab.failed")[0]["message"]
    assert traces(lab.process.pid) == []


def test_a_held_lab_answers_status_peers_and_routes(labs: Labs) -> None:
    lab = labs.start("--loopback", "--nodes", "2", "--hold")
    store = lab.until("lab.ready")["store"]
    done = lab.until("lab.done")
    assert done["converged"]
    for _ in range(4):
        lab.until("lab.held")
    urls = {event["member"]: event["url"] for event in lab.of("lab.held") if "member" in event}
    assert set(urls) == {"rr1", "node1", "node2"}
    asked = [word for url in urls.values() for word in ("--api", url)]

    status = cairn("status", *asked, "--datastore", store)
    assert status.code == 0, (status.out, status.err)
    assert status.out.startswith("OK: 3 of 3 nodes alive; 3 of 3 services ready")
    document = cairn("status", *asked, "-o", "json").json
    assert document["ok"] is True
    assert {service["node"] for service in document["services"]} == {"rr1", "node1", "node2"}

    peers = cairn("peers", "--api", urls["node1"], "-o", "json").json["peers"]
    assert [(peer["address"], peer["state"]) for peer in peers] == [("127.201.0.1", "ESTABLISHED")]
    assert "127.201.0.1" in cairn("peers", "--api", urls["node1"]).out
    assert cairn("peers", "--down", "--api", urls["node1"], "-o", "json").json["peers"] == []

    routes = cairn("routes", "10.77.1.0/26", "--api", urls["node2"], "-o", "json").json["routes"]
    assert [(route["prefix"], route["next_hop"], route["best"]) for route in routes] == [
        ("10.77.1.0/26", "127.200.0.1", True)
    ]
    assert "10.77.1.0/26" in cairn("routes", "--api", urls["node2"]).out
    assert cairn("routes", "10.99.0.0/16", "--api", urls["node2"]).code == 1

    gone = cairn("status", "--api", urls["node1"], "--api", "http://127.0.0.1:1")
    assert (gone.code, "nothing answers at http://127.0.0.1:1" in gone.out) == (3, True)
    items = cairn("get", "wep", "-o", "json", "--datastore", store).json["items"]
    assert {item["spec"]["workload"] for item in items} == {"web1", "db1"}

    lab.process.send_signal(signal.SIGINT)
    assert lab.end() == 0
    assert traces(lab.process.pid) == []


def test_numbers_that_make_no_lab_are_wrong_usage() -> None:
    assert cairn("lab", "--nodes", "1").code == 2
    assert cairn("lab", "--reflectors", "0").code == 2
    without = cairn("lab", "--store", "etcd", "--loopback", environment={"PATH": str(ROOT)})
    assert (without.code, "etcd-server" in without.err) == (2, True)
