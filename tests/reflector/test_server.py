"""The server with real sockets: strangers, keys, TTL, limits, stalls, changes, and its end."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bgpd.session.fsm import State
from bgpd.telemetry.status import EventRing, PeerVerb
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import AddPath, Capabilities, GracefulRestart
from bgpd.wire.framing import Framer
from bgpd.wire.iana import CeaseSubcode, ErrorCode, MessageType
from bgpd.wire.messages import KEEPALIVE, Open, negotiate
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from bgpd.wire.update import Update, encode_end_of_rib, encode_updates, encode_withdrawals
from reflector import server as server_module
from reflector import sockets
from reflector.journal import LINES, SessionJournal
from reflector.member import Member
from reflector.recall import Recall
from reflector.server import Server
from tests.reflector.clients import Client, clients, serving, spec_of, until

P, Q = "10.1.0.0/24", "10.2.0.0/24"
NEXT_HOP = bytes((127, 0, 0, 3))


def key(name: str) -> dict[str, str]:
    return {"env": name}


def sessions(server: Server) -> dict[str, float | None]:
    """When each Established session began: it has not been reset if that is the same."""
    return {entry.address: link.session.established_since for entry, link in server.live()}


async def reached(client: Client, **options: Any) -> bool:
    """Whether TCP comes about."""
    try:
        await client.connect(**options)
    except (TimeoutError, OSError):
        return False
    return True


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


# Strangers and garbage


async def test_strangers_are_closed_at_once() -> None:
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1) as (a,):
        stranger = await Client(300, server.ports[0]).connect()
        assert stranger.sock is not None
        assert await asyncio.get_running_loop().sock_recv(stranger.sock, 100) == b""
        await stranger.close()
        assert server.strangers == 1
        assert a.established
        assert list(server.entries) == [a.address]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 19, bytes(4096)])
async def test_garbage_before_open_gets_its_notification_and_nothing_else(garbage: bytes) -> None:
    async with serving() as server, clients(server, 1) as (a,):
        hostile = await Client(2, server.ports[0]).connect()
        await hostile.write_all(garbage)
        assert hostile.sock is not None
        said = b""
        while data := await asyncio.get_running_loop().sock_recv(hostile.sock, 4096):
            said += data
        framer = Framer()
        framer.feed(said)
        (_open, (kind, body)) = list(framer)
        assert (kind, body[0]) == (MessageType.NOTIFICATION, ErrorCode.MESSAGE_HEADER)
        await hostile.close()
        a.announce(P)
        async with clients(server, 3) as (c,):
            await until(lambda: c.has(P))


async def test_half_open_connections_make_room_for_those_who_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNIDENTIFIED_AGE", 0.2)
    limits = {"unidentifiedConnections": 4, "openTimeout": 60.0}
    async with serving(limits=limits) as server:
        silent = [await Client(n, server.ports[0]).connect() for n in range(1, 13)]
        async with clients(server, 50) as (a,):
            assert a.established
            assert len(server._unidentified) <= 4
        for client in silent:
            await client.close()


async def test_a_burst_of_clients_waits_instead_of_being_refused() -> None:
    limits = {"unidentifiedConnections": 8}
    async with serving(limits=limits) as server:
        many = [Client(n, server.ports[0]) for n in range(1, 61)]
        await asyncio.gather(*(client.up() for client in many))
        assert len(server.established) == 60
        assert server.strangers == 0
        for client in many:
            await client.close()


async def test_an_open_that_never_comes_is_not_waited_for() -> None:
    async with serving(limits={"openTimeout": 0.3}) as server:
        silent = await Client(1, server.ports[0]).connect()
        silent.begin()
        await silent.stall()
        silent_sock = silent.sock
        await until(lambda: not server._unidentified)
        assert silent_sock is not None
        await silent.close()


async def test_clients_nobody_named_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FORGOTTEN_AFTER", 0.1)
    monkeypatch.setattr(server_module, "PRUNING", 0.1)
    async with serving() as server:
        server._next_pruning = 0.0
        async with clients(server, 1, 2, 3) as (a, b, c):
            a.announce(P)
            await until(lambda: b.has(P) and c.has(P))
        await until(lambda: not server.entries)
        assert not server.reflector.members


async def test_a_defect_of_ours_costs_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        real = server.reflector.update

        def fails(member: Any, updates: Any) -> None:
            if member.name == a.address:
                raise RuntimeError("a defect")
            real(member, updates)

        monkeypatch.setattr(server.reflector, "update", fails)
        with capture_logs() as logs:
            a.announce(P)
            await until(lambda: a.closed)
        assert any("defect" in line["event"] for line in logs)
        assert b.established
        assert len(server.established) == 1


# RFC 2385


async def test_rfc2385_2_only_the_right_key_connects() -> None:
    prefixes = [
        {"prefix": "127.0.0.0/28", "password": key("KEY")},
        {"prefix": "127.0.0.0/24"},
    ]
    peers = [{"address": "127.0.0.5", "passive": True, "password": key("OTHER")}]
    async with serving(clients=prefixes[:1], peers=peers) as server:
        port = server.ports[0]
        for number, secret, right in (
            (1, "secret", True),
            (2, "wrong", False),
            (4, None, False),
            (3, "other", True),
            (3, "secret", False),
        ):
            client = Client(number, port)
            assert await reached(client, key=secret) is right, (number, secret)
            await client.close()


async def test_a_key_changes_without_dropping_anybody() -> None:
    def config(name: str) -> dict[str, Any]:
        return {
            "clients": [{"prefix": "127.0.0.0/24"}],
            "peers": [
                {"address": "127.0.1.2", "passive": True, "password": key(name)},
                {"address": "127.0.1.3", "passive": True, "password": key("KEY")},
            ],
        }

    async with serving(**config("KEY")) as server, clients(server, 1) as (plain,):
        port = server.ports[0]
        changed = await Client(250, port).up(key="secret")
        other = await Client(251, port).up(key="secret")
        before = sessions(server)
        assert len(before) == 3
        server.configure(spec_of(**config("OTHER")))
        changed.announce(P)
        await until(lambda: plain.has(P) and other.has(P))
        assert sessions(server) == before, "a session that is up keeps the key it was made with"
        await changed.close()
        await until(lambda: len(server.established) == 2)
        late = Client(250, port)
        assert not await reached(late, key="secret")
        await late.close()
        await Client(250, port).up(key="other")
        assert len(server.established) == 3


async def test_the_key_of_a_prefix_changes_too() -> None:
    def config(name: str) -> dict[str, Any]:
        return {"clients": [{"prefix": "127.0.0.0/24", "password": key(name)}, {"prefix": "127.0.1.0/24"}]}

    async with serving(**config("KEY")) as server, clients(server, 250) as (plain,):
        kept = await Client(1, server.ports[0]).up(key="secret")
        before = sessions(server)
        server.configure(spec_of(**config("OTHER")))
        kept.announce(P)
        await until(lambda: plain.has(P))
        assert sessions(server) == before
        late = Client(2, server.ports[0])
        assert not await reached(late, key="secret")
        await late.close()
        late = await Client(2, server.ports[0]).up(key="other")
        await late.close()
        await kept.close()


def test_rfc2385_keys_of_ipv6_peers() -> None:
    network = ip_network("::1/128")
    try:
        listener = sockets.listening(IPv6Address("::1"), 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener:
        sockets.set_md5(listener, network, "secret")
        for secret, right in (("secret", True), ("wrong", False), (None, False)):
            with sockets.unconnected("::1", IPv6Address("::1")) as sock:
                sock.settimeout(0.3)
                sockets.set_md5(sock, network, secret)
                assert (sock.connect_ex(listener.getsockname()) == 0) is right


async def test_a_client_that_floods_takes_turns_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much one client has sent, another's UPDATE is dealt with after one portion of it."""
    monkeypatch.setattr(server_module, "CHUNK_OCTETS", 1 << 13)
    async with serving() as server, clients(server, 1, 2, 3) as (flooding, quiet, witness):
        server._pace()
        order: list[str] = []
        real = server.reflector.update

        def noted(member: Member, said: Sequence[Update]) -> None:
            order.append(member.name)
            real(member, said)

        monkeypatch.setattr(server.reflector, "update", noted)
        sending = asyncio.create_task(flooding.write_all(many_updates(10_000)))
        await until(lambda: len(order) > 3)
        quiet.announce(P)
        at = len(order)
        await until(lambda: quiet.address in order)
        assert order.index(quiet.address) - at <= 4
        await sending
        await until(lambda: len(witness.view) == 10_001)


