"""The VXLAN device and its entries, brought about in a real kernel from whatever is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.kernel.vxlan import Far, Wanted
from tests.agent.ground import namespace, needs_root, sh

pytestmark = [needs_root]
OWN = "10.0.0.1"
A = Far("10.0.0.2", "66:00:00:00:00:02", "10.0.0.2")
B = Far("10.0.0.3", "66:00:00:00:00:03", "10.0.0.3")


def ensure(inside: str, *far: Far, address: str = OWN) -> str:
    """Bring it about; what the kernel refused."""
    wanted = Wanted(4, OWN, address, "66:00:00:00:00:01", far)
    code = (
        "import asyncio\nfrom agent.kernel.vxlan import Far, Wanted, ensure\n"
        "from pyroute2.netlink.exceptions import NetlinkError\n"
        f"try: asyncio.run(ensure([{wanted!r}]))\nexcept (NetlinkError, OSError) as error: print(error)"
    )
    words = ["ip", "netns", "exec", inside, sys.executable, "-c", code]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def entries(inside: str) -> tuple[set[str], set[str]]:
    """Neighbours and forwarding entries: where they lead."""
    neighbours = sh(f"ip -n {inside} neigh show dev vxlan.cairn nud permanent").splitlines()
    forwarding = sh(f"bridge -n {inside} fdb show dev vxlan.cairn").splitlines()
    return {line.split()[0] for line in neighbours}, {
        line.split(" dst ")[1].split()[0] for line in forwarding if " dst " in line
    }


def test_entries_follow_what_is_wanted_and_one_that_is_refused_costs_no_other() -> None:
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} addr add {OWN}/32 dev lo")
        assert ensure(inside, A, B) == ""
        both = {"10.0.0.2", "10.0.0.3"}
        assert entries(inside) == (both, both)
        sh(f"ip -n {inside} neigh flush dev vxlan.cairn nud permanent")
        sh(f"bridge -n {inside} fdb del {A.mac} dev vxlan.cairn dst 10.0.0.2")
        refused = Far("10.0.0.9", "66:00:00:00:00:09", "0.0.0.0")
        assert "10.0.0.2" not in entries(inside)[1]
        ensure(inside, refused, A, B)
        assert both <= entries(inside)[0]
        assert both <= entries(inside)[1]
        assert ensure(inside, B) == ""
        assert entries(inside) == ({"10.0.0.3"}, {"10.0.0.3"})


def test_a_node_of_many_interfaces_and_addresses_has_its_entries(tmp_path: Path) -> None:
    """What the kernel has to tell of them takes several reads."""
    batch = tmp_path / "batch"
    with namespace("vxlan") as inside:
        links = [f"link add w{n} type veth peer name x{n}" for n in range(150)]
        links += ["link add e0 type veth peer name p0", f"addr add {OWN}/24 dev e0"]
        batch.write_text("\n".join(links))
        sh(f"ip -n {inside} -batch {batch}")
        batch.write_text("\n".join(f"addr add 10.9.{n}.1/32 dev w{n}" for n in range(150)))
        sh(f"ip -n {inside} -batch {batch}")
        for far in ((A, B), (A,), (A, B)):
            assert ensure(inside, *far) == ""
            assert entries(inside) == ({each.inside for each in far}, {each.underlay for each in far})


def test_a_nodes_other_interfaces_are_not_read(tmp_path: Path) -> None:
    """They may be hundreds, and this is done whenever a node comes or goes."""
    batch = tmp_path / "batch"
    batch.write_text("\n".join(f"link add w{n} type veth peer name x{n}" for n in range(20)))
    code = (
        "import asyncio, gc\nfrom agent.kernel import ipip, vxlan\n"
        "from agent.kernel.vxlan import Far, Wanted\n"
        "from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg\ngc.disable()\n"
        f"asyncio.run(vxlan.ensure([{Wanted(4, OWN, OWN, '66:00:00:00:00:01', (A,))!r}]))\n"
        "asyncio.run(ipip.ensure(None, None))\n"
        "print(sum(type(each) is ifinfmsg and each.get('ifname') in %r for each in gc.get_objects()))"
    )
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} -batch {batch} && ip -n {inside} addr add {OWN}/32 dev lo")
        names = [f"{side}{n}" for side in "wx" for n in range(20)]
        words = ["ip", "netns", "exec", inside, sys.executable, "-c", code % names]
        assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "0\n"
        assert entries(inside) == ({"10.0.0.2"}, {"10.0.0.2"})


def test_a_setting_that_cannot_be_made_costs_no_entry_and_no_other_device() -> None:
    six = Far("fe80::2", "66:00:00:00:00:02", "fd10::2")
    wanted = [
        Wanted(4, OWN, OWN, "66:00:00:00:00:01", (A,)),
        Wanted(6, "fd10::1", "", "66:00:00:00:00:01", (six,)),
    ]
    code = (
        "import asyncio\nfrom agent.kernel import vxlan\nfrom agent.kernel.vxlan import Far, Wanted\n"
        "def refuses(name): raise OSError(30, 'Read-only file system')\n"
        f"vxlan.loosen = refuses\ntry: asyncio.run(vxlan.ensure({wanted!r}))\n"
        "except OSError as error: print(error)"
    )
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} addr add {OWN}/32 dev lo && ip -n {inside} addr add fd10::1/128 dev lo")
        words = ["ip", "netns", "exec", inside, sys.executable, "-c", code]
        assert "Read-only" in subprocess.run(words, check=True, capture_output=True, text=True).stdout
        assert entries(inside) == ({"10.0.0.2"}, {"10.0.0.2"})
        assert "fe80::2" in sh(f"ip -n {inside} -6 neigh show dev vxlan6.cairn nud permanent")


@pytest.mark.parametrize(("everywhere", "own", "then"), [(0, 0, 0), (1, 0, 2), (0, 1, 2), (2, 1, 1)])
def test_the_device_has_an_address_and_no_strict_reverse_path_filter(
    everywhere: int, own: int, then: int
) -> None:
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} addr add {OWN}/32 dev lo")
        for name, value in (("all", everywhere), ("default", own)):
            sh(f"ip netns exec {inside} sh -c 'echo {value} > /proc/sys/net/ipv4/conf/{name}/rp_filter'")
        for address, scope in ((OWN, "link"), ("10.77.0.1", "global"), (OWN, "link")):
            ensure(inside, address=address)
            shown = sh(f"ip -n {inside} -4 -o addr show dev vxlan.cairn")
            assert [line.split()[3:6] for line in shown.splitlines()] == [[f"{address}/32", "scope", scope]]
        setting = sh(f"ip netns exec {inside} cat /proc/sys/net/ipv4/conf/vxlan.cairn/rp_filter")
        assert int(setting) == then


def test_the_mtu_leaves_room_for_the_outer_headers_whatever_becomes_of_the_nodes_link() -> None:
    def mtu() -> int:
        [link] = json.loads(sh(f"ip -n {inside} -j link show dev vxlan.cairn"))
        return int(link["mtu"])

    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} link add e0 mtu 9000 type veth peer name p0 && ip -n {inside} link set e0 up")
        ensure(inside)
        assert mtu() == 1450  # at boot: the address is not there yet
        sh(f"ip -n {inside} link del vxlan.cairn && ip -n {inside} addr add {OWN}/32 dev lo")
        ensure(inside)
        assert mtu() == 1450
        sh(f"ip -n {inside} link del vxlan.cairn && ip -n {inside} addr add {OWN}/24 dev e0")
        ensure(inside)
        assert mtu() == 8950
        sh(f"ip -n {inside} link set e0 mtu 1400")
        ensure(inside)
        assert mtu() == 1350
        sh(f"ip -n {inside} link set vxlan.cairn mtu 1300")  # the operator's own
        ensure(inside)
        assert mtu() == 1300


@pytest.mark.parametrize(
    "otherwise",
    [
        "id 4096 dstport 8472 nolearning local 10.0.0.1",
        "id 4096 dstport 4789 learning local 10.0.0.1",
        "id 4097 dstport 4789 nolearning local 10.0.0.1",
        "id 4096 dstport 4789 nolearning local 10.0.0.9",
        "id 4096 dstport 4789 nolearning local 10.0.0.1 remote 10.0.0.9",
        "id 4096 dstport 4789 nolearning local 10.0.0.1 dev e0",
        "id 4096 dstport 4789 nolearning local 10.0.0.1 gbp",
        "dstport 4789 external",
    ],
)
def test_a_device_of_our_name_that_somebody_made_otherwise_is_made_anew_once(otherwise: str) -> None:
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} link add e0 type veth peer name p0 && ip -n {inside} addr add {OWN}/32 dev e0")
        sh(f"ip -n {inside} link add vxlan.cairn type vxlan {otherwise}")
        made = set()
        for _ in range(2):
            assert ensure(inside, A) == ""
            [link] = json.loads(sh(f"ip -n {inside} -d -j link show dev vxlan.cairn"))
            made.add(link["ifindex"])
            data = link["linkinfo"]["info_data"]
            assert (data["id"], data["port"], data["local"], data["learning"]) == (4096, 4789, OWN, False)
            assert not {"remote", "link", "gbp", "external"} & data.keys()
        assert len(made) == 1


def test_another_device_of_the_same_vni_is_told_of_and_stays() -> None:
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} link add vxlan.calico type vxlan id 4096 dstport 4789 local {OWN}")
        assert "another VXLAN device has VNI 4096 and port 4789" in ensure(inside, A)
        assert "vxlan.calico" in sh(f"ip -n {inside} link")
        sh(f"ip -n {inside} link del vxlan.calico")
        assert ensure(inside, A) == ""


def test_another_mac_address_costs_no_device() -> None:
    with namespace("vxlan") as inside:
        sh(f"ip -n {inside} addr add {OWN}/32 dev lo")
        ensure(inside, A)
        [before] = json.loads(sh(f"ip -n {inside} -j link show dev vxlan.cairn"))
        sh(f"ip -n {inside} link set vxlan.cairn address 66:00:00:00:00:99")
        ensure(inside, A)
        [after] = json.loads(sh(f"ip -n {inside} -j link show dev vxlan.cairn"))
        assert (after["ifindex"], after["address"]) == (before["ifindex"], "66:00:00:00:00:01")
