"""The server with real sockets: strangers, keys, TTL, limits, stalls, changes, and its end."""

import asyncio
import socket
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bgpd.telemetry.peer_query import totals
from bgpd.telemetry.status import EventRing
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import Capabilities, GracefulRestart
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.messages import Open, negotiate
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, nlri_of
from bgpd.wire.update import encode_end_of_rib, encode_updates
from reflector import server as server_module
from reflector.journal import LINES, SessionJournal
from reflector.recall import Recall
from reflector.server import Server
from reflector.spec import PeerSpec
from reflector.status import ReflectorStatus
from tests.reflector.clients import Client, clients, serving, sessions, spec_of, until

P, Q = "10.1.0.0/24", "10.2.0.0/24"


# Exchange


async def test_clients_hear_of_each_other_and_of_those_who_leave() -> None:
    async with serving() as server, clients(server, 1, 2, 3) as (a, b, c):
        a.announce(P)
        b.announce(Q)
        await until(lambda: a.has(Q) and b.has(P) and c.has(P, Q))
        a.withdraw(P)
        await until(lambda: b.has() and c.has(Q))
        await b.close()
        await until(c.has)


async def test_news_of_one_family_are_told_while_the_other_has_more_to_come() -> None:
    """As between two refreshes that follow each other too soon."""
    both = frozenset({IPV4_UNICAST, IPV6_UNICAST})
    async with serving() as server, clients(server, 1, 2, families=both) as (a, b):
        await until(lambda: b.end_of_rib == len(both))
        server.reflector.members[b.address].readings[IPV6_UNICAST].refresh_due = True
        a.announce(P)
        await until(lambda: b.has(P))


async def test_two_sides_that_connect_to_each_other_end_with_one_session() -> None:
    """An active peer of ours that also connects to us: the collision leaves one connection."""
    loop = asyncio.get_running_loop()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.3", 0))
    listener.listen()
    listener.setblocking(False)
    port = listener.getsockname()[1]
    peer = {"address": "127.0.0.3", "port": port, "localAddress": "127.0.0.1"}
    async with serving(clients=[], peers=[peer]) as server:
        theirs = Client(1, server.ports[0])
        ours = Client(1, server.ports[0])
        ours.sock, _ = await loop.sock_accept(listener)
        ours.sock.setblocking(False)
        await theirs.connect()
        ours.begin()
        theirs.begin()
        await until(lambda: ours.established + theirs.established == 1 and len(server.established) == 1)
        await until(lambda: (ours.closed is None) + (theirs.closed is None) == 1)
        survivor = ours if ours.closed is None else theirs
        assert survivor is ours, "the reflector has the greater BGP Identifier, so its connection stays"
        survivor.announce(P)
        await until(lambda: server.reflector.members["127.0.0.3"].source is not None)
        await ours.close()
        await theirs.close()
    listener.close()


# Changes


async def test_a_change_touches_only_the_sessions_it_concerns() -> None:
    def config(**first: Any) -> dict[str, Any]:
        return {"clients": [{"prefix": "127.0.0.0/24", **first}, {"prefix": "127.0.1.0/24"}]}

    async with serving(**config()) as server, clients(server, 1, 250) as (a, b):
        before = sessions(server)
        server.configure(spec_of(**config(description="racks 1 to 3")))
        server.configure(spec_of(**config(), limits={"openTimeout": 5, "sendHoldTime": 900}))
        await asyncio.sleep(0.05)
        assert sessions(server) == before
        server.configure(spec_of(**config(holdTime=30)))
        await until(lambda: a.closed)
        assert a.notification is not None
        assert a.notification.subcode == CeaseSubcode.OTHER_CONFIGURATION_CHANGE
        assert b.established
        assert sessions(server) == {b.address: before[b.address]}
        server.configure(spec_of(clients=[{"prefix": "127.0.0.0/24"}]))
        await until(lambda: b.closed)
        assert b.notification is not None
        assert b.notification.subcode == CeaseSubcode.PEER_DECONFIGURED


async def test_a_change_costs_what_there_are_of_peers_and_not_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    takes = PeerSpec.takes

    def counted(spec: PeerSpec, *where: Any) -> bool:
        looked.append(spec.name)
        return takes(spec, *where)

    peers = [{"address": f"127.0.3.{host}", "passive": True} for host in range(1, 201)]
    async with serving(clients=[], peers=peers) as server:
        monkeypatch.setattr(PeerSpec, "takes", counted)
        server.configure(spec_of(clients=[], peers=peers[:-1]))
        assert len(looked) <= len(peers)
        assert len(server.entries) == len(peers) - 1


