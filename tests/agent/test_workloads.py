"""Interfaces of workloads are set up; connections of addresses that left are forgotten, in a real kernel."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.kernel import message
from agent.kernel.conntrack import concerns
from agent.workloads import SETTINGS, Workloads
from bgpd.plan import NodePlan, plan_node
from bgpd.resources import Key, ResourceSet, decode
from tests.agent.ground import eventually, namespace, needs_root, python, sh, short_directory


def planned(**interfaces: str) -> NodePlan:
    """A plan of node n with one workload per interface: interface=address."""
    declared = [
        decode(Key("Node", "n"), json.dumps({"spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}}}).encode())
    ]
    for interface, address in interfaces.items():
        bits = ip_address(address).max_prefixlen
        spec = {"node": "n", "interfaceName": interface, "ipNetworks": [f"{address}/{bits}"]}
        key = Key("WorkloadEndpoint", f"n-k8s-{interface}-eth0", "default")
        declared.append(decode(key, json.dumps({"spec": spec}).encode()))
    return plan_node(ResourceSet.of(declared), "n")


def tree(root: Path, *interfaces: str) -> None:
    for name in interfaces:
        for settings in SETTINGS.values():
            for setting, _ in settings:
                path = root / setting.format(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("9\n")


def values(root: Path, interface: str) -> dict[int, list[str]]:
    return {
        version: [(root / setting.format(interface)).read_text().strip() for setting, _ in settings]
        for version, settings in SETTINGS.items()
    }


async def test_an_interface_is_set_up_for_the_families_of_its_workload_only(tmp_path: Path) -> None:
    tree(tmp_path, "cali0", "cali1", "eth0")
    workloads = Workloads(tmp_path)
    workloads.planned(planned(cali0="10.1.0.1", cali1="fd00::1"))
    workloads.prepare()
    assert values(tmp_path, "cali0") == {4: ["9"] * 3, 6: ["9"] * 3}  # not there yet
    workloads.links_changed({"cali0": 5, "cali1": 6, "eth0": 2})
    workloads.prepare()
    assert values(tmp_path, "cali0") == {4: ["1", "1", "0"], 6: ["9"] * 3}
    assert values(tmp_path, "cali1") == {4: ["9"] * 3, 6: ["1", "1", "0"]}
    assert values(tmp_path, "eth0") == {4: ["9"] * 3, 6: ["9"] * 3}


async def test_a_replaced_interface_is_set_up_again_and_an_altered_one_is_left(tmp_path: Path) -> None:
    tree(tmp_path, "cali0")
    workloads = Workloads(tmp_path)
    workloads.planned(planned(cali0="10.1.0.1"))
    workloads.links_changed({"cali0": 5})
    workloads.prepare()
    tree(tmp_path, "cali0")
    workloads.links_changed({"cali0": 5})
    workloads.prepare()
    assert values(tmp_path, "cali0")[4] == ["9"] * 3  # the operator's own wish
    workloads.links_changed({})
    workloads.prepare()
    workloads.links_changed({"cali0": 5})
    workloads.prepare()
    assert values(tmp_path, "cali0")[4] == ["1", "1", "0"]
    tree(tmp_path, "cali0")
    workloads.removed(5)  # and there is another by now, of the same name and index
    workloads.links_changed({"cali0": 5})
    workloads.prepare()
    assert values(tmp_path, "cali0")[4] == ["1", "1", "0"]


async def test_settings_are_made_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have to wait until the kernel has done with other interfaces."""
    tree(tmp_path, "cali0")
    write, makers = Path.write_text, set()

    def noted(self: Path, data: str) -> int:
        makers.add(threading.get_ident())
        return write(self, data)

    monkeypatch.setattr(Path, "write_text", noted)
    workloads = Workloads(tmp_path)
    workloads.planned(planned(cali0="10.1.0.1"))
    workloads.links_changed({"cali0": 5})
    running = asyncio.create_task(workloads.run())
    await eventually(lambda: values(tmp_path, "cali0")[4] == ["1", "1", "0"])
    running.cancel()
    assert makers
    assert threading.get_ident() not in makers


async def test_what_cannot_be_set_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, "cali1")
    (tmp_path / "ipv4/conf/cali0").mkdir()
    workloads = Workloads(tmp_path)
    workloads.planned(planned(cali0="10.1.0.1", cali1="10.1.0.2"))
    workloads.links_changed({"cali0": 5, "cali1": 6})
    workloads.prepare()
    assert values(tmp_path, "cali1")[4] == ["1", "1", "0"]
    said = capsys.readouterr().out + caplog.text
    assert "proxy_arp cannot be set to 1: No such file or directory; give the agent a writable" in said