# RFC 5082


async def test_rfc5082_3_packets_from_afar_are_dropped() -> None:
    peers = [{"address": "127.0.0.3", "passive": True, "ttlSecurity": 1}]
    async with serving(clients=[], peers=peers) as server:
        far = await Client(1, server.ports[0]).connect(ttl=254)
        far.begin()
        await until(lambda: far.session is not None and far.session.state is State.OPENCONFIRM)
        await asyncio.sleep(0.5)
        assert far.session is not None
        assert far.session.state is State.OPENCONFIRM, "it hears us, but we do not hear it"
        assert not server.established
        await far.close()
        near = await Client(1, server.ports[0]).up(ttl=255, least_ttl=255)
        assert len(server.established) == 1
        await near.close()


# Limits


async def test_rfc4486_4_too_many_prefixes_end_the_session_for_a_while() -> None:
    limit = {"limit": 4, "warnAt": 50, "restartAfter": 1}
    prefix = {"prefix": "127.0.0.0/24", "maxPrefixes": limit}
    async with serving(clients=[prefix]) as server, clients(server, 1, 2) as (a, b):
        a.announce(*(f"10.1.{n}.0/24" for n in range(3)))
        await until(lambda: any(e.kind == "prefixes.near_limit" for e in server.events.after(0)))
        assert a.established
        a.announce(*(f"10.1.{n}.0/24" for n in range(3, 6)))
        await until(lambda: a.closed)
        notification = a.notification
        assert notification is not None
        assert notification.code == ErrorCode.CEASE
        assert notification.subcode == CeaseSubcode.MAXIMUM_PREFIXES_REACHED
        await until(b.has)
        again = await Client(1, server.ports[0]).connect()
        again.begin()
        await until(lambda: again.closed)
        assert again.notification is not None
        assert again.notification.subcode == CeaseSubcode.CONNECTION_REJECTED
        await again.close()
        await until(lambda: a.address not in server.entries)
        back = await Client(1, server.ports[0]).up()
        await back.close()


