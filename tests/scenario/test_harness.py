"""The harness itself, with third parties' daemons only: what it shows must be so, or no scenario counts.

Four domains around one router; BIRD, FRR, GoBGP and OpenBGPD exchange IPv4 and IPv6 routes; a workload lives
behind a host; echoes are counted; etcd and an MQTT broker answer.
"""

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.scenario.harness import calico
from tests.scenario.harness.bird import Bird, parse_paths, preamble
from tests.scenario.harness.etcd import Etcd
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.mosquitto import Mosquitto
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.pinger import Pinger
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import Host, World

pytestmark = pytest.mark.scenario


@pytest.fixture
def world() -> Iterator[World]:
    with World("harness") as made:
        yield made


def two_domains(world: World) -> tuple[Host, Host, Host]:
    """left — middle — right, IPv4 and IPv6, routed."""
    left, middle, right = (
        world.host("left", router=True),
        world.host("middle", router=True),
        world.host("right"),
    )
    for number, side in ((1, left), (2, right)):
        world.segment(f"lan{number}")
        world.attach(f"lan{number}", middle, f"eth{number}", f"10.{number}.0.1/24", f"fd10:{number}::1/64")
        world.attach(f"lan{number}", side, "eth0", f"10.{number}.0.2/24", f"fd10:{number}::2/64")
        side.ip(f"route add default via 10.{number}.0.1", f"route add default via fd10:{number}::1")
    return left, middle, right


def test_echoes_are_counted_exactly(world: World) -> None:
    _, middle, right = two_domains(world)
    pingers = Pinger(right, "10.1.0.2"), Pinger(right, "fd10:1::2")
    for pinger in pingers:
        pinger.begun()
    time.sleep(1.0)
    middle.ip("link set eth1 down")
    time.sleep(0.5)
    middle.ip("link set eth1 up", "addr replace fd10:1::1/64 dev eth1")
    time.sleep(1.0)
    for pinger in pingers:
        losses = pinger.stop()
        assert 5 <= len(losses.lost) < losses.sent, str(losses)
        assert losses.lost == tuple(range(losses.lost[0], losses.lost[-1] + 1)), "one outage is one gap"
        assert losses.longest_gap == pytest.approx(len(losses.lost) * 0.01)
        assert losses.duplicates == 0

    undisturbed = Pinger(right, "10.1.0.2")
    undisturbed.begun()
    time.sleep(0.5)
    losses = undisturbed.stop()
    assert losses.sent >= 5
    assert losses.lost == ()

    nowhere = Pinger(middle, "203.0.113.9")
    nowhere.begun()
    time.sleep(0.3)
    losses = nowhere.stop()
    assert len(losses.lost) == losses.sent == len(losses.refused)


def test_a_workload_answers_behind_its_host_and_after_moving(world: World) -> None:
    left, middle, right = two_domains(world)
    workload = Workload(world, "web", "10.244.1.5", "fd00:244::5")
    workload.attach(left)
    left.ip(
        f"route add 10.244.1.5 dev {workload.interface}", f"route add fd00:244::5 dev {workload.interface}"
    )
    middle.ip("route add 10.244.1.5 via 10.1.0.2", "route add fd00:244::5 via fd10:1::2")
    assert right.pings("10.244.1.5", wait=5)
    assert right.pings("fd00:244::5", wait=5)
    assert workload.host.pings("10.2.0.2", wait=5)
    assert workload.host.pings("fd10:2::2", wait=5)
    assert left.next_hops("10.244.1.5/32") == {("", workload.interface)}

    right.namespace.sysctl({"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"})
    workload.attach(right)
    right.ip(
        f"route add 10.244.1.5 dev {workload.interface}", f"route add fd00:244::5 dev {workload.interface}"
    )
    middle.ip("route replace 10.244.1.5 via 10.2.0.2", "route replace fd00:244::5 via fd10:2::2")
    assert left.next_hops("10.244.1.5/32") == frozenset()
    assert left.pings("10.244.1.5", wait=5)
    assert left.pings("fd00:244::5", wait=5)


