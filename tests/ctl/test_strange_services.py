"""What answers at --api and is no service of ours, or one that cannot be trusted: exit 3, and says which."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bgpd.telemetry.http import HttpOptions, StatusServer
from ctl.cluster import asked
from ctl.services import answered, ask_all
from tests.ctl.cairn import Done, cairn
from tests.telemetry.source import Source, peer

ASKING = (
    "status",
    "peers",
    "routes",
    "watch --seconds 0",
    "top --once",
    "agent drain",
    "reflector reset rr1",
)


async def run(words: str, url: str) -> Done:
    return await asyncio.to_thread(cairn, *words.split(), "--api", url)


async def serve(document: object, context: ssl.SSLContext | None = None) -> tuple[web.AppRunner, int]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return runner, int(runner.addresses[0][1])


@pytest.fixture(params=[{}, [1], {"status": "success", "data": {}}], ids=["empty", "list", "prometheus"])
async def other(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    runner, port = await serve(request.param)
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_another_program_is_no_service(other: str) -> None:
    for words, done in zip(
        ASKING, await asyncio.gather(*(run(words, other) for words in ASKING)), strict=True
    ):
        assert (done.code, "Traceback" in done.err) == (3, False), (words, done)
        assert f"{other} is no service of Cairn's" in done.out + done.err, (words, done)


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    names = (str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem"))
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=rr"]
    words = ["openssl", "req", "-x509", *kind, "-keyout", names[0], "-out", names[1]]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(names[1], names[0])
    return context


async def test_why_there_is_no_tls_is_told(certificate: ssl.SSLContext) -> None:
    for context, why in ((certificate, "self-signed certificate"), (None, "WRONG_VERSION_NUMBER")):
        runner, port = await serve({}, context)
        try:
            done = await run("peers", f"https://127.0.0.1:{port}")
            assert (done.code, why in done.err) == (3, True), done
        finally:
            await runner.cleanup()


async def test_one_that_nobody_named_is_missed_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen, or not content with the token; but not one that does not run, or is another program."""
    monkeypatch.setattr("ctl.services._TIMEOUT", aiohttp.ClientTimeout(total=1.0))
    well, locked = StatusServer(Source(), HttpOptions()), StatusServer(Source(), HttpOptions(token="t"))
    await well.start()
    await locked.start()
    frozen = socket.create_server(("127.0.0.1", 0))
    runner, port = await serve({})
    try:
        there = [well.url, locked.url, f"http://127.0.0.1:{frozen.getsockname()[1]}"]
        places = [*there, f"http://127.0.0.1:{port}", "http://127.0.0.1:1"]
        good, bad = answered(await ask_all(places, "peers"), named=False)
        assert [answer.location for answer in (*good, *bad)] == there
        services = await asked(places, named=False)
        assert [service.location for service in services] == there
        assert [service.state for service in services] == ["ready", "unreachable", "unreachable"]
    finally:
        frozen.close()
        await runner.cleanup()
        await locked.stop()
        await well.stop()


def test_a_location_that_is_none_is_wrong_usage() -> None:
    for location in (
        "http://[::1",
        "http://",
        "unix:/run/cairn.sock",
        "127.0.0.1:9178",
        "http://127.0.0.1:99999",
    ):
        done = cairn("peers", "--api", location)
        assert (done.code, location in done.err) == (2, True), done


async def test_the_services_here_are_told_of_while_the_datastore_is_away() -> None:
    source = Source()
    source.peer_list = [peer("rr1")]
    server = StatusServer(source, HttpOptions())
    await server.start()
    away = {"CAIRN_DATASTORE": "etcd://127.0.0.1:1", "CAIRN_API": server.url}
    try:
        done = await asyncio.to_thread(cairn, "status", "-o", "json", environment=away)
    finally:
        await server.stop()
    assert done.code == 3, done
    assert not done.json["ok"]
    assert "etcd at 127.0.0.1:1: nothing listens there" in done.json["findings"][0]["what"]
    assert [service["node"] for service in done.json["services"]] == ["node-a"]
    alone = await asyncio.to_thread(cairn, "status", environment=away)
    assert (alone.code, alone.out, "nothing listens there" in alone.err) == (3, "", True), alone