def ended(client: Client) -> bool:
    return client.closed is not None


async def test_a_barred_peer_is_let_in_by_the_operator() -> None:
    """Without a restart timer it would wait for ever (RFC 4271 8.1.1, IdleHoldTimer)."""
    prefix = {"prefix": "127.0.0.0/24", "maxPrefixes": {"limit": 2}}
    async with serving(clients=[prefix]) as server:
        for verb in (PeerVerb.ENABLE, PeerVerb.RESET):
            async with clients(server, 1) as (a,):
                a.announce("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
                await until(partial(ended, a))
            entry = server.entries[a.address]
            assert entry.peer.state is State.IDLE
            server.operate(entry, verb, "")
            async with clients(server, 1) as (back,):
                assert back.established
        assert [e.kind for e in server.events.after(0)].count("peer.operated") == 2


async def test_an_operator_disables_resets_and_refreshes_one_peer() -> None:
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1, 2) as (a, b):
        a.announce(P)
        await until(lambda: b.has(P))
        entry = server.entries[a.address]
        refreshes = b.session.counters.received.route_refreshes if b.session else 0
        server.operate(server.entries[b.address], PeerVerb.REFRESH, "")
        server.reflector.deferred_until = None
        await until(lambda: b.session and b.session.counters.received.route_refreshes == refreshes + 3)
        assert b.has(P)
        assert entry.peer.session is not None

        server.operate(entry, PeerVerb.DISABLE, "new line card")
        await until(lambda: a.closed)
        assert a.notification is not None
        assert a.notification.subcode == CeaseSubcode.ADMINISTRATIVE_SHUTDOWN
        assert a.notification.communication == "new line card"
        await until(b.has)
        server.configure(spec_of(clients=[{"prefix": "127.0.0.0/24", "maxPrefixes": {"limit": 9}}]))
        refused = await Client(1, server.ports[0]).connect()
        refused.begin()
        await until(lambda: refused.closed)
        assert refused.notification is not None
        assert refused.notification.subcode == CeaseSubcode.CONNECTION_REJECTED
        await refused.close()
        server.operate(entry, PeerVerb.ENABLE, "")
        async with clients(server, 1) as (again,):
            server.operate(server.entries[a.address], PeerVerb.RESET, "")
            await until(lambda: again.closed)
            assert again.notification is not None
            assert again.notification.subcode == CeaseSubcode.ADMINISTRATIVE_RESET
        async with clients(server, 1) as (again,):
            assert again.established


