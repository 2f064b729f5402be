"""The status server over real sockets."""

import asyncio
import json
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bgpd.telemetry.config import ConfigError, Http
from bgpd.telemetry.http import HttpOptions, HttpOptionsError, StatusServer
from bgpd.telemetry.logging import level, set_level
from bgpd.telemetry.status import PeerVerb, unread
from bgpd.telemetry.surroundings import Surroundings
from tests.telemetry.source import Source, peer


@pytest.fixture
def source() -> Source:
    source = Source()
    source.health = (True, "healthy")
    source.peer_list = [peer("rr1"), peer("tor1", "ACTIVE", last_reason="connection refused")]
    return source


@pytest.fixture
async def server(source: Source) -> AsyncIterator[StatusServer]:
    server = StatusServer(source, HttpOptions(), clock=lambda: 1010.0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: StatusServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def test_probes(client: aiohttp.ClientSession, source: Source) -> None:
    async with client.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (200, "healthy\n")
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert "tor1 (10.0.0.2, ACTIVE, connection refused)" in await answer.text()
    source.started_at = 900.0
    async with client.get("/readyz") as answer:
        assert answer.status == 200
    source.health = (False, "no plan: a setting cannot be read")
    async with client.get("/healthz") as answer:  # which nobody is to be restarted for
        assert (answer.status, await answer.text()) == (200, "no plan: a setting cannot be read\n")
    source.works = source.health = (False, "exabgp does not answer")
    async with client.get("/healthz") as answer:
        assert (answer.status, await answer.text()) == (503, "exabgp does not answer\n")


async def test_status_peers_plan_metrics(client: aiohttp.ClientSession, source: Source) -> None:
    async with client.get("/api/v1/status") as answer:
        status = await answer.json()
    assert status["node"] == "node-a"
    assert status["started_at"] == "1970-01-01T00:16:40.000Z"
    assert status["peers"] == {"total": 2, "established": 1, "missing": ["tor1"], "flaps": 4}
    assert status["datastore"]["reason"] == "nothing listens there"
    assert (status["healthy"], status["ready"]) == (True, False)
    assert "tor1 (10.0.0.2, ACTIVE, connection refused)" in status["reason"]
    source.health = (True, unread({f"f{number}": f"f{number}: {'x' * number}" for number in range(1, 6)}))
    async with client.get("/api/v1/status") as answer:
        told = await answer.json()
    assert told["healthy"]
    assert told["reason"].startswith(status["reason"] + "; what cannot be read counts as it was last")
    assert told["reason"].endswith(": f1: x; f2: xx; f3: xxx; and 2 more")
    async with client.get("/api/v1/peers") as answer:
        peers = (await answer.json())["peers"]
    assert [(found["name"], found["established"]) for found in peers] == [("rr1", True), ("tor1", False)]
    assert peers[0]["families"][0]["accepted"] == 8
    async with client.get("/api/v1/plan") as answer:
        assert (await answer.json())["plan"] == {"node": "node-a"}
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'cairn_bgp_peer_up{peer="rr1"} 1.0' in await answer.text()


async def test_routes_query(client: aiohttp.ClientSession, source: Source) -> None:
    path = "/api/v1/routes?direction=in&prefix=10.0.0.0/8&longer=true&peer=rr1&offset=5&limit=99999"
    async with client.get(path) as answer:
        page = await answer.json()
    assert (page["total"], page["offset"], page["limit"]) == (7, 5, 1000)
    assert page["routes"][0]["prefix"] == "10.1.0.0/26"
    query = source.queries[0]
    assert (query.direction, query.prefix, query.longer, query.peer) == ("in", "10.0.0.0/8", True, "rr1")
    for bad in ("direction=up", "limit=-1", "longer=maybe", "offset=x", "limit=١"):
        async with client.get(f"/api/v1/routes?{bad}") as answer:
            assert answer.status == 400
            assert bad.partition("=")[0] in (await answer.json())["error"]
    assert len(source.queries) == 1


async def test_events_as_list_and_as_feed(client: aiohttp.ClientSession, source: Source) -> None:
    source.ring.add(1.0, "session.up", "rr1 is up", peer="rr1")
    async with client.get("/api/v1/events?after=0") as answer:
        document = await answer.json()
    assert [event["kind"] for event in document["events"]] == ["session.up"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
    async with client.get("/api/v1/events", headers=headers) as feed:
        assert await feed.content.readline() == b"id: 1\n"
        assert json.loads((await feed.content.readline())[6:])["message"] == "rr1 is up"
        await feed.content.readline()
        source.ring.add(2.0, "session.down", "rr1 is down", peer="rr1")
        assert await asyncio.wait_for(feed.content.readline(), 5) == b"id: 2\n"
        await feed.content.readline()
        await feed.content.readline()
        for number in range(200):  # more than the ring keeps: the reader sees the gap in the ids
            source.ring.add(3.0, "x", str(number))
        assert await asyncio.wait_for(feed.content.readline(), 5) == b"id: 153\n"


async def test_a_reader_of_the_feed_that_goes_away_is_no_error(
    client: aiohttp.ClientSession,
    source: Source,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = asyncio.Event()
    follow = StatusServer._follow

    async def followed(server: StatusServer, response: web.StreamResponse, last: int) -> None:
        try:
            await follow(server, response, last)
        finally:
            ended.set()

    monkeypatch.setattr(StatusServer, "_follow", followed)
    feed = await client.get("/api/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "0"})
    feed.close()
    async with asyncio.timeout(30):
        while not ended.is_set():
            source.ring.add(1.0, "session.up", "rr1 is up")
            await asyncio.sleep(0.01)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_reader_that_takes_nothing_and_breaks_off_is_no_error(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    server = StatusServer(source, HttpOptions())
    await server.start()
    loop, port = asyncio.get_running_loop(), int(server.url.rpartition(":")[2])
    for _ in range(40):
        source.ring.add(1.0, "x", "x", much="x" * 1_000_000)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", port))
        feed = b"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        await loop.sock_sendall(deaf, feed)
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.2)
    await server.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_one_peer_is_operated_on(
    client: aiohttp.ClientSession, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb in PeerVerb:
        async with client.post(f"/api/v1/peers/{verb}", params={"peer": "rr1", "reason": "why"}) as answer:
            assert answer.status == 200
    assert source.operated == [(verb, "rr1", "why") for verb in PeerVerb]
    async with client.post("/api/v1/peers/reset", params={"peer": "rr2"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (404, "there is no peer 'rr2' here")
    async with client.post("/api/v1/peers/reset") as answer:
        assert answer.status == 400
    async with client.post("/api/v1/peers/explode", params={"peer": "rr1"}) as answer:
        assert answer.status == 404
    async with client.get("/api/v1/peers/reset", params={"peer": "rr1"}) as answer:
        assert answer.status == 405
    assert len(source.operated) == len(PeerVerb)

    async def refuse(*_: object) -> None:
        raise NotImplementedError("sessions follow the plan")

    monkeypatch.setattr(source, "operate", refuse)  # as an agent does
    async with client.post("/api/v1/peers/reset", params={"peer": "rr1"}) as answer:
        assert (answer.status, (await answer.json())["error"]) == (501, "sessions follow the plan")


async def test_drain(client: aiohttp.ClientSession, source: Source) -> None:
    async with client.post("/api/v1/drain") as answer:
        assert (answer.status, (await answer.json())["mode"]) == (200, "draining")
    assert source.drained == 1
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "draining\n")
    async with client.post("/api/v1/undrain") as answer:
        assert (answer.status, (await answer.json())["mode"]) == (200, "running")
    for path in ("/api/v1/status", "/metrics", "/healthz"):
        async with client.post(path) as answer:
            assert answer.status == 405
    async with client.get("/api/v1/drain") as answer:
        assert answer.status == 405
    async with client.get("/nothing") as answer:
        assert answer.status == 404


async def test_web_pages_of_others_are_refused(client: aiohttp.ClientSession, source: Source) -> None:
    async with client.post("/api/v1/drain", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    async with client.get("/api/v1/status", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    assert source.drained == 0


async def test_a_token_guards_all_but_the_probes(source: Source) -> None:
    server = StatusServer(source, HttpOptions(token="s3cret"))
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as client:
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
                for path in ("/api/v1/status", "/metrics"):
                    async with client.get(path, headers=given) as answer:
                        assert answer.status == 401
            async with client.get("/metrics", headers={"Authorization": "Bearer s3cret"}) as answer:
                assert answer.status == 200
    finally:
        await server.stop()
    assert "s3cret" not in repr(HttpOptions(token="s3cret"))


def test_opened_up_only_with_token_and_tls(source: Source) -> None:
    for options in (
        HttpOptions(address="0.0.0.0"),
        HttpOptions(address="0.0.0.0", token="x"),
        HttpOptions(address="::", certificate=Path("/x")),
    ):
        with pytest.raises(HttpOptionsError, match="token and a TLS certificate"):
            StatusServer(source, options)


def issue(folder: Path, name: str = "cairn") -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return issue(tmp_path)


async def test_tls(source: Source, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    server = StatusServer(source, HttpOptions("0.0.0.0", 0, "s3cret", *certificate))
    await server.start()
    try:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate[0])
        headers = {"Authorization": "Bearer s3cret"}
        async with (
            aiohttp.ClientSession(url, headers=headers) as client,
            client.get("/api/v1/status", ssl=context) as answer,
        ):
            assert answer.status == 200
    finally:
        await server.stop()
    broken = StatusServer(source, HttpOptions(certificate=tmp_path / "absent.pem", key=certificate[1]))
    with pytest.raises(HttpOptionsError, match=r"absent\.pem"):
        await broken.start()
    await broken.stop()


async def test_options_that_cannot_be_used_are_named_with_the_remedy(
    source: Source, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    good, key = certificate
    absent, nonsense, another, locked = (
        tmp_path / name for name in ("absent.pem", "nonsense.pem", "another.pem", "locked.pem")
    )
    nonsense.write_text("nonsense")
    run = partial(subprocess.run, check=True, capture_output=True)
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", another])
    run(["openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked])
    for options, words in (
        ({"token": {"file": absent}}, f"http.token: file {absent}: No such file or directory; "),
        ({"token": {"env": "NOWHERE"}}, "http.token: environment variable NOWHERE is empty or missing; "),
        ({"address": "0.0.0.0"}, "http.address: the status server may listen on 0.0.0.0 only with"),
        ({"certificate": absent, "key": key}, f"http.certificate: {absent}: No such file or directory; "),
        ({"certificate": good, "key": absent}, f"http.key: {absent}: No such file or directory; "),
        (
            {"certificate": good, "key": another},
            f"http.key: {another} is another than the certificate {good}",
        ),
        (
            {"certificate": good, "key": locked},
            f"http.certificate: {good} and the key {locked} cannot be used; ",
        ),
        ({"certificate": nonsense, "key": key}, f"http.certificate: {nonsense} and the key {key} cannot be"),
        ({"certificate": good}, f"http.certificate: {good} and the key in the same file cannot be used; "),
        ({"key": key}, "http.key: alone it is of no use; "),
    ):
        with pytest.raises(ConfigError) as found:
            await start_and_stop(source, Http.model_validate({"port": 0, **options}))
        assert str(found.value).startswith(words)


async def start_and_stop(source: Source, http: Http) -> None:
    surroundings = Surroundings(source, http, None, {})
    try:
        await surroundings.start()
    finally:
        await surroundings.stop()


async def test_a_renewed_certificate_is_shown_and_an_unusable_one_is_not(
    source: Source, certificate: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = StatusServer(source, HttpOptions(token="s3cret", certificate=certificate[0], key=certificate[1]))
    await server.start()
    headers = {"Authorization": "Bearer s3cret"}
    former = certificate[0].read_bytes()

    async def accepted(trusted: Path) -> bool:
        context = ssl.create_default_context(cafile=trusted)
        try:
            async with (
                aiohttp.ClientSession(server.url, headers=headers) as client,
                client.get("/api/v1/status", ssl=context) as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False

    try:
        assert await accepted(certificate[0])
        (tmp_path / "former.pem").write_bytes(former)
        (tmp_path / "new").mkdir()
        new, key = issue(tmp_path / "new", "renewed")
        certificate[0].write_bytes(new.read_bytes())  # and not yet the key
        assert await accepted(tmp_path / "former.pem")
        assert "is not renewed, the former one stays" in caplog.text
        certificate[1].unlink()
        assert await accepted(tmp_path / "former.pem")
        certificate[1].write_bytes(key.read_bytes())
        assert await accepted(new)
        assert not await accepted(tmp_path / "former.pem")
    finally:
        await server.stop()


async def test_the_log_level_is_changed_by_whoever_may_drain(client: aiohttp.ClientSession) -> None:
    before = level()
    try:
        async with client.post("/api/v1/log-level", params={"level": "debug"}) as answer:
            assert (answer.status, (await answer.json())["log_level"]) == (200, "debug")
        assert level() == "debug"
        async with client.post("/api/v1/log-level?level=loud") as answer:
            assert (answer.status, "debug" in (await answer.json())["error"]) == (400, True)
        foreign = {"Origin": "https://evil.example"}
        async with client.post("/api/v1/log-level?level=error", headers=foreign) as answer:
            assert answer.status == 403
        assert level() == "debug"
    finally:
        set_level(before)
