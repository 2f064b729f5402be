"""Namespaces of a lab: wires carry packets, and nothing survives the clean-up, however its owner died."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl.lab import netns

pytestmark = pytest.mark.scenario


@pytest.fixture
def lab() -> Iterator[netns.Lab]:
    with netns.Lab("nstest") as made:
        yield made


def namespaces_of(lab: str) -> list[str]:
    return [entry.name for entry in Path("/run/netns").iterdir() if f"-{lab}-" in entry.name]


def test_a_router_carries_packets_between_two_broadcast_domains(lab: netns.Lab) -> None:
    left, router, right = lab.host("left"), lab.host("router", router=True), lab.host("right")
    lab.segment("lan1")
    lab.attach("lan1", left, "eth0", "10.1.0.2/24", "fd00:1::2/64")
    lab.attach("lan1", router, "eth0", "10.1.0.1/24", "fd00:1::1/64")
    lab.link(router, "eth1", right, "eth0")
    router.ip("addr add 10.2.0.1/24 dev eth1", "addr add fd00:2::1/64 dev eth1")
    right.ip("addr add 10.2.0.2/24 dev eth0", "addr add fd00:2::2/64 dev eth0")
    for host, gateway, gateway6 in (
        (left, "10.1.0.1", "fd00:1::1"),
        (right, "10.2.0.1", "fd00:2::1"),
    ):
        host.ip(f"route add default via {gateway}", f"route add default via {gateway6}")
    left.run("ping", "-c", "1", "-W", "5", "10.2.0.2")
    left.run("ping", "-6", "-c", "1", "-W", "5", "fd00:2::2")

    router.sysctl({"net.ipv4.ip_forward": "0"})
    assert left.run("ping", "-c", "1", "-W", "1", "10.2.0.2", check=False).returncode != 0

    with Path("/run/netns", right.name).open():  # held: the kernel does not tear it down yet
        lab.drop(right)
        assert "eth1" not in router.run("ip", "-br", "link").stdout
    assert "right" not in lab.hosts


def test_failures_name_the_host_the_command_and_what_ip_said(lab: netns.Lab) -> None:
    host = lab.host("a")
    with pytest.raises(netns.NetnsError, match=r"-a: addr add nonsense dev lo: .*nonsense"):
        host.ip("addr add nonsense dev lo")
    with pytest.raises(netns.NetnsError, match="a: `false` gave 1"):
        host.run("false")
    with pytest.raises(netns.NetnsError, match="no host can be called 'a'"):
        lab.host("a")
    with pytest.raises(netns.NetnsError, match="lower-case"):
        netns.Lab("No Good")


def test_two_labs_of_one_process_do_not_meet(lab: netns.Lab) -> None:
    lab.host("a")
    with netns.Lab("nstest") as other:
        other.host("a")
        assert other.name != lab.name
        assert {lab.name, other.name} <= set(netns.labs())
    assert namespaces_of(other.name) == []
    assert len(namespaces_of(lab.name)) == 1


def test_everything_is_found_and_removed_after_the_owner_was_killed() -> None:
    script = textwrap.dedent("""
        import subprocess, sys, time
        from ctl.lab import netns
        lab = netns.Lab("nstest")
        host = lab.host("a")
        lab.host("b")
        inside = subprocess.Popen(host.argv("sh", "-c", "echo; exec sleep 1000"), stdout=subprocess.PIPE)
        inside.stdout.readline()  # it is in there by now
        outside = subprocess.Popen(["sleep", "1000"], env=host.environment())
        print(lab.name, inside.pid, outside.pid, flush=True)
        time.sleep(1000)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        name, inside, outside = owner.stdout.readline().split()
        try:
            assert netns.owner_alive(name)
            assert name not in netns.clean_abandoned()
            assert len(namespaces_of(name)) == 2
        finally:
            owner.send_signal(signal.SIGKILL)
            owner.wait()
    assert not netns.owner_alive(name)
    assert name in netns.labs()
    assert {int(inside), int(outside)} <= set(netns.processes(name))
    assert os.getpid() not in netns.processes(name)

    assert name in netns.clean_abandoned()
    assert name not in netns.labs()
    assert namespaces_of(name) == []
    assert netns.processes(name) == []
    netns.clean(name)  # once more does no harm


def test_a_lab_in_another_pid_namespace_is_not_ours_to_remove() -> None:
    """Its owner is pid 1 in there; pid 1 out here started at another time and is not it."""
    name = "nstest-1-1"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo up; sleep 1000"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, netns.MARK: name},
    ) as entrance:  # fmt: skip
        assert entrance.stdout is not None
        try:
            assert entrance.stdout.readline() == "up\n"
            inside = Path(f"/proc/{entrance.pid}/task/{entrance.pid}/children").read_text().split()
            assert len(inside) == 1
            assert set(map(int, inside)).isdisjoint(netns.processes(name))
        finally:
            entrance.kill()
