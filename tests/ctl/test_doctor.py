"""`cairn doctor` on a node that is broken in eleven ways: each finding is right, and its remedy works."""

import errno
import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig
from ctl.checks import of_machine
from ctl.output import rfc3339
from tests.agent.ground import namespace, needs_root, sh
from tests.ctl.cairn import cairn
from tests.docs.machines import Machine, eventually

pytestmark = [needs_root, pytest.mark.etcd]
STORE = "etcd://127.0.0.1:2379"
CLUSTER = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 10.0.0.1/24, asNumber: 64512}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: workloads}
spec: {cidr: 10.77.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.254, asNumber: 65001, password: {secretKeyRef: {name: tor, key: password}}}
"""
LISTEN = "import socket, time; s = socket.create_server(('', 179)); print(flush=True); time.sleep(600)"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with namespace("doctor") as inside:
        sh(f"ip -n {inside} link add eth0 type veth peer name eth1")
        sh(f"ip -n {inside} link set eth0 up && ip -n {inside} link set eth1 up")
        sh(f"ip -n {inside} addr add 10.0.0.1/24 dev eth0")
        machine = Machine("n1", inside, tmp_path / "n1")
        try:
            machine.start()
            machine.serve(["etcd", "--data-dir", str(tmp_path / "data"), "--log-level", "error"])
            yield machine
        finally:
            machine.stop()


def examine(machine: Machine, code: int) -> dict[str, dict[str, str]]:
    document: Any = json.loads(machine.run(["cairn", "doctor", "-o", "json"], code))
    return {finding["check"]: finding for finding in document["findings"]}


def of_another(at: datetime) -> list[list[str]]:
    """What another node that is alive writes, its clock showing `at`."""
    status = {"service": "agent", "node": "n2"}
    spec = {**status, "reportedAt": rfc3339(at), "since": rfc3339(at), "status": status}
    return [
        ["etcdctl", "put", f"/cairn/v1/{place}", json.dumps({"metadata": {"name": name}, "spec": content})]
        for place, name, content in (
            ("reports/agent.n2", "agent.n2", spec),
            ("leases/n2", "n2", {"holder": "n2"}),
        )
    ]


def test_eleven_ways_to_break_a_node(machine: Machine) -> None:
    machine.write("/etc/cairn/agent.yaml", f"node: n1\ndatastore: {STORE}\n")
    machine.write("cluster.yaml", CLUSTER)
    eventually(machine, ["cairn", "apply", "-f", "cluster.yaml", "--datastore", STORE], "3 created")
    packages = machine.folder / "packages"
    old = packages / "exabgp-4.2.25.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: exabgp\nVersion: 4.2.25\n")
    machine.environment["PYTHONPATH"] = f"{packages}:{machine.environment['PYTHONPATH']}"
    machine.serve([sys.executable, "-c", LISTEN, "/srv/cairn/its.conf"])
    taken = machine.services[-1]
    for line in textwrap.dedent(
        """\
        sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1
        ip route add 10.77.9.0/26 via 10.0.0.9 proto bird
        ip route add 10.0.9.0/24 via 10.0.0.9 proto bird
        ip route add 10.77.8.0/26 via 10.0.0.9
        ip route add 10.77.7.0/26 via 10.0.0.9 proto 179
        mkdir -p /run/cairn/exabgp
        mount -t tmpfs -o size=64k none /run/cairn/exabgp
        ip netns add cairn-lab-999999999-1-node1
        nft add table ip filter
        nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'
        """
    ).splitlines():
        machine.run(shlex.split(line))
    for words in of_another(datetime.now(UTC) + timedelta(days=1)):
        machine.run(words)

    eventually(machine, ["ss", "-Htln"], ":179 ")
    ill = examine(machine, 1)
    seen = {
        "configuration": ("ok", "agent.yaml"),
        "exabgp": ("problem", "4.2.25"),
        "net.ipv4.ip_forward": ("problem", "0"),
        "rp_filter": ("note", "strict on eth0"),
        "firewall": ("note", "ip filter FORWARD"),
        "port 179": ("problem", f"(pid {taken.pid})"),
        "room in /run/cairn/exabgp": ("problem", "0 MiB"),
        "leftovers": ("note", "lab-999999999-1"),
        "datastore": ("ok", "resources"),
        "clock": ("problem", "23h 5"),
        "node n1": ("ok", "1 sessions"),
        "passwords": ("problem", "there is no file /etc/cairn/secrets/tor/password"),
        "routes": (
            "note",
            "1 of Cairn's, and others' in the pools: 10.77.8.0/26 (boot), 10.77.9.0/26 (bird)",
        ),
    }
    for check, (verdict, text) in seen.items():
        assert ill[check]["verdict"] == verdict, ill[check]
        assert text in ill[check]["seen"], ill[check]
        assert bool(ill[check]["remedy"]) == (verdict != "ok")
    assert "10.0.9.0/24" not in ill["routes"]["seen"]

    for check, remedies in (("net.ipv4.ip_forward", 1), ("rp_filter", 1), ("routes", 2)):
        found = re.findall("`([^`]+)`", ill[check]["remedy"])
        assert len(found) == remedies
        for remedy in found:
            machine.run(shlex.split(remedy))
    machine.environment["PYTHONPATH"] = machine.environment["PYTHONPATH"].partition(":")[2]
    taken.kill()
    taken.wait()
    machine.run(["umount", "/run/cairn/exabgp"])
    machine.run(["ip", "netns", "del", "cairn-lab-999999999-1-node1"])
    machine.run(["nft", "flush", "ruleset"])
    machine.write("/etc/cairn/secrets/tor/password", "s3cret\n")
    for words in of_another(datetime.now(UTC)):
        machine.run(words)
    well = examine(machine, 0)
    assert {check for check, finding in well.items() if finding["verdict"] != "ok"} <= {
        "net.ipv6.conf.all.forwarding", "passwords",
    }  # fmt: skip
    assert "10.0.9.0/24" in machine.run(["ip", "route", "show", "proto", "bird"])  # none of ours to remove
    assert "10.77.7.0/26" in machine.run(["ip", "route", "show", "proto", "179"])
    [remedy] = re.findall("`([^`]+)`", well["passwords"]["remedy"])
    machine.run(shlex.split(remedy))

    machine.services[1].kill()
    machine.services[1].wait()
    gone = examine(machine, 1)
    assert gone["datastore"]["verdict"] == "problem"
    assert "127.0.0.1:2379: nothing listens there" in gone["datastore"]["seen"]
    assert "start it" in gone["datastore"]["remedy"]


def test_one_who_may_not_look_everywhere_learns_the_rest(machine: Machine) -> None:
    """Root without the capability to read everybody's files stands for a user; the folders are another's."""
    machine.write("/etc/cairn/agent.yaml", "nonsense: 1\n")
    machine.run(["mkdir", "-p", "/run/cairn/exabgp"])
    machine.run(["chmod", "700", "/etc/cairn", "/run/cairn"])
    lacking = "-dac_override,-dac_read_search"
    doctor = machine.called(["cairn", "doctor", "-o", "json"])
    bound = ["setpriv", f"--bounding-set={lacking}", f"--inh-caps={lacking}", *doctor]
    for owner, verdict in (("65534", "note"), ("0", "problem")):
        machine.run(["chown", "-R", owner, "/etc/cairn", "/run/cairn"])
        document: Any = json.loads(machine.run(bound, 1))
        found = {finding["check"]: finding for finding in document["findings"]}
        assert found["configuration"]["verdict"] == verdict
        assert ("as root" in found["configuration"]["remedy"]) == (verdict == "note")
        assert found["room in /run/cairn/exabgp"]["verdict"] == "ok"
        assert "leftovers" in found


def test_more_passwords_than_a_socket_has_room_for(machine: Machine) -> None:
    """20480 octets, the default of older kernels, are 150 keys."""
    one, _, peer = CLUSTER.split("---")
    reflector = one.replace("asNumber", "routeReflectorClusterID: 1.0.0.1, asNumber")
    peers = [peer.replace("tor}", f"p{n}}}").replace("0.254", f"0.{n}") for n in range(2, 153)]
    machine.write("/etc/cairn/agent.yaml", "node: n1\ndatastore: ./store\n")
    check = "net.core.optmem_max"
    machine.run(["sysctl", "-qw", f"{check}=20480"])
    for number, verdict in ((150, "ok"), (151, "problem")):
        machine.write("store/peers.yaml", "---".join([reflector, *peers[:number]]))
        finding = examine(machine, 1)[check]
        assert finding["verdict"] == verdict
        assert finding["seen"] == f"20480: room for 150 passwords, {number} declared"
    [remedy] = re.findall("`([^`]+)`", finding["remedy"])
    machine.run(shlex.split(remedy))
    assert examine(machine, 1)[check]["seen"] == "131072: room for 963 passwords, 151 declared"
    machine.write("store/peers.yaml", "---".join([one, *peers]))  # which is no reflector
    assert check not in examine(machine, 1)


def test_a_disk_that_answers_nowhere_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "statvfs", broken)
    [found] = [finding for finding in of_machine(0, AgentConfig()) if finding.check.startswith("room")]
    assert (found.verdict, found.seen) == ("problem", "no disk answers")


def test_a_port_that_is_none_is_wrong_usage() -> None:
    for port in ("70000", "-1"):
        assert cairn("doctor", "--port", port).code == 2