@pytest.mark.peer("bird")
@pytest.mark.peer("frr")
@pytest.mark.peer("gobgp")
@pytest.mark.peer("openbgpd")
def test_four_daemons_exchange_routes_and_every_view_tells_the_same(world: World) -> None:
    """BIRD in the middle reflects what FRR, GoBGP and OpenBGPD announce, in one AS."""
    world.segment("lan")
    hosts = {}
    for number, name in ((1, "bird"), (2, "frr"), (3, "gobgp"), (4, "openbgpd")):
        hosts[name] = world.host(name, router=True)
        world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24", f"fd10:1::{number}/64")
    clients = "".join(
        f"""
protocol bgp client{number} {{
    local 10.1.0.1 as 65000; neighbor 10.1.0.{number} as 65000; rr client; connect retry time 2;
    ipv4 {{ import all; export where source = RTS_BGP; next hop keep; }};
    ipv6 {{ import all; export where source = RTS_BGP; next hop keep; }};
}}"""
        for number in (2, 3, 4)
    )
    bird = Bird(hosts["bird"], preamble("10.1.0.1") + clients)
    frr = Frr(
        hosts["frr"],
        """
router bgp 65000
 bgp router-id 10.1.0.2
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor 10.1.0.1 remote-as 65000
 neighbor 10.1.0.1 timers connect 2
 address-family ipv4 unicast
  neighbor 10.1.0.1 activate
  network 10.92.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.1.0.1 activate
  neighbor 10.1.0.1 route-map V6OUT out
  network fd92::/64
 exit-address-family
route-map V6OUT permit 10
 set ipv6 next-hop global fd10:1::2
""",
    )
    gobgp = GoBgp(
        hosts["gobgp"],
        """
global: {config: {as: 65000, router-id: 10.1.0.3}}
neighbors:
  - config: {neighbor-address: 10.1.0.1, peer-as: 65000}
    timers: {config: {connect-retry: 2, idle-hold-time-after-reset: 2}}
    afi-safis: [{config: {afi-safi-name: ipv4-unicast}}, {config: {afi-safi-name: ipv6-unicast}}]
""",
    )
    openbgpd = OpenBgpd(
        hosts["openbgpd"],
        """
AS 65000
router-id 10.1.0.4
network 10.94.0.0/24
network fd94::/64
neighbor 10.1.0.1 {
    remote-as 65000
    local-address 10.1.0.4
    announce IPv4 unicast
    announce IPv6 unicast
}
allow from any
allow to any
match to any inet6 set nexthop fd10:1::4
""",
    )
    world.wait_until("GoBGP answering", lambda: gobgp.sessions() or True)
    gobgp.announce("10.93.0.0/24", "10.1.0.3", "med", "7")
    gobgp.announce("fd93::/64", "fd10:1::3")

    world.wait_equal("BIRD's sessions", bird.sessions, {f"10.1.0.{number}": True for number in (2, 3, 4)})
    for other in (frr, gobgp, openbgpd):
        world.wait_equal(f"the session of {other.host.name}", other.sessions, {"10.1.0.1": True})
    for version, net, hop in ((4, "10.9{}.0.0/24", "10.1.0.{}"), (6, "fd9{}::/64", "fd10:1::{}")):
        everything = {net.format(number): frozenset({hop.format(number)}) for number in (2, 3, 4)}
        world.wait_equal(f"BIRD's IPv{version} routes", partial(bird.routes, version), everything)
        for daemon, number in ((frr, 2), (gobgp, 3), (openbgpd, 4)):
            foreign = {prefix: hops for prefix, hops in everything.items() if prefix != net.format(number)}
            world.wait_equal(
                f"IPv{version} routes of {daemon.host.name}", partial(daemon.routes, version), foreign
            )
        for number in (3, 4):  # FRR's own may go through its link-local address
            wanted = frozenset({(hop.format(number), "eth0")})
            for host in (hosts["bird"], hosts["frr"]):
                world.wait_equal(f"{host.name}'s kernel", partial(host.next_hops, net.format(number)), wanted)
    assert bird.paths()["10.93.0.0/24"][0].attributes["BGP.med"] == "7"

    gobgp.withdraw("10.93.0.0/24", "10.1.0.3")
    gobgp.withdraw("fd93::/64", "fd10:1::3")
    world.wait_until(
        "gone at FRR", lambda: "10.93.0.0/24" not in frr.routes() and "fd93::/64" not in frr.routes(6)
    )

    bird.program.kill()
    world.wait_until("OpenBGPD noticing", lambda: not openbgpd.sessions()["10.1.0.1"])
    bird.restart()
    world.wait_equal(
        "BIRD's routes again",
        bird.routes,
        {"10.92.0.0/24": frozenset({"10.1.0.2"}), "10.94.0.0/24": frozenset({"10.1.0.4"})},
    )


