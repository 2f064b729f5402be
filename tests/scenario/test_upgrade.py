"""A reflector that is upgraded, and one that is drained: BIRD and FRR, clients of a prefix, lose no route.

Upgrade: BIRD offers graceful restart without the N bit, so its TCP connection ends without a word; FRR offers
it, and gets a Cease that is no hard reset. FRR then waits for the reflector to connect, by the address kept.

Drain: of two reflectors the first is preferred; drained, its routes are the last resort and both clients take
the other's; after that its end changes nothing.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Reflector
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.world import NOT_YET, Host, World

pytestmark = [pytest.mark.scenario, *(pytest.mark.peer(name) for name in ("bird", "frr"))]
ASN = 65000
REFLECTOR, OTHER = "10.1.0.1", "10.1.0.4"
STEADY = {"bird": {"10.92.0.0/24"}, "frr": {"10.93.0.0/24"}}
ENDING = "10.92.9.0/24"  # withdrawn while nobody listens


@dataclass(slots=True)
class Upgraded:
    """A reflector and its two clients on one segment."""

    world: World
    reflector: Reflector
    other: Host  # where a second reflector may run
    bird: Bird
    frr: Frr

    def preferred(self) -> dict[str, str]:
        """The reflector whose path each client takes."""
        (path,) = (path for path in self.bird.paths()["10.93.0.0/24"] if path.best)
        found = self.frr.show("bgp ipv4 unicast 10.92.0.0/24")["paths"]
        return {
            "bird": {"reflector": REFLECTOR, "second": OTHER}[path.protocol],
            "frr": next(p["peer"]["peerId"] for p in found if p.get("bestpath", {}).get("overall")),
        }

    def marked(self) -> tuple[tuple[str, bool], tuple[int, bool]]:
        """LOCAL_PREF of what the first reflector tells each, and whether it has the community."""
        (path,) = (path for path in self.bird.paths()["10.93.0.0/24"] if path.protocol == "reflector")
        told = path.attributes
        found = self.frr.show("bgp ipv4 unicast 10.92.0.0/24")["paths"]
        (theirs,) = (p for p in found if p["peer"]["peerId"] == REFLECTOR)
        words = theirs.get("community", {}).get("string", "")
        community = "(65535,0)" in told.get("BGP.community", "")
        return (told["BGP.local_pref"], community), (theirs["locPrf"], "graceful-shutdown" in words)

    def seen(self) -> dict[str, set[str]]:
        """What each client has of the other."""
        return {"bird": set(self.bird.routes()), "frr": set(self.frr.routes())}

    def up(self) -> bool:
        return all(client.sessions()[REFLECTOR] for client in (self.bird, self.frr))


def configuration(address: str, directory: Path) -> dict[str, object]:
    return {
        "asn": ASN,
        "routerId": address,
        "clusterId": "10.255.255.254",
        "listen": {"address": address},
        "clients": [{"prefix": "10.1.0.0/24"}],
        "http": {"port": Reflector.port},
        "runDirectory": str(directory),
    }


@pytest.fixture(scope="module")
def upgraded() -> Iterator[Upgraded]:
    with World("upgrade") as world:
        world.segment("lan")
        hosts = {}
        for name, number in {"rr": 1, "bird": 2, "frr": 3, "other": 4}.items():
            hosts[name] = world.host(name)
            world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24")
        reflector = Reflector(hosts["rr"], configuration(REFLECTOR, hosts["rr"].directory))
        world.wait_until("the reflector ready", reflector.ready)
        made = Upgraded(world, reflector, hosts["other"], Bird(hosts["bird"], BIRD), Frr(hosts["frr"], FRR))
        everything = {"bird": STEADY["frr"], "frr": STEADY["bird"] | {ENDING}}
        world.wait_equal("routes of both", made.seen, everything)
        yield made


def test_rfc4724_4_1_clients_keep_all_routes_while_the_reflector_is_upgraded(upgraded: Upgraded) -> None:
    world, reflector = upgraded.world, upgraded.reflector
    kept = {"bird": STEADY["frr"], "frr": STEADY["bird"]}
    reflector.program.signal(signal.SIGQUIT)
    assert reflector.program.wait(60.0) == 0
    ends = {e["peer"]: e["reason"] for e in reflector.log_lines() if e["event"] == "session down"}
    assert "without a word" in ends["10.1.0.2"]
    assert "administrative reset" in ends["10.1.0.3"]
    world.wait_until("both without a session", lambda: not any(
        client.sessions()[REFLECTOR] for client in (upgraded.bird, upgraded.frr)
    ))  # fmt: skip
    upgraded.bird.command("disable ending")
    until = time.monotonic() + 1.0
    restarted = False
    while True:
        try:
            seen = upgraded.seen()
        except NOT_YET:
            continue
        assert all(kept[name] <= seen[name] for name in kept), f"a route was lost: {seen}\n{world.dump()}"
        if time.monotonic() < until:
            continue
        if not restarted:
            reflector.restart()
            restarted, until = True, time.monotonic()
        elif upgraded.up() and seen == kept:
            break
        assert time.monotonic() < until + 60.0, f"{seen}\n{world.dump()}"


def test_rfc8326_4_a_drained_reflector_ends_and_nobody_notices(upgraded: Upgraded) -> None:
    world, reflector = upgraded.world, upgraded.reflector
    kept = {"bird": STEADY["frr"], "frr": STEADY["bird"]}
    upgraded.bird.command("disable ending")  # whether or not another test did
    second = Reflector(upgraded.other, configuration(OTHER, upgraded.other.directory))
    world.wait_until("the second reflector's clients", lambda: sum(second.sessions().values()) == 2)
    everybody = ("bird", "frr")
    world.wait_until("two paths", lambda: len(upgraded.bird.paths()["10.93.0.0/24"]) == 2)
    world.wait_equal("the preferred reflector", upgraded.preferred, dict.fromkeys(everybody, REFLECTOR))
    world.wait_equal("what both have", upgraded.seen, kept)

    assert "draining" in reflector.run("reflector", "drain")
    world.wait_equal("the preferred reflector", upgraded.preferred, dict.fromkeys(everybody, OTHER))
    assert upgraded.marked() == (("0", True), (0, True))
    reflector.run("reflector", "undrain")
    world.wait_equal("the preferred reflector", upgraded.preferred, dict.fromkeys(everybody, REFLECTOR))
    assert upgraded.marked() == (("100", False), (100, False))

    reflector.run("reflector", "drain")
    world.wait_equal("the preferred reflector", upgraded.preferred, dict.fromkeys(everybody, OTHER))
    assert reflector.program.stop() == 0
    while any(client.sessions()[REFLECTOR] for client in (upgraded.bird, upgraded.frr)):
        assert upgraded.seen() == kept
    assert upgraded.seen() == kept
    assert upgraded.preferred() == dict.fromkeys(everybody, OTHER)


BIRD = f"""{preamble("10.1.0.2", kernel=False)}
protocol static {{ ipv4; route 10.92.0.0/24 via 10.1.0.2; }}
protocol static ending {{ ipv4; route {ENDING} via 10.1.0.2; }}
template bgp upwards {{
    local 10.1.0.2 as {ASN};
    connect retry time 2; connect delay time 1; error wait time 1, 2;
    ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
protocol bgp reflector from upwards {{ neighbor {REFLECTOR} as {ASN}; }}
protocol bgp second from upwards {{ neighbor {OTHER} as {ASN}; }}
"""
FRR = f"""
router bgp {ASN}
 bgp router-id 10.1.0.3
 no bgp network import-check
 neighbor {REFLECTOR} remote-as {ASN}
 neighbor {REFLECTOR} timers connect 2
 neighbor {OTHER} remote-as {ASN}
 neighbor {OTHER} timers connect 2
 address-family ipv4 unicast
  network 10.93.0.0/24
 exit-address-family
"""