@pytest.mark.parametrize("away", [True, False])
async def test_routes_of_an_as_that_is_no_longer_declared_go_at_once(away: bool) -> None:
    """They could never be confirmed: who comes back with another AS number is another peer."""

    def config(asn: int) -> dict[str, Any]:
        return {"peers": [{"address": "127.0.0.3", "asn": asn, "withoutPolicy": "accept", "passive": True}]}

    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    async with (
        serving(**config(65002)) as server,
        clients(server, 1, asn=65002, graceful_restart=restart) as (a,),
        clients(server, 2) as (b,),
    ):
        a.announce("10.1.0.0/24")
        await until(lambda: b.view)
        if away:
            await a.close()
            await until(lambda: not server.reflector.members[a.address].established)
            assert b.view
        server.configure(spec_of(**config(65003)))
        await until(lambda: not b.view)
        assert a.address not in server.reflector.members


async def test_what_needs_a_restart_is_refused_whole() -> None:
    async with serving() as server, clients(server, 1) as (a,):
        for change in ({"asn": 65001}, {"clusterId": "10.0.0.9"}, {"listen": {"address": "127.0.0.9"}}):
            with pytest.raises(ValueError, match="restart"):
                server.configure(spec_of(**change))
        assert a.established


async def test_rfc8212_a_policy_that_comes_later_needs_no_new_session() -> None:
    def config(policy: str) -> dict[str, Any]:
        peer = {"address": "127.0.1.2", "asn": 65100, "passive": True, "withoutPolicy": policy}
        return {"clients": [{"prefix": "127.0.0.0/24"}], "peers": [peer]}

    async with serving(**config("reject")) as server, clients(server, 1) as (a,):
        x = await Client(250, server.ports[0], asn=65100).up()
        a.announce(P)
        x.announce(Q)
        await until(lambda: server.reflector.ribs[IPV4_UNICAST].candidates(bytes((24, 10, 2, 0))))
        assert a.has()
        before = sessions(server)
        server.configure(spec_of(**config("accept")))
        await until(lambda: a.has(Q) and x.has(P))
        assert sessions(server) == before
        server.configure(spec_of(**config("reject")))
        await until(lambda: a.has() and x.has())
        assert sessions(server) == before


# Start and end


async def test_rfc4724_4_1_after_a_start_open_says_restarting_until_all_is_told() -> None:
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    peers = [{"address": "127.0.0.3", "passive": True}, {"address": "127.0.0.4", "passive": True}]
    async with serving(clients=[], peers=peers) as server:
        async with clients(server, 1, graceful_restart=restart) as (a,):
            offered = a.peer_open.capabilities.graceful_restart
            assert offered is not None
            assert offered.restarting
            before = sessions(server)
            server.reflector.deferral.until = 0.0
            await until(lambda: server.reflector.deferral.until is None)
            await until(lambda: a.end_of_rib == 1)
            assert sessions(server) == before
        async with clients(server, 2, graceful_restart=restart) as (b,):
            offered = b.peer_open.capabilities.graceful_restart
            assert offered is not None
            assert not offered.restarting


async def test_rfc4724_4_1_who_refuses_to_connect_or_is_declared_dead_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "ABSENT_AFTER", 0.0)
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    refusing = {"address": "127.0.0.4", "port": 1}
    silent = {"address": "127.0.0.5", "passive": True}
    peers = [{"address": "127.0.0.3", "passive": True}, refusing, silent]
    async with (
        serving(clients=[], peers=peers) as server,
        clients(server, 1, graceful_restart=restart) as (a,),
    ):
        a.write(encode_end_of_rib(IPV4_UNICAST))
        await until(lambda: server.entries["127.0.0.4"].unreached)
        await until(lambda: "127.0.0.4" in server.reflector.deferral.absent)
        assert a.end_of_rib == 0, "the silent one may come yet"
        server.configure(replace(server.spec, absent=frozenset({"127.0.0.5"})))
        await until(lambda: a.end_of_rib == 1)