def test_birds_text_is_read_path_by_path() -> None:
    text = """BIRD 2.0.12 ready.
Table master4:
10.93.0.0/24         unicast [a 10:00:00.000] * (100) [i]
\tvia 10.1.0.3 on eth0 weight 1
\tvia 10.1.0.4 on eth0 weight 1
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.next_hop: fd10:1::3 fe80::1
\tBGP.med: 7
                     unicast [b 10:00:01.000 from 10.1.0.9] (100) [AS65000i]
\tvia 10.1.0.4 on eth0
\tBGP.next_hop: 10.1.0.4
10.94.0.0/24         blackhole [static1 10:00:00.000] * (200)
\tType: static univ
"""
    paths = parse_paths(text)
    assert list(paths) == ["10.93.0.0/24", "10.94.0.0/24"]
    first, second = paths["10.93.0.0/24"]
    assert (first.protocol, first.best, first.next_hop) == ("a", True, "fd10:1::3")
    assert first.gateways == {"10.1.0.3", "10.1.0.4"}
    assert first.attributes["BGP.med"] == "7"
    assert (second.protocol, second.best, second.next_hop) == ("b", False, "10.1.0.4")
    assert "BGP.med" not in second.attributes
    assert paths["10.94.0.0/24"][0].next_hop == ""


@pytest.mark.peer("etcd")
@pytest.mark.peer("mosquitto")
def test_etcd_and_the_broker_answer(world: World) -> None:
    host = world.host("infra")
    etcd = Etcd(host, "127.0.0.1")
    wanted = {
        **calico.node("node1", "10.1.0.11/24", labels={"rack": "a"}),
        **calico.affinity("node1", "fd00:244::/122"),
        **calico.workload_endpoint("node-1", "web", ["10.244.1.5", "fd00:244::5"], "cali0"),
    }
    assert "/calico/ipam/v2/host/node1/ipv6/block/fd00:244::-122" in wanted
    assert any(key.endswith("/default/node--1-k8s-web-eth0") for key in wanted)
    etcd.put(wanted)
    assert etcd.read("/calico/") == wanted
    etcd.transaction({f"/many/{number}": f'{{"a": "{number}"}}' for number in range(250)})
    assert len(etcd.read("/many/")) == 250
    etcd.delete(*wanted)
    etcd.compact()
    etcd.program.kill()
    etcd.restart()
    assert len(etcd.read()) == 250

    broker = Mosquitto(host, "127.0.0.1")
    say = ("mosquitto_pub", "-h", "127.0.0.1", "-t", "cairn/x", "-r", "-m", "a b")
    world.wait_until("the broker answering", lambda: not host.run(*say))
    assert broker.retained() == {"cairn/x": "a b"}


def test_a_program_that_ignores_sigterm_is_reported_and_gone(world: World) -> None:
    host = world.host("a")
    program = host.start("stubborn", "sh", "-c", 'trap "" TERM; echo here; while :; do sleep 0.1; done')
    world.wait_until("it runs", lambda: "here" in program.tail())
    with pytest.raises(AssertionError, match="ignored SIGTERM"):
        program.stop(timeout=0.3)
    assert program.returncode == -signal.SIGKILL
    with pytest.raises(AssertionError, match=r"missing \[1: b: 2\]; too many \[1: a: 1\]"):
        world.wait_equal("nothing", lambda: {"a": 1}, {"b": 2}, timeout=0.1)
