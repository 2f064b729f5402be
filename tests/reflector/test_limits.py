"""What one client may take of the others: prefixes, paths, and turns; and who reads nothing."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from bgpd.rib.path import SourceKind
from bgpd.session.fsm import State
from bgpd.telemetry.status import PeerVerb
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import AddPath, GracefulRestart
from bgpd.wire.iana import CeaseSubcode, ErrorCode, RefreshSubtype
from bgpd.wire.messages import KEEPALIVE, RouteRefresh, encode
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from bgpd.wire.update import Update, encode_updates, encode_withdrawals
from reflector import guests, pace
from reflector import server as server_module
from reflector.member import Member
from tests.reflector.clients import Client, clients, serving, sessions, spec_of, until

P = "10.1.0.0/24"


async def test_one_that_walks_through_addresses_leaves_routes_at_few_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guests, "FEWEST", 3)
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    async with serving(clients=[{"prefix": "127.0.0.0/24"}]) as server, clients(server, 1) as (a,):
        for number in range(2, 10):
            async with clients(server, number, graceful_restart=restart) as (b,):
                b.announce(f"10.1.{number}.0/24")
                nlri = nlri_of(ip_network(f"10.1.{number}.0/24"))
                await until(partial(a.view.__contains__, nlri))
        await until(lambda: len(a.view) == 3)
        assert len(server.reflector.members) == 1 + 3


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


async def test_a_limit_that_changed_is_warned_of_anew_and_the_same_one_once() -> None:
    def clients_with(**limit: int) -> list[dict[str, object]]:
        return [{"prefix": "127.0.0.0/24", "maxPrefixes": limit}]

    async with serving(clients=clients_with(limit=4)) as server, clients(server, 1) as (a,):

        def warnings() -> list[str]:
            return [e.message for e in server.events.after(0) if e.kind == "prefixes.near_limit"]

        def become(**limit: int) -> None:
            server.configure(spec_of(clients=clients_with(**limit)))

        a.announce(*(f"10.1.{n}.0/24" for n in range(3)))
        await until(lambda: len(warnings()) == 1)
        become(limit=8)
        assert len(warnings()) == 1
        a.announce(*(f"10.1.{n}.0/24" for n in range(3, 6)))
        await until(lambda: len(warnings()) == 2)
        assert "6 prefixes of the 8" in warnings()[1]
        become(limit=8, warnAt=90)
        assert len(warnings()) == 2
        become(limit=8, warnAt=50)
        assert len(warnings()) == 3
        a.announce("10.1.6.0/24")
        await until(lambda: len(server.reflector.ribs[IPV4_UNICAST].best) == 7)
        assert len(warnings()) == 3


async def test_no_refresh_gets_a_peer_past_the_limit() -> None:
    """What its refresh has not confirmed yet counts, so that to begin one after the other is of no use."""
    prefix = {"prefix": "127.0.0.0/24", "maxPrefixes": {"limit": 4}}
    async with serving(clients=[prefix]) as server, clients(server, 1) as (a,):
        for mark in (RefreshSubtype.BEGIN, RefreshSubtype.END):
            a.write(encode(RouteRefresh(IPV4_UNICAST, mark)))
            a.announce("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
        await until(lambda: len(server.reflector.ribs[IPV4_UNICAST].best) == 3)
        a.write(encode(RouteRefresh(IPV4_UNICAST, RefreshSubtype.BEGIN)))
        a.announce("10.2.1.0/24", "10.2.2.0/24", "10.2.3.0/24")
        await until(lambda: a.closed)
        assert a.notification is not None
        assert a.notification.subcode == CeaseSubcode.MAXIMUM_PREFIXES_REACHED


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
        server.reflector.deferral.until = None
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


@pytest.mark.parametrize("named", [False, True])
async def test_a_disabled_peer_stays_so_when_it_is_declared_of_another_kind(named: bool) -> None:
    def config(**more: Any) -> dict[str, Any]:
        peer = {"peers": [{"address": "127.0.0.3", "passive": True, **more}], "clients": []}
        return peer if named else {"clients": [{"prefix": "127.0.0.0/24", **more}]}

    async with serving(**config()) as server, clients(server, 1) as (a,):
        entry = server.entries[a.address]
        server.operate(entry, PeerVerb.DISABLE, "")
        await until(lambda: a.closed)
        server.configure(spec_of(**config(client=False)))
        refused = await Client(1, server.ports[0]).connect()
        refused.begin()
        await until(lambda: refused.closed or refused.established)
        assert refused.closed
        server.operate(entry, PeerVerb.ENABLE, "")
        async with clients(server, 1):
            assert server.reflector.members[a.address].source.kind is SourceKind.NON_CLIENT


@pytest.mark.parametrize("named", [False, True])
async def test_a_disabled_peer_stays_so_when_it_is_undeclared_for_a_moment(named: bool) -> None:
    """As for the second in which the secret of its password cannot be read."""

    def config(address: str) -> dict[str, Any]:
        peer = {"peers": [{"address": address, "passive": True}], "clients": []}
        return peer if named else {"clients": [{"prefix": f"{address}/32"}]}

    async with serving(**config("127.0.0.3")) as server, clients(server, 1) as (a,):
        server.operate(server.entries[a.address], PeerVerb.DISABLE, "")
        await until(lambda: a.closed)
        server.configure(spec_of(**config("127.0.0.4")))
        assert a.address not in server.entries
        server.configure(spec_of(**config("127.0.0.3")))
        refused = await Client(1, server.ports[0]).connect()
        refused.begin()
        await until(lambda: refused.closed or refused.established)
        assert refused.closed
        assert server.entries[a.address].why_down == "disabled by the operator"
        server.operate(server.entries[a.address], PeerVerb.ENABLE, "")
        async with clients(server, 1) as (back,):
            assert back.established


async def test_disabling_a_peer_ends_what_is_kept_for_its_restart() -> None:
    restart = GracefulRestart(60, False, True, ((IPV4_UNICAST, True),))
    async with serving() as server, clients(server, 1, 2, graceful_restart=restart) as (a, b):
        a.announce(P)
        await until(lambda: b.has(P))
        await a.close()
        await until(lambda: not server.reflector.members[a.address].established)
        assert b.has(P)
        server.operate(server.entries[a.address], PeerVerb.DISABLE, "it has broken its line card")
        await until(b.has)


@pytest.mark.parametrize("better", [{"limit": 5}, {"limit": 2, "restartAfter": 60}])
async def test_a_limit_that_is_raised_or_lasts_no_longer_for_ever_lets_a_barred_peer_in(
    better: dict[str, int],
) -> None:
    def config(**limit: int) -> dict[str, Any]:
        return {"clients": [{"prefix": "127.0.0.0/24", "maxPrefixes": limit}]}

    async with serving(**config(limit=2)) as server, clients(server, 1, 2) as (a, b):
        a.announce("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24")
        await until(lambda: a.closed)
        before = sessions(server)
        server.configure(spec_of(**config(**better)))
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
    peers = [{"address": "127.0.0.5", "passive": True, "holdTime": 3}]  # the others have more patience
    limits = {"sendHoldTime": 3}
    async with serving(peers=peers, limits=limits) as server, clients(server, 1, 2) as (a, b):
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


@pytest.mark.plain
async def test_a_client_that_floods_takes_turns_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much one client has sent, another's UPDATE is dealt with after one portion of it."""
    monkeypatch.setattr(pace, "CHUNK_OCTETS", 1 << 13)
    async with serving() as server, clients(server, 1, 2, 3) as (flooding, quiet, witness):
        server._pace.stir(len(server.established))
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


async def test_who_is_to_be_asked_for_more_may_be_gone() -> None:
    """That their connections are reset is found out by writing to them."""
    async with serving() as server, clients(server, 1, 2, 3) as some:
        for client in some:
            await client.stall()
        for member in server.reflector.members.values():
            member.wanted_again.add(IPV4_UNICAST)
        for client in some:
            assert client.sock is not None
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
        server._ask_again()
        await until(lambda: not server.established)
