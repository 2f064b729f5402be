"""The reflector on a bare configuration file, with every daemon of the house as its clients.

BIRD, FRR, GoBGP and OpenBGPD each announce one IPv4 and one IPv6 prefix over one session; each has to end
with exactly those of the others, next hops untouched, through announcements, withdrawals, a client's death
and the reflector's own restart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Reflector
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.world import World

pytestmark = [
    pytest.mark.scenario,
    *(pytest.mark.peer(name) for name in ("bird", "frr", "gobgp", "openbgpd")),
]
ASN = 65000
NUMBERS = {"bird": 2, "frr": 3, "gobgp": 4, "openbgpd": 5}
NETS = {4: "10.9{}.0.0/24", 6: "fd9{}::/64"}
HOPS = {4: "10.1.0.{}", 6: "fd10:1::{}"}
Routes = dict[str, frozenset[str]]


@dataclass(slots=True)
class Interop:
    """One reflector and its four clients on one segment."""

    world: World
    reflector: Reflector
    bird: Bird
    frr: Frr
    gobgp: GoBgp
    openbgpd: OpenBgpd

    @property
    def clients(self) -> dict[str, Bird | Frr | GoBgp | OpenBgpd]:
        return {"bird": self.bird, "frr": self.frr, "gobgp": self.gobgp, "openbgpd": self.openbgpd}

    def expect(self, announcing: set[str]) -> None:
        """Every client that lives holds exactly what the other announcing ones announce."""
        for name, client in self.clients.items():
            self.world.wait_equal(f"the session of {name}", client.sessions, {"10.1.0.1": True})
            for version in (4, 6):
                wanted: Routes = {
                    NETS[version].format(NUMBERS[other]): frozenset({HOPS[version].format(NUMBERS[other])})
                    for other in announcing - {name}
                }
                self.world.wait_equal(
                    f"IPv{version} routes of {name}", partial(client.routes, version), wanted
                )
        assert self.reflector.program.returncode is None


@pytest.fixture(scope="module")
def interop() -> Iterator[Interop]:
    with World("interop") as world:
        world.segment("lan")
        hosts = {}
        for name, number in {"rr": 1, **NUMBERS}.items():
            hosts[name] = world.host(name, router=True)
            world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24", f"fd10:1::{number}/64")
        reflector = Reflector(
            hosts["rr"],
            {
                "asn": ASN,
                "routerId": "10.255.255.254",
                "clusterId": "10.255.255.254",
                "listen": {"address": "10.1.0.1"},
                # FRR, left by a peer that restarts, waits for it to connect until its restart time is over.
                "clients": [{"prefix": "10.1.0.0/24", "gracefulRestartTime": 5}],
                "http": {"port": Reflector.port},
            },
        )
        world.wait_until("the reflector ready", reflector.ready)
        gobgp = GoBgp(hosts["gobgp"], GOBGP)
        made = Interop(
            world,
            reflector,
            Bird(hosts["bird"], preamble("10.1.0.2") + BIRD),
            Frr(hosts["frr"], FRR),
            gobgp,
            OpenBgpd(hosts["openbgpd"], OPENBGPD),
        )
        world.wait_until("GoBGP answering", lambda: gobgp.sessions() or True)
        announce(made)
        yield made


def announce(interop: Interop) -> None:
    for version in (4, 6):
        interop.gobgp.announce(NETS[version].format(4), HOPS[version].format(4))


def back_again(interop: Interop) -> None:
    """Start the reflector again and wait until all is as before."""
    interop.reflector.restart()
    interop.world.wait_until("the reflector ready", interop.reflector.ready)
    interop.openbgpd.command("neighbor", "10.1.0.1", "clear")  # it would try again only after two minutes
    interop.expect(set(NUMBERS))


def test_every_client_has_exactly_what_the_others_announce(interop: Interop) -> None:
    interop.expect(set(NUMBERS))
    path = interop.bird.paths()["10.93.0.0/24"][0]
    assert path.attributes["BGP.originator_id"] == "10.1.0.3"
    assert path.attributes["BGP.cluster_list"] == "10.255.255.254"
    for version in (4, 6):
        for number in (4, 5):
            wanted = frozenset({(HOPS[version].format(number), "eth0")})
            net = NETS[version].format(number)
            interop.world.wait_equal("FRR's kernel", partial(interop.frr.host.next_hops, net), wanted)


def test_withdrawals_reach_everybody(interop: Interop) -> None:
    for version in (4, 6):
        interop.gobgp.withdraw(NETS[version].format(4), HOPS[version].format(4))
    interop.expect(set(NUMBERS) - {"gobgp"})
    announce(interop)
    interop.expect(set(NUMBERS))


def test_a_refresh_asked_for_brings_the_same_again(interop: Interop) -> None:
    interop.bird.command("reload in all")
    interop.frr.command("clear bgp * soft in")
    interop.gobgp.command("neighbor", "10.1.0.1", "softresetin")
    interop.openbgpd.command("neighbor", "10.1.0.1", "refresh")
    interop.expect(set(NUMBERS))


def test_a_client_killed_without_a_word_leaves_nothing_and_comes_back(interop: Interop) -> None:
    interop.openbgpd.program.stop()
    wanted = set(NUMBERS) - {"openbgpd"}
    for name in sorted(wanted):
        routes: Routes = {
            NETS[4].format(NUMBERS[o]): frozenset({HOPS[4].format(NUMBERS[o])}) for o in wanted - {name}
        }
        interop.world.wait_equal(f"routes of {name}", interop.clients[name].routes, routes)
    interop.openbgpd = OpenBgpd(interop.openbgpd.host, OPENBGPD)
    interop.expect(set(NUMBERS))


def test_the_reflector_stops_with_a_cease_and_its_reason_and_starts_again(interop: Interop) -> None:
    interop.expect(set(NUMBERS))
    assert interop.reflector.program.stop() == 0
    said = interop.frr.command("show bgp neighbors 10.1.0.1")
    assert "hutdown" in said
    interop.world.wait_until("BIRD noticing", lambda: not interop.bird.sessions()["10.1.0.1"])
    back_again(interop)


def test_the_reflector_killed_and_restarted(interop: Interop) -> None:
    interop.reflector.program.kill()
    interop.world.wait_until("BIRD noticing", lambda: not interop.bird.sessions()["10.1.0.1"])
    back_again(interop)


BIRD = f"""
protocol static {{ ipv4; route 10.92.0.0/24 via 10.1.0.2; }}
protocol static {{ ipv6; route fd92::/64 via fd10:1::2; }}
protocol bgp reflector {{
    local 10.1.0.2 as {ASN}; neighbor 10.1.0.1 as {ASN};
    connect retry time 2; connect delay time 1; error wait time 1, 2;
    ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
    ipv6 {{ import all; export filter {{
        if source != RTS_STATIC then reject;
        bgp_next_hop = fd10:1::2; accept;
    }}; }};
}}
"""
FRR = f"""
router bgp {ASN}
 bgp router-id 10.1.0.3
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor 10.1.0.1 remote-as {ASN}
 neighbor 10.1.0.1 timers connect 2
 address-family ipv4 unicast
  neighbor 10.1.0.1 activate
  network 10.93.0.0/24
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.1.0.1 activate
  neighbor 10.1.0.1 route-map V6OUT out
  network fd93::/64
 exit-address-family
route-map V6OUT permit 10
 set ipv6 next-hop global fd10:1::3
"""
GOBGP = f"""
global: {{config: {{as: {ASN}, router-id: 10.1.0.4}}}}
neighbors:
  - config: {{neighbor-address: 10.1.0.1, peer-as: {ASN}}}
    timers: {{config: {{connect-retry: 2, idle-hold-time-after-reset: 2}}}}
    afi-safis: [{{config: {{afi-safi-name: ipv4-unicast}}}}, {{config: {{afi-safi-name: ipv6-unicast}}}}]
"""
OPENBGPD = f"""
AS {ASN}
router-id 10.1.0.5
network 10.95.0.0/24
network fd95::/64
neighbor 10.1.0.1 {{
    remote-as {ASN}
    local-address 10.1.0.5
    announce IPv4 unicast
    announce IPv6 unicast
}}
allow from any
allow to any
match to any inet6 set nexthop fd10:1::5
"""