async def test_a_limit_that_is_raised_lets_a_barred_peer_in() -> None:
    def config(limit: int) -> dict[str, Any]:
        return {"clients": [{"prefix": "127.0.0.0/24", "maxPrefixes": {"limit": limit}}]}

    async with serving(**config(2)) as server, clients(server, 1, 2) as (a, b):
        a.announce("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
        await until(lambda: a.closed)
        before = sessions(server)
        server.configure(spec_of(**config(5)))
        back = await Client(1, server.ports[0]).up()
        assert before.items() <= sessions(server).items()
        assert b.established
        await back.close()


def many_updates(count: int) -> bytes:
    """UPDATEs with an attribute set each."""
    return b"".join(
        b"".join(
            encode_updates(
                IPV4_UNICAST,
                encode_attributes(
                    next_hop=bytes((127, 0, 0, 3)), local_pref=100, med=n, communities=range(9)
                ),
                bytes((127, 0, 0, 3)),
                [bytes((24, 20, n >> 8, n & 255))],
            )
        )
        for n in range(count)
    )


async def test_a_client_that_never_reads_delays_nobody_and_catches_up() -> None:
    async with serving() as server, clients(server, 1, 2) as (a, b):
        stalled = await Client(3, server.ports[0]).up(receive_buffer=4096)
        await stalled.stall()
        count = 20_000
        await a.write_all(many_updates(count))
        await until(lambda: len(b.view) == count)
        member = server.reflector.members[stalled.address]
        await until(lambda: member.lag > 100_000)
        await a.write_all(many_updates(count // 2).replace(b"\x80\x04\x04\0\0", b"\x80\x04\x04\0\1"))
        a.withdraw("20.78.31.0/24")
        await until(lambda: len(b.view) == count - 1)
        stalled.go_on()
        await until(lambda: len(stalled.view) == count - 1)
        await until(lambda: stalled.view == b.view)
        await stalled.close()


async def test_rfc9687_3_a_client_that_takes_nothing_is_ended() -> None:
    prefix = {"prefix": "127.0.0.0/24", "holdTime": 3}
    limits = {"sendHoldTime": 3}
    async with serving(clients=[prefix], limits=limits) as server, clients(server, 1, 2) as (a, b):
        stalled = await Client(3, server.ports[0]).up(receive_buffer=4096)
        await stalled.stall()
        await a.write_all(many_updates(20_000))
        while stalled.address in {entry.address for entry, _ in server.live()}:
            for client in (a, b, stalled):  # none of them is silent; one only takes nothing
                with contextlib.suppress(OSError):
                    client.write(KEEPALIVE)
            await asyncio.sleep(0.2)
        await until(lambda: len(b.view) == 20_000)
        reason = server.entries[stalled.address].peer.counters.last_error
        assert reason == "SendHoldTimer_Expires"
        assert a.established
        assert b.established
        await stalled.close()


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
            server.reflector.deferred_until = 0.0
            await until(lambda: server.reflector.deferred_until is None)
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
        await until(lambda: "127.0.0.4" in server.reflector.absent)
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
    assert second.reflector.expected == {"127.0.0.9", a.address, b.address}
    async with clients(second, 1) as (a,):
        await until(lambda: b.address in second.entries)
        assert [second.entries[c.address].peer.counters.attempts for c in (a, b)] == [0, 1]
        second.reflector.deferred_until = 0.0
        await until(lambda: second.reflector.deferred_until is None)
        await until(lambda: b.address not in second.entries)
        assert a.address in second.entries
    second.stop("for good")
    assert Recall(tmp_path).read() == {}


def test_a_memory_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "clients").write_text("10.0.0.1 10.0.0.2\nnonsense\n")
    assert Recall(tmp_path).read() == {}
    absent = Recall(tmp_path / "absent")
    absent.write({"10.0.0.1": IPv4Address("10.0.0.2")})
    assert absent.read() == {}
    assert Recall(None).read() == {}


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
        server.reflector.deferred_until = None  # its start is over
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
            journal.up(f"10.0.{number >> 8}.{number & 255}", 65000, "client")
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
        entry.peer.counters.last_error = "connect: ECONNREFUSED"
        assert entry.why_down == f"{ended}; since then: connect: ECONNREFUSED"


async def test_too_many_paths_of_a_prefix_are_told_once_and_asked_for_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "PRUNING", 0.1)
    prefix = {"prefix": "127.0.0.0/24", "addPath": {"receive": True, "receiveLimit": 2}}
    sending = ((IPV4_UNICAST, AddPath.SEND),)
    async with (
        serving(clients=[prefix]) as server,
        clients(server, 1, add_path=sending) as (a,),
        clients(server, 2) as (b,),
    ):
        nlri = nlri_of(ip_network(P))
        hop = IPv4Address(a.address).packed
        attributes = encode_attributes(next_hop=hop, local_pref=100)
        for number in range(1, 6):
            item = number.to_bytes(4, "big") + nlri
            a.write(b"".join(encode_updates(IPV4_UNICAST, attributes, hop, [item])))
        await until(lambda: b.has(P) and server.reflector.paths_refused == 3)
        assert [e.kind for e in server.events.after(0)].count("paths.over_limit") == 1
        assert a.session is not None
        before = a.session.counters.received.route_refreshes
        a.write(b"".join(encode_withdrawals(IPV4_UNICAST, [(1).to_bytes(4, "big") + nlri])))
        await until(lambda: a.session and a.session.counters.received.route_refreshes > before)
        assert a.established


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
