"""`cairn reflector` and `cairn agent` telling a running one what to do, where a token is wanted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.status import PeerVerb
from tests.ctl.cairn import Done, cairn
from tests.telemetry.source import Source, peer


@pytest.fixture
def source() -> Source:
    source = Source()
    source.called = "reflector"
    source.peer_list = [peer("rr1")]
    return source


@pytest.fixture
async def url(source: Source) -> AsyncIterator[str]:
    server = StatusServer(source, HttpOptions(token="s3cret"))
    await server.start()
    yield server.url
    await server.stop()


async def tell(url: str, *words: str, service: str = "reflector", token: str = "s3cret") -> Done:
    environment = {"CAIRN_TOKEN": token, "CAIRN_API": url}
    return await asyncio.to_thread(cairn, service, *words, environment=environment)


@pytest.mark.parametrize("service", ["reflector", "agent"])
async def test_a_drain_and_its_end(url: str, source: Source, service: str) -> None:
    source.called = service
    done = await tell(url, "drain", service=service)
    assert (done.code, source.mode) == (0, "draining"), done.err
    assert done.out.startswith("node-a: draining")
    done = await tell(url, "undrain", service=service)
    assert (done.code, source.mode) == (0, "running"), done.err


async def test_another_service_than_meant_is_told_nothing(url: str, source: Source) -> None:
    other = Source()
    server = StatusServer(other, HttpOptions(token="s3cret"))
    await server.start()
    both = f"{server.url} {url}"
    try:
        for service, words in (
            ("agent", ["drain"]),
            ("reflector", ["drain"]),
            ("reflector", ["reset", "rr1"]),
        ):
            done = await tell(both, *words, service=service)
            assert (done.code, "nothing was done" in done.err, "CAIRN_API" in done.err) == (2, True, True)
            assert f"is no {service} but a service called" in done.err
    finally:
        await server.stop()
    assert (source.mode, other.mode, source.operated) == ("running", "running", [])


async def test_one_that_is_not_there_is_exit_3_with_a_remedy() -> None:
    done = await tell("http://127.0.0.1:1", "drain", service="agent")
    assert (done.code, "to do: start it" in done.err) == (3, True), done


async def test_one_peer(url: str, source: Source) -> None:
    for verb in PeerVerb:
        done = await tell(url, str(verb), "rr1")
        assert done.code == 0, done.err
    done = await tell(url, "disable", "rr1", "--reason", "new line card")
    assert source.operated[-1] == (PeerVerb.DISABLE, "rr1", "new line card")
    assert [verb for verb, _, _ in source.operated[:-1]] == list(PeerVerb)
    unknown = await tell(url, "reset", "rr9")
    assert (unknown.code, "there is no peer 'rr9'" in unknown.err) == (2, True)
    assert "cairn peers" in unknown.err


async def test_without_the_token_nothing_happens(url: str, source: Source) -> None:
    for words in (("drain",), ("disable", "rr1")):
        done = await tell(url, *words, token="guessed")
        assert (done.code, "token" in done.err) == (3, True)
    assert (source.mode, source.operated) == ("running", [])
