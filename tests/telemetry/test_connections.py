"""A status server whose clients are too many, silent, or speak no HTTP."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from bgpd.telemetry import connections, http
from bgpd.telemetry.http import HttpOptions, StatusServer
from tests.telemetry.source import Source
from tests.telemetry.test_http import issue

FEED = {"Accept": "text/event-stream", "Last-Event-ID": "0"}


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Source, StatusServer]]:
    """With room for twenty connections, ten of them feeds."""
    monkeypatch.setattr(connections, "_MOST", 20)
    source = Source()
    source.health = (True, "healthy")
    server = StatusServer(source, HttpOptions(token="s3cret"))
    await server.start()
    yield source, server
    await server.stop()


def session(server: StatusServer) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(server.url, headers={"Authorization": "Bearer s3cret"})


async def opened(server: StatusServer, octets: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(octets)
    return reader, writer


async def test_the_silent_make_room_and_nobody_who_is_answered_does(
    served: tuple[Source, StatusServer],
) -> None:
    source, server = served
    silent = []
    async with session(server) as client, client.get("/api/v1/events", headers=FEED) as feed:
        for begun in (
            b"",
            b"GET / HTTP/1.1\r\nX: ",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ) * 30:
            silent.append(await opened(server, begun))
            if b"healthz" in begun:
                assert await silent[-1][0].readline() == b"HTTP/1.1 200 OK\r\n"
        for reader, _ in silent[:70]:
            async with asyncio.timeout(30):
                while await reader.read(1000):
                    pass
        async with client.get("/api/v1/status") as answer:
            assert answer.status == 200
        source.ring.add(1.0, "session.up", "rr1 is up")
        assert await asyncio.wait_for(feed.content.readline(), 30) == b"id: 1\n"
    for _, writer in silent:
        writer.close()


async def test_feeds_are_bounded_and_those_that_take_nothing_end(
    served: tuple[Source, StatusServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, server = served
    monkeypatch.setattr(http, "_PATIENCE", 0.2)
    for number in range(40):
        source.ring.add(1.0, "x", str(number), much="x" * 1_000_000)
    request = "GET /api/v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n"
    accept = "Accept: text/event-stream\r\n\r\n"
    async with session(server) as client:
        async with client.head("/api/v1/events", headers=FEED) as answer:
            assert answer.content_type == "application/json"  # a HEAD has no end to be noticed
        stuck = [await opened(server, (request + accept).encode()) for _ in range(10)]
        for reader, _ in stuck:
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        async with asyncio.timeout(30):
            while True:
                async with client.get("/api/v1/events", headers=FEED) as answer:
                    if answer.status == 200:
                        break
                    assert (answer.status, "10 readers" in await answer.text()) == (503, True)
    for _, writer in stuck:
        writer.close()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Host: [", b"401"),
        (b"Host: localhost\r\nAuthorization: Bearer \xff", b"401"),
        (b"Host: [\r\nAuthorization: Bearer s3cret", b"200"),
        (b"Host: localhost\r\nAuthorization: Bearer s3cret\r\nOrigin: http://[", b"403"),
        (b"Host: a\r\nHost: b", b"400"),
        (b"Host: localhost\r\nX: " + b"x" * 10_000, b"400"),
        (b"Host: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", b"400"),
    ],
)
async def test_what_is_no_http_is_refused_without_a_word_in_the_log(
    served: tuple[Source, StatusServer], caplog: pytest.LogCaptureFixture, header: bytes, status: bytes
) -> None:
    _, server = served
    with caplog.at_level(logging.INFO):
        reader, writer = await opened(server, b"GET /api/v1/status HTTP/1.1\r\n" + header + b"\r\n\r\n")
        async with asyncio.timeout(30):
            assert (await reader.readline()).split()[1] == status
        writer.close()
    assert caplog.records == []


async def test_those_who_do_not_come_to_the_end_of_a_handshake_make_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_MOST", 20)
    monkeypatch.setattr(connections, "_AT_ONCE", 4)
    certificate, key = issue(tmp_path)
    server = StatusServer(Source(), HttpOptions(token="s3cret", certificate=certificate, key=key))
    await server.start()
    silent = []
    with caplog.at_level(logging.WARNING):
        for number in range(60):
            silent.append(await opened(server, (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n")[number % 3]))
            await asyncio.sleep(0)
        for reader, _ in silent[:40]:
            async with asyncio.timeout(5):  # which is less than a handshake may take
                with suppress(ConnectionError):
                    while await reader.read(1000):
                        pass
        async with session(server) as client, client.get("/api/v1/status", ssl=False) as answer:
            assert answer.status == 200
    for _, writer in silent:
        writer.close()
    await server.stop()
    assert not caplog.records


@pytest.mark.parametrize("request_line", [b"GET /healthz HTTP/1.1", b"GET /nothing HTTP/1.1", b"nonsense"])
async def test_of_those_that_went_only_so_many_are_left_to_the_garbage_collector(
    served: tuple[Source, StatusServer], monkeypatch: pytest.MonkeyPatch, request_line: bytes
) -> None:
    _, server = served
    monkeypatch.setattr(connections, "_LEFT", 10)
    usual = gc.get_threshold()
    gc.collect()
    before = len(gc.get_objects())
    gc.set_threshold(1_000_000, 50, 100)  # as a reflector does
    try:
        for _ in range(200):
            reader, writer = await opened(server, request_line + b"\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert len(gc.get_objects()) < before + 3000
    finally:
        gc.set_threshold(*usual)