async def test_a_dead_nodes_routes_go_at_once_whatever_its_restart_time() -> None:
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    async with serving() as server, clients(server, 1, 2, 3, graceful_restart=restart) as (a, b, c):
        a.announce("10.1.0.0/24")
        b.announce("10.2.0.0/24")
        await until(lambda: len(c.view) == 2)
        server.configure(replace(server.spec, dead=frozenset({b.address})))
        await a.close()
        await until(lambda: not server.reflector.members[a.address].established)
        assert len(c.view) == 2, "one is to come back, and the other's session lives, whatever its lease says"
        await b.close()
        await until(lambda: len(c.view) == 1)
        server.configure(replace(server.spec, dead=frozenset({a.address})))
        await until(lambda: not c.view)


async def test_clients_of_a_prefix_are_remembered_through_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked for, waited for, and forgotten if they do not come."""
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    local = IPv4Address("127.0.0.1")
    spec, loop = spec_of(peers=[{"address": "127.0.0.9", "passive": True}]), asyncio.get_running_loop()
    first = Server(spec, loop, EventRing(), lambda: 0.0, Recall(tmp_path))
    first.start()
    async with clients(first, 1, 2, 7, graceful_restart=restart) as (a, b, _named):
        first.stop("an upgrade", restarting=True)
        await until(lambda: a.closed and b.closed)
        assert a.notification is None or a.notification.subcode == CeaseSubcode.ADMINISTRATIVE_RESET
    assert Recall(tmp_path).read() == {a.address: local, b.address: local}

    monkeypatch.setattr(server_module, "SEEK_AFTER", 0.2)
    second = Server(spec, loop, EventRing(), lambda: 0.0, Recall(tmp_path))
    second.start()
    assert second.reflector.deferral.expected == {"127.0.0.9", a.address, b.address}
    async with clients(second, 1) as (a,):
        await until(lambda: b.address in second.entries)
        assert [second.entries[c.address].peer.counters.attempts for c in (a, b)] == [0, 1]
        second.reflector.deferral.until = 0.0
        await until(lambda: second.reflector.deferral.until is None)
        await until(lambda: b.address not in second.entries)
        assert a.address in second.entries
    second.stop("for good")
    assert Recall(tmp_path).read() == {}


async def remembering(folder: Path, *numbers: int) -> Server:
    """A server that starts again, and looks for these clients of before."""
    addresses = [Client(number, 0).address for number in numbers]
    Recall(folder).write({address: IPv4Address("127.0.0.1") for address in addresses})
    server = Server(spec_of(), asyncio.get_running_loop(), EventRing(), lambda: 0.0, Recall(folder))
    server.start()
    await until(lambda: server.entries.keys() == set(addresses))
    return server


async def test_rfc4724_4_2_who_came_back_and_restarts_again_keeps_its_routes_when_the_start_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SEEK_AFTER", 0.0)
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    server = await remembering(tmp_path, 1)
    async with clients(server, 1, 2, graceful_restart=restart) as (a, b):
        a.announce(P)
        await until(lambda: b.has(P))
        await a.close()
        await until(lambda: not server.reflector.members[a.address].established)
        server.reflector.deferral.until = 0.0
        await until(lambda: b.end_of_rib == 1)
        server.reflector.flush()
        assert server.reflector.members[a.address].stale_until
        assert server.reflector.ribs[IPV4_UNICAST].best
        assert server.entries[a.address].recalled is None
    server.stop("the test is over")


async def test_who_was_remembered_is_looked_for_whatever_else_is_declared_of_it_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SEEK_AFTER", 0.0)
    server = await remembering(tmp_path, 1)
    entry = server.entries[Client(1, 0).address]
    for change in ({"description": "racks 1 to 3"}, {"holdTime": 30}):
        server.configure(spec_of(clients=[{"prefix": "127.0.0.0/8", **change}]))
        assert not entry.peer.config.session.passive
    server.reflector.deferral.until = 0.0
    await until(lambda: not server.entries)
    server.stop("the test is over")


async def test_who_was_remembered_and_is_no_longer_let_in_is_not_waited_for(tmp_path: Path) -> None:
    near, far = "127.0.0.2", "127.0.1.2"
    Recall(tmp_path).write({address: IPv4Address("127.0.0.1") for address in (near, far, "10.9.9.9")})
    spec = spec_of(clients=[{"prefix": "127.0.0.0/16"}])
    server = Server(spec, asyncio.get_running_loop(), EventRing(), lambda: 0.0, Recall(tmp_path))
    server.start()
    assert server.reflector.deferral.expected == {near, far}
    server.configure(spec_of(clients=[{"prefix": "127.0.0.0/24"}]))
    assert server.reflector.deferral.expected == {near}
    server.stop("for good")


async def test_rfc9003_2_the_end_says_why() -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        server.stop("moving to another rack")
        await until(lambda: a.closed and b.closed)
        for client in (a, b):
            assert client.notification is not None
            assert client.notification.communication == "moving to another rack"


async def test_drain_is_heard_without_a_new_session() -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        a.announce(P)
        await until(lambda: b.has(P))
        before = sessions(server)
        server.reflector.deferral.until = None  # its start is over
        told = b.view[bytes((24, 10, 1, 0))]
        server.drain()
        await until(lambda: b.view.get(bytes((24, 10, 1, 0)), told) != told)
        assert bytes.fromhex("ffff0000") in b.view[bytes((24, 10, 1, 0))]
        assert sessions(server) == before


def test_many_sessions_at_once_cost_few_lines() -> None:
    events = EventRing(5000)
    journal = SessionJournal(events, lambda: 0.0)
    with capture_logs() as logs:
        for number in range(1000):
            journal.up(f"10.0.{number >> 8}.{number & 255}", 65000, "client", number.to_bytes(4))
        journal.tick()
        journal.down("10.0.0.1", "gone")
        journal.tick()
        journal.tick()
    assert len(logs) == LINES + 2
    assert logs[LINES]["count"] == 1000 - LINES
    assert len(events.after(0, 5000)) == 1001


async def test_why_a_session_ended_is_not_hidden_by_what_came_after() -> None:
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1) as (a,):
        entry = server.entries[a.address]
        await a.close()
        await until(lambda: entry.went_down != "")
        ended = entry.went_down
        assert entry.why_down == ended
        assert entry.peer.counters.last_error_at is not None
        entry.peer.counters.last_error = "connect: ECONNREFUSED"
        entry.peer.counters.last_error_at = 5.0
        status = ReflectorStatus(
            server, "rr", "1", started_at=0.0, store=lambda: None, plan=dict, problems=tuple,
            moment=lambda at: at + 1000,
        )  # fmt: skip
        [found] = status.peers()
        assert found.last_reason == f"{ended}; since then: connect: ECONNREFUSED"
        assert found.last_reason_at == 1005.0


async def test_no_number_is_given_of_updates_sent_which_nobody_counts() -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        a.announce(P)
        await until(lambda: b.has(P))
        status = ReflectorStatus(
            server, "rr", "1", started_at=0.0, store=lambda: None, plan=dict, problems=tuple, moment=float
        )
        found = status.peers()
        assert [sum(family.advertised for family in peer.families) for peer in found] == [0, 1]
        assert all(peer.messages_sent["open"] == 1 for peer in found)
        assert not any("update" in peer.messages_sent for peer in found)
        names = {sample.name for sample in totals(found)}
        assert "updates_received" in names
        assert "updates_sent" not in names


async def test_what_is_declared_and_cannot_be_done_is_ill_health_that_no_restart_mends() -> None:
    async with serving() as server:
        status = ReflectorStatus(
            server, "rr", "1", started_at=0.0, store=lambda: None, plan=dict,
            problems=lambda: ("t: no password",), moment=float,
        )  # fmt: skip
        assert status.healthy() == (False, "t: no password")
        assert status.working() == (True, "healthy")


async def test_rfc4271_6_3_next_hops_of_this_machine_are_for_its_own_peers_only() -> None:
    async with serving() as server:
        near, far = (server._enter(server.spec.peers[0], address) for address in ("127.0.0.9", "192.0.2.1"))
        caps = Capabilities(frozenset({IPV4_UNICAST}), asn4=65000)
        negotiated = negotiate(
            Open(65000, 90, bytes((10, 0, 0, 1)), caps), Open(65000, 90, bytes((10, 0, 0, 2)), caps)
        )
        hop = bytes((127, 0, 0, 1))
        attributes = encode_attributes(next_hop=hop, local_pref=100)
        [message] = encode_updates(IPV4_UNICAST, attributes, hop, [nlri_of(ip_network(P))])
        for entry, taken in ((near, True), (far, False)):
            update = entry.peer._decoder(negotiated, True).decode(message[19:])
            assert (bool(update.reach), bool(update.unreach)) == (taken, not taken)
