"""What Alice-LG's parser relies on, request by request."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bgpd.telemetry import birdwatcher
from bgpd.telemetry.birdwatcher import extended
from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.status import RoutePage, RouteQuery, RouteStatus
from tests.telemetry.source import Source, peer


class Routed(Source):
    """1,203 routes of rr1: one filtered, one not to be passed on; answers windows of them only."""

    def __init__(self) -> None:
        super().__init__()
        self.peer_list = [peer("rr1"), peer("tor/1", "IDLE", last_reason="connection refused", families=())]
        plain = [
            RouteStatus(f"10.{number >> 8}.{number & 255}.0/24", "ipv4-unicast", "10.0.0.2", "rr1", best=True)
            for number in range(1201)
        ]
        special = RouteStatus(
            "192.0.2.0/24", "ipv4-unicast", "10.0.0.9", "rr1", origin="igp", as_path="64512 {1,2}",
            local_pref=100, med=0, communities=("65535:65281", "1:2"), large_communities=("1:2:3",),
            extended_communities=("0002002a000004d2",), since=1000.0,
        )  # fmt: skip
        looped = RouteStatus(
            "198.51.100.0/24", "ipv4-unicast", "10.0.0.9", "rr1", ineligible="our AS is in AS_PATH"
        )
        self.all = [*plain, special, looped]

    def routes(self, query: RouteQuery) -> RoutePage:
        self.queries.append(query)
        if query.family == "ipv6-unicast" or query.peer not in (None, "rr1"):
            return RoutePage(0, ())
        return RoutePage(len(self.all), tuple(self.all[query.offset : query.offset + query.limit]))


@pytest.fixture
def source() -> Routed:
    return Routed()


@pytest.fixture
async def client(source: Routed) -> AsyncIterator[aiohttp.ClientSession]:
    server = StatusServer(source, HttpOptions(), clock=lambda: 1110.0)
    await server.start()
    async with aiohttp.ClientSession(server.url) as client:
        yield client
    await server.stop()


async def ask(client: aiohttp.ClientSession, path: str) -> Any:
    async with client.get(path) as answer:
        assert answer.status == 200, path
        document = await answer.json()
    assert document["api"] == {
        "Version": "2",
        "result_from_cache": False,
        "cache_status": {"cached_at": {"date": "1970-01-01T00:18:30.000Z"}},
    }
    assert document["ttl"] == "1970-01-01T00:18:30.000Z"
    return document


async def test_status(client: aiohttp.ClientSession) -> None:
    assert (await ask(client, "/status"))["status"] == {
        "version": "cairn 1.2.3",
        "router_id": "10.0.0.1",
        "message": "Daemon is up and running",
        "current_server": "1970-01-01T00:18:30.000Z",
        "last_reboot": "1970-01-01T00:16:40.000Z",
        "last_reconfig": "1970-01-01T00:16:40.000Z",
    }


async def test_protocols(client: aiohttp.ClientSession) -> None:
    protocols = (await ask(client, "/protocols/bgp"))["protocols"]
    assert protocols == (await ask(client, "/protocols"))["protocols"]
    assert protocols["rr1"] == {
        "bird_protocol": "BGP",
        "state": "up",
        "state_changed": "1970-01-01T00:16:50.000Z",
        "neighbor_address": "10.0.0.2",
        "neighbor_as": 64512,
        "description": "rr1",
        "last_error": "",
        "routes": {"imported": 8, "filtered": 2, "exported": 3},
    }
    assert protocols["tor/1"]["state"] == "down"
    assert protocols["tor/1"]["last_error"] == "connection refused"
    assert protocols["tor/1"]["routes"] == {"imported": 0, "filtered": 0, "exported": 0}
    short = (await ask(client, "/protocols/short?uncached=true"))["protocols"]
    assert short["rr1"] == {
        "proto": "BGP",
        "table": "master",
        "state": "up",
        "since": "1970-01-01T00:16:50.000Z",
        "info": "Established",
    }


async def test_routes_of_a_peer(client: aiohttp.ClientSession, source: Routed) -> None:
    routes = (await ask(client, "/routes/protocol/rr1"))["routes"]
    assert len({route["network"] for route in routes}) == len(routes) == 1202
    assert max(query.limit for query in source.queries) <= 500
    assert routes[-1] == {
        "network": "192.0.2.0/24",
        "gateway": "10.0.0.9",
        "interface": "",
        "from_protocol": "rr1",
        "learnt_from": "10.0.0.2",
        "age": "1970-01-01T00:16:40.000Z",
        "metric": 100,
        "primary": False,
        "type": ["BGP", "univ"],
        "bgp": {
            "origin": "IGP",
            "as_path": ["64512", "{1,2}"],
            "next_hop": "10.0.0.9",
            "local_pref": "100",
            "med": "0",
            "communities": [[65535, 65281], [1, 2]],
            "large_communities": [[1, 2, 3]],
            "ext_communities": [["rt", "42", "1234"]],
        },
    }
    filtered = (await ask(client, "/routes/filtered/rr1"))["routes"]
    assert [route["network"] for route in filtered] == ["198.51.100.0/24"]
    kept = (await ask(client, "/routes/noexport/rr1"))["routes"]
    assert [route["network"] for route in kept] == ["192.0.2.0/24"]
    source.queries.clear()
    assert len((await ask(client, "/routes/export/rr1"))["routes"]) == 1203
    assert {(query.direction, query.peer) for query in source.queries} == {("out", "rr1")}


async def test_nothing_is_an_empty_list_and_never_a_404(client: aiohttp.ClientSession) -> None:
    for path in (
        "/routes/protocol/nobody",
        "/routes/filtered/nobody",
        "/routes/noexport/nobody",
        "/routes/export/nobody",
        "/routes/protocol/tor%2F1",
        "/routes/table/master6",
        "/routes/table/nothing",
        "/routes/table/nothing/filtered",
    ):
        document = await ask(client, path)
        assert document["routes"] == []
        assert '"routes": []' in json.dumps(document)


async def test_tables(client: aiohttp.ClientSession) -> None:
    for table in ("master", "master4", "ipv4-unicast"):
        assert len((await ask(client, f"/routes/table/{table}"))["routes"]) == 1202
        assert len((await ask(client, f"/routes/table/{table}/filtered"))["routes"]) == 1


def test_extended_communities() -> None:
    assert extended("0002002a000004d2") == ["rt", "42", "1234"]
    assert extended("0203000fc0000007") == ["ro", "1032192", "7"]
    assert extended("01020a0000010005") == ["rt", "10.0.0.1", "5"]
    assert extended("800600000000ffff") == ["generic", "0x80060000", "0x0000ffff"]


async def test_readers_that_take_nothing_are_bounded_and_cost_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Routed()
    source.all *= 200
    monkeypatch.setattr(birdwatcher, "_AT_ONCE", 3)
    monkeypatch.setattr(birdwatcher, "_PATIENCE", 2.0)
    server = StatusServer(source, HttpOptions(), clock=lambda: 1110.0)
    await server.start()
    deaf = []
    try:
        for _ in range(3):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setblocking(False)
            loop, port = asyncio.get_running_loop(), int(server.url.rpartition(":")[2])
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, b"GET /routes/table/master4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            deaf.append(sock)
        async with aiohttp.ClientSession(server.url) as client:

            async def comes(status: int) -> None:
                async with asyncio.timeout(30):
                    while (await client.get("/routes/table/none")).status != status:  # noqa: ASYNC110  seen from outside
                        await asyncio.sleep(0.05)

            await comes(503)
            await asyncio.sleep(0.2)
            asked = len(source.queries)
            assert asked < 3 * len(source.all) / 500 / 2, "what nobody takes is not put together"
            await comes(200)
    finally:
        for sock in deaf:
            sock.close()
        await server.stop()