async def test_of_an_interface_that_goes_nothing_is_said_and_it_may_come_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its end may be known before it is no longer listed."""
    workloads = Workloads(tmp_path)
    workloads.planned(planned(cali0="10.1.0.1"))
    workloads.links_changed({"cali0": 5})
    workloads.removed(5)
    workloads.prepare()
    workloads.links_changed({})
    workloads.prepare()
    assert not capsys.readouterr().out
    tree(tmp_path, "cali0")
    workloads.links_changed({"cali0": 5})
    workloads.prepare()
    assert values(tmp_path, "cali0")[4] == ["1", "1", "0"]


class Forgetful:
    """Instead of the kernel's connections."""

    def __init__(self) -> None:
        self.asked: list[set[bytes]] = []

    def __call__(self, addresses: set[bytes]) -> int:
        self.asked.append(addresses)
        return 0


async def test_connections_of_those_who_left_are_sought_together_and_of_one_who_came_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful, first, second = Forgetful(), bytes((10, 1, 0, 1)), bytes((10, 1, 0, 2))
    monkeypatch.setattr("agent.workloads.forget", forgetful)
    monkeypatch.setattr("agent.workloads.FORGET_AFTER", 0.2)
    workloads = Workloads(tmp_path)
    running = asyncio.create_task(workloads.run())
    workloads.planned(planned(cali0="10.1.0.1", cali1="10.1.0.2"))
    workloads.planned(planned(cali0="10.1.0.1"))
    await asyncio.sleep(0)
    workloads.planned(planned())
    await eventually(lambda: forgetful.asked == [{first, second}])
    monkeypatch.setattr("agent.workloads.FORGET_AFTER", 3600)
    workloads.planned(planned(cali0="10.1.0.1", cali1="10.1.0.2"))
    workloads.planned(planned(cali0="10.1.0.1"))
    workloads.planned(planned(cali7="10.1.0.1"))  # moved, and the other is gone
    await eventually(lambda: forgetful.asked[1:] == [{first, second}])
    count = tmp_path / "netfilter/nf_conntrack_count"
    count.parent.mkdir()
    count.write_text("0\n")
    workloads.planned(planned(cali0="10.1.0.1"))
    await eventually(lambda: not workloads._departed)
    assert len(forgetful.asked) == 2  # there are none to look through
    running.cancel()


def test_a_connection_concerns_its_four_addresses() -> None:
    def attribute(kind: int, value: bytes) -> bytes:
        return (4 + len(value)).to_bytes(2, "little") + kind.to_bytes(2, "little") + value

    def ends(source: str, destination: str) -> bytes:
        inner = attribute(1, socket.inet_aton(source)) + attribute(2, socket.inet_aton(destination))
        return attribute(0x8001, inner)

    entry = attribute(0x8001, ends("10.0.0.1", "10.0.0.2")) + attribute(0x8002, ends("10.0.0.3", "10.0.0.4"))
    entry += attribute(7, socket.inet_aton("10.0.0.5"))
    for last in range(1, 5):
        assert concerns(entry, {socket.inet_aton(f"10.0.0.{last}")})
    assert not concerns(entry, {socket.inet_aton("10.0.0.5"), socket.inet_aton("10.0.0.6")})
    assert [kind for kind, _ in message.attributes(entry)] == [1, 2, 7]


FORGET = """
import sys, socket
from agent.kernel.conntrack import forget
def packed(text): return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
print(forget(set(map(packed, sys.argv[1:]))))
"""


@needs_root
@pytest.mark.scenario
async def test_connections_of_an_address_are_forgotten_and_no_others() -> None:
    with namespace("ct") as inside:
        rules = "add table inet t; add chain inet t c { type filter hook output priority 0; }"
        rules += "; add rule inet t c ct state new accept"
        sh(f"ip netns exec {inside} nft '{rules}'")
        for address in ("127.0.0.5", "127.0.0.6", "127.0.0.7", "::1"):
            family = "AF_INET6" if ":" in address else "AF_INET"
            code = f'import socket as s; s.socket(s.{family}, s.SOCK_DGRAM).sendto(b"x", ("{address}", 9))'
            sh(f"ip netns exec {inside} python3 -c '{code}'")

        def known() -> str:
            listed = sh(f"ip netns exec {inside} conntrack -L -f ipv4 2>/dev/null")
            return listed + sh(f"ip netns exec {inside} conntrack -L -f ipv6 2>/dev/null")

        assert "dst=127.0.0.5" in known()
        assert "dst=::1" in known()
        with (
            short_directory() as directory,
            python(
                FORGET, "127.0.0.5", "127.0.0.7", "::1", "10.9.9.9", inside=inside, output=directory / "said"
            ) as program,
        ):
            await eventually(lambda: program.poll() is not None)
            said = (directory / "said").read_text()
        assert said.strip() == "3"
        listed = known()
        assert "dst=127.0.0.6" in listed
        assert not any(gone in listed for gone in ("127.0.0.5", "127.0.0.7", "dst=::1"))
