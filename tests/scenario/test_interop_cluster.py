"""Two reflectors, one cluster or two, killed in turn while routes come and go: BIRD clients lose nothing.

Each client peers with both reflectors, which peer with each other as non-clients. The valid routes are those
a client announces throughout; beside them a crowd of others is announced and withdrawn the whole time.
"""

import time
from functools import partial

import pytest

from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.cairn import Reflector
from tests.scenario.harness.world import NOT_YET, World

pytestmark = [pytest.mark.scenario, pytest.mark.peer("bird")]
ASN = 65000
REFLECTORS = {"rr1": 1, "rr2": 2}
CLIENTS = {"c1": 11, "c2": 12, "c3": 13}
CHURNER = 20
GROUPS = 5  # of ten routes each, that the churner announces and withdraws
ROUNDS = 3  # times each reflector is killed


def steady(name: str) -> set[str]:
    """What a client announces throughout."""
    if name not in CLIENTS:
        return set()
    return {f"10.{CLIENTS[name]}.{n}.0/24" for n in range(20)}


def crowd(group: int) -> set[str]:
    """What the churner announces and withdraws together."""
    return {f"10.200.{group * 10 + n}.0/24" for n in range(10)}


def client(name: str) -> str:
    """The configuration of a client, or of the churner."""
    number = CLIENTS.get(name, CHURNER)
    routes = "".join(f"route {net} via 10.1.0.{number + 100};" for net in sorted(steady(name)))
    sessions = "".join(
        f"""
protocol bgp {rr} {{
    local 10.1.0.{number} as {ASN}; neighbor 10.1.0.{n} as {ASN};
    connect retry time 1; connect delay time 1; error wait time 1, 1; error forget time 1;
    graceful restart off;
    ipv4 {{ import all; export where source = RTS_STATIC; }};
}}"""
        for rr, n in REFLECTORS.items()
    )
    statics = f"protocol static {{ ipv4; {routes} }}"
    if name not in CLIENTS:
        statics = "".join(
            f"protocol static group{group} {{ disabled; ipv4; "
            + "".join(f"route {net} via 10.1.0.{number + 100};" for net in sorted(crowd(group)))
            + "}\n"
            for group in range(GROUPS)
        )
    return preamble(f"10.1.0.{number}", kernel=False) + statics + sessions


def reflector(number: int, cluster: str) -> dict[str, object]:
    other = 3 - number
    return {
        "asn": ASN,
        "routerId": f"10.255.0.{number}",
        "clusterId": cluster,
        "listen": {"address": f"10.1.0.{number}"},
        "peers": [
            # No graceful restart: what a dead reflector told is gone at once, so the other one must do.
            {
                "address": f"10.1.0.{other}",
                "client": False,
                "gracefulRestartTime": 0,
                "localAddress": f"10.1.0.{number}",
            }
        ],
        "clients": [{"prefix": "10.1.0.0/24", "gracefulRestartTime": 0}],
        "http": {"port": Reflector.port},
    }


@pytest.mark.parametrize("clusters", [("10.255.0.9", "10.255.0.9"), ("10.255.0.1", "10.255.0.2")])
def test_reflectors_killed_in_turn_under_churn(clusters: tuple[str, str]) -> None:
    with World("cluster") as world:
        world.segment("lan")
        hosts = {}
        for name, number in {**REFLECTORS, **CLIENTS, "churner": CHURNER}.items():
            hosts[name] = world.host(name)
            world.attach("lan", hosts[name], "eth0", f"10.1.0.{number}/24")
        reflectors = {
            name: Reflector(hosts[name], reflector(number, cluster))
            for (name, number), cluster in zip(REFLECTORS.items(), clusters, strict=True)
        }
        clients = {name: Bird(hosts[name], client(name)) for name in CLIENTS}
        churner = Bird(hosts["churner"], client("churner"))
        valid = {name: set().union(*(steady(o) for o in CLIENTS if o != name)) for name in CLIENTS}

        def lacking() -> dict[str, set[str]]:
            """Valid routes that clients are without at this moment."""
            found = {name: valid[name] - set(bird.routes()) for name, bird in clients.items()}
            return {name: missing for name, missing in found.items() if missing}

        def all_up(name: str) -> bool:
            address = f"10.1.0.{REFLECTORS[name]}"
            return all(bird.sessions()[address] for bird in (churner, *clients.values()))

        def between() -> bool:
            return all(sum(rr.sessions().values()) == 5 for rr in reflectors.values())

        def holds_all(name: str) -> bool:
            """Whether a reflector's clients have every valid route from it."""
            return all(
                {net for net, paths in bird.paths().items() if any(p.protocol == name for p in paths)}
                >= valid[which]
                for which, bird in clients.items()
            )

        for name in REFLECTORS:
            world.wait_until(f"{name} with all its clients", partial(all_up, name))
            world.wait_until(f"all routes from {name}", partial(holds_all, name))
        world.wait_until("the reflectors with each other", between)
        assert lacking() == {}

        step = 0

        def churn() -> None:
            """One group comes, another goes."""
            nonlocal step
            churner.command(f"enable group{step % GROUPS}")
            churner.command(f"disable group{(step + 2) % GROUPS}")
            step += 1

        for _ in range(ROUNDS):
            for name, rr in reflectors.items():
                churn()
                rr.program.kill()
                until = time.monotonic() + 0.7
                while time.monotonic() < until:
                    churn()
                    assert lacking() == {}
                rr.restart()
                for _ in range(200):
                    churn()
                    assert lacking() == {}
                    try:
                        if all_up(name) and between() and holds_all(name):
                            break
                    except NOT_YET:
                        pass  # it does not answer yet
                else:
                    raise AssertionError(f"{name} did not come back\n{world.dump()}")

        # At rest every client has exactly what is announced, from both reflectors, without a loop.
        living: set[str] = set()
        for group in range(GROUPS):
            churner.command(f"{'enable' if group % 2 else 'disable'} group{group}")
            living |= crowd(group) if group % 2 else set()
        for name, bird in clients.items():
            for via in REFLECTORS:

                def told(bird: Bird = bird, via: str = via) -> set[str]:
                    return {
                        net for net, paths in bird.paths().items() if any(p.protocol == via for p in paths)
                    }

                world.wait_equal(f"routes of {name} from {via}", told, valid[name] | living)
            for net, paths in bird.paths().items():
                for path in paths:
                    passed = path.attributes.get("BGP.cluster_list", "").split()
                    assert len(passed) == len(set(passed)), f"{net} went in a circle: {passed}"
                    assert path.attributes.get("BGP.originator_id") != f"10.1.0.{CLIENTS[name]}"
