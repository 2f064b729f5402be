"""Which routes the status interface gives: searched, paged, with every candidate and its reason."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.telemetry.route_status import route_status
from bgpd.telemetry.status import Direction, EventRing, RouteQuery, RouteStatus
from reflector import status
from reflector.status import ReflectorStatus
from tests.reflector.simulated import V4, SimulatedPeer, key, path_of, reflector


class Cluster:
    """Three clients; the third sends several paths per prefix."""

    def __init__(self) -> None:
        core = self.core = reflector()
        self.a, self.b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
        self.c = SimulatedPeer(core, 3, sends_paths=True).up()
        self.a.announce(*(f"10.1.{number}.0/24" for number in range(10)), "2001:db8:1::/48")
        self.b.announce("10.1.3.0/24", as_path=path_of(65001))
        self.b.announce("10.0.0.0/8", "10.1.3.128/25")
        self.c.announce("10.9.0.0/16", path_id=1)
        self.c.announce("10.9.0.0/16", path_id=2, as_path=path_of(65001))
        core.flush()
        peers = (self.a, self.b, self.c)
        entries = {
            peer.name: SimpleNamespace(address=peer.name, spec=SimpleNamespace(name=f"Node_{n}", single=True))
            for n, peer in enumerate(peers, 1)
        }
        live = [(entries[peer.name], SimpleNamespace(member=peer.member)) for peer in peers]
        server: Any = SimpleNamespace(reflector=core, live=lambda: live, entries=entries, events=EventRing())
        self.status = ReflectorStatus(
            server, "rr", "1", started_at=0.0, store=lambda: None, plan=dict, problems=tuple, moment=float
        )

    def ask(self, **query: Any) -> tuple[int, list[str]]:
        page = self.status.routes(RouteQuery(**query))
        return page.total, [route.prefix for route in page.routes]


def test_pages_meet_without_gap_or_overlap() -> None:
    cluster = Cluster()
    total, everything = cluster.ask(limit=1000)
    assert total == 14  # prefixes
    assert len(everything) == 16  # paths
    paged: list[str] = []
    for offset in range(0, total, 3):
        size, part = cluster.ask(offset=offset, limit=3)
        assert size == total
        paged += part
    assert paged == everything
    assert cluster.ask(offset=14)[1] == []


def test_exact_and_more_specific() -> None:
    cluster = Cluster()
    assert cluster.ask(prefix="10.1.3.0/24") == (1, ["10.1.3.0/24", "10.1.3.0/24"])
    assert cluster.ask(prefix="10.1.3.0/25") == (0, [])
    total, found = cluster.ask(prefix="10.1.3.0/24", longer=True)
    assert (total, set(found)) == (2, {"10.1.3.0/24", "10.1.3.128/25"})
    assert cluster.ask(prefix="10.1.0.0/21", longer=True)[0] == 9  # 10.1.0 to 10.1.7, and the half of one
    assert cluster.ask(prefix="10.1.3.128/26", longer=True)[0] == 0
    assert cluster.ask(prefix="0.0.0.0/0", longer=True)[0] == 13
    assert cluster.ask(prefix="2001:db8::/32", longer=True) == (1, ["2001:db8:1::/48"])
    assert cluster.ask(family="ipv6-unicast")[0] == 1


def test_what_one_peer_said() -> None:
    cluster = Cluster()
    said: dict[str, Any] = {"direction": Direction.IN, "peer": "192.0.2.2"}
    assert cluster.ask(**said) == (3, ["10.0.0.0/8", "10.1.3.0/24", "10.1.3.128/25"])
    assert cluster.ask(**said, prefix="10.1.3.0/24") == (1, ["10.1.3.0/24"])
    assert cluster.ask(**said, prefix="10.1.4.0/24") == (0, [])
    assert cluster.ask(**said, prefix="10.1.0.0/16", longer=True)[0] == 2
    assert cluster.ask(direction=Direction.IN, peer="192.0.2.3") == (1, ["10.9.0.0/16", "10.9.0.0/16"])
    assert cluster.ask(direction=Direction.IN, peer="nobody") == (0, [])


def test_what_one_peer_is_told() -> None:
    cluster = Cluster()
    told: dict[str, Any] = {"direction": Direction.OUT, "peer": "192.0.2.1"}
    total, found = cluster.ask(**told)
    assert (total, set(found)) == (3, {"10.0.0.0/8", "10.1.3.128/25", "10.9.0.0/16"})
    assert cluster.ask(**told, offset=1, limit=1) == (3, found[1:2])
    assert cluster.ask(**told, prefix="10.1.3.0/24") == (0, [])  # its own is the best


@pytest.mark.parametrize("direction", Direction)
def test_a_peer_is_found_by_its_name_as_by_its_address(direction: Direction) -> None:
    """`cairn peers` shows the name first."""
    cluster = Cluster()
    by_name, by_address = (cluster.ask(direction=direction, peer=peer) for peer in ("Node_2", "192.0.2.2"))
    assert by_name == by_address != (0, [])


def test_the_best_comes_first_and_everyone_has_a_reason() -> None:
    routes = Cluster().status.routes(RouteQuery(prefix="10.1.3.0/24")).routes
    assert [(route.peer, route.best) for route in routes] == [("192.0.2.1", True), ("192.0.2.2", False)]
    assert all(route.reason for route in routes)


def test_a_table_of_100_000_is_paged_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the routes of the page are made, whoever asks for what."""
    cluster = Cluster()
    nlri = [bytes((24, 20 + (n >> 16), n >> 8 & 255, n & 255)) for n in range(100_000)]
    rib = cluster.core.ribs[V4]
    member = cluster.a.member
    assert member is not None
    rib.announce(member.source, rib.candidates(key("10.1.0.0/24"))[0].attributes, nlri)
    cluster.core.flush()
    made = 0
    real = route_status

    def counted(*args: Any, **more: Any) -> RouteStatus:
        nonlocal made
        made += 1
        return real(*args, **more)

    monkeypatch.setattr(status, "route_status", counted)
    total, first = cluster.ask(limit=50, family="ipv4-unicast")
    assert total == 100_013
    _, last = cluster.ask(offset=100_000, limit=50)
    assert len(last) == 14
    assert not set(first) & set(last)
    assert cluster.ask(direction=Direction.IN, peer="192.0.2.1", offset=70_000, limit=50)[0] == 100_011
    total, told = cluster.ask(direction=Direction.OUT, peer="192.0.2.2", offset=50_000, limit=50)
    assert total == 100_012
    assert len(told) == 50
    _, everybody = cluster.ask(direction=Direction.OUT, offset=50_000, limit=50)
    assert len(everybody) == 100
    assert made < 400
    assert len(cluster.ask(direction=Direction.OUT, limit=100_000)[1]) == status.ROWS


def test_what_is_announced_is_counted_as_it_is_listed() -> None:
    cluster = Cluster()
    core = cluster.status._server.reflector
    turns: list[Callable[[], object]] = [
        lambda: None,
        lambda: cluster.a.announce("10.9.0.0/16"),
        lambda: cluster.b.announce("10.9.0.0/16", local_pref=50),  # not the best: nobody hears of it
        lambda: cluster.b.announce("10.9.0.0/16", local_pref=60),
        lambda: cluster.b.withdraw("10.9.0.0/16"),
        lambda: cluster.a.withdraw("10.1.3.0/24"),
    ]
    for turn in turns:
        turn()
        core.flush()
        for family, rib in core.ribs.items():
            for peer in (cluster.a, cluster.b, cluster.c):
                assert peer.member is not None
                told = sum(core.told(peer.member, family, nlri) is not None for nlri in rib.prefixes())
                assert core.advertised_count(peer.member, family) == told
                best = sum(path.source is peer.member.source for path in rib.best.values())
                assert rib.best_count(peer.member.source) == best
