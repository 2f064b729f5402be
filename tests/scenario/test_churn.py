"""20,000 changes in etcd at full speed: the router ends with exactly the declared routes, MED and all.

Endpoints come, change and go faster than anything can be announced one by one. ExaBGP, told naively, puts
such changes on the wire in the wrong order now and then (it groups what is queued by attribute set). An
endpoint's age travels as MULTI_EXIT_DISC, so a change that was overtaken by an earlier one shows as a wrong
MED even where the prefix is right. (The same against ExaBGP alone, without etcd's pace: ``tests/agent``.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import pytest

from tests.scenario.harness import calico
from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Agent
from tests.scenario.harness.etcd import Etcd
from tests.scenario.harness.world import World

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.peer("etcd"),
    pytest.mark.peer("bird"),
    pytest.mark.timeout(400),
]
OPERATIONS = 20_000
ENDPOINTS = 500
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LAST_MED = 0xFFFFFFFF
BIRD = """
protocol bgp node {
    local 10.1.0.1 as 64601; neighbor 10.1.0.11 as 65000; connect delay time 1; connect retry time 2;
    ipv4 { import all; export none; };
}
protocol bgp node6 {
    local fd10:1::1 as 64601; neighbor fd10:1::11 as 65000; connect delay time 1; connect retry time 2;
    ipv6 { import all; export none; };
}
"""


@dataclass(slots=True)
class Ground:
    """One node, one router, one etcd; and what has been declared: endpoint number → seconds after `EPOCH`."""

    world: World
    etcd: Etcd
    bird: Bird
    agent: Agent
    declared: dict[int, int] = field(default_factory=dict)

    def change(self, random: Random, numbers: list[int]) -> None:
        """One random operation on each of the endpoints, in one transaction."""
        puts: calico.Entry = {}
        deletions: list[str] = []
        for number in numbers:
            age = random.randrange(4)
            entry = endpoint(number, age)
            if random.random() < 0.35:
                self.declared.pop(number, None)
                deletions += entry
            else:
                self.declared[number] = age
                puts |= entry
        self.etcd.transaction(puts, deletions)

    def expected(self, version: int) -> dict[str, int]:
        """Prefix → MED the router has to have."""
        return {
            prefix: LAST_MED - int((EPOCH + timedelta(seconds=age)).timestamp())
            for number, age in self.declared.items()
            if (prefix := prefix_of(number)) and (":" in prefix) == (version == 6)
        }

    def seen(self, version: int) -> dict[str, int]:
        """Prefix → MED the router has."""
        return {
            prefix: int(path.attributes["BGP.med"])
            for prefix, paths in self.bird.paths(version).items()
            for path in paths
            if path.protocol in ("node", "node6")
        }


def prefix_of(number: int) -> str:
    return f"10.244.{number // 200}.{number % 200}/32" if number % 4 else f"fd00:244::{number + 1:x}/128"


def endpoint(number: int, age: int) -> calico.Entry:
    place = prefix_of(number).partition("/")[0]
    return calico.workload_endpoint("node1", f"w{number}", [place], "", EPOCH + timedelta(seconds=age))


@pytest.fixture
def ground() -> Iterator[Ground]:
    with World("churn") as world:
        world.segment("lan")
        hosts = {}
        for name, number in (("tor", 1), ("etcd", 2), ("node1", 11)):
            hosts[name] = world.host(name, router=True)
            world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24", f"fd10:1::{number}/64")
        bird = Bird(hosts["tor"], preamble("10.1.0.1", kernel=False) + BIRD)
        etcd = Etcd(hosts["etcd"], "10.1.0.2")
        etcd.transaction(
            {
                **calico.bgp_configuration(asNumber=65000, nodeToNodeMeshEnabled=False),
                **calico.ip_pool("workloads", "10.244.0.0/16"),
                **calico.ip_pool("workloads6", "fd00:244::/48"),
                **calico.bgp_peer("tor-ipv4", peerIP="10.1.0.1", asNumber=64601),
                **calico.bgp_peer("tor-ipv6", peerIP="fd10:1::1", asNumber=64601),
                **calico.node("node1", "10.1.0.11/24", "fd10:1::11/64"),
            }
        )
        directory = str(hosts["node1"].directory / "exabgp")
        agent = Agent(
            hosts["node1"],
            {"datastore": etcd.datastore, "node": "node1", "exabgp": {"runDirectory": directory}},
        )
        world.wait_equal("sessions", bird.sessions, {"10.1.0.11": True, "fd10:1::11": True}, 90)
        yield Ground(world, etcd, bird, agent)


def test_twenty_thousand_changes_in_etcd_leave_exactly_the_declared_routes(ground: Ground) -> None:
    random = Random(2)
    done = 0
    while done < OPERATIONS:
        numbers = random.sample(range(ENDPOINTS), random.randint(1, 100))
        ground.change(random, numbers)
        done += len(numbers)
    for version in (4, 6):
        assert ground.expected(version), "something is left to be compared"
        ground.world.wait_equal(
            f"IPv{version} routes", partial(ground.seen, version), ground.expected(version)
        )
    assert ground.bird.sessions() == {"10.1.0.11": True, "fd10:1::11": True}
