"""The description of the interface, and the interface held against it with generated requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bgpd.telemetry.answers import MAX_LIMIT
from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.logging import LEVELS, level, set_level
from bgpd.telemetry.openapi import MODELS, description
from tests.telemetry.big import Big
from tests.telemetry.source import Source, peer

DESCRIPTION = description("1.2.3", MAX_LIMIT)
OPERATIONS = [
    (path, method, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
]
QUERIES = [found for found in OPERATIONS if found[2].get("parameters")]


@pytest.fixture(autouse=True)
def _same_level() -> Iterator[None]:
    """What a request does to this process's log is undone."""
    before = level()
    yield
    if before in LEVELS:
        set_level(before)


def model_of(answer: dict[str, Any]) -> type[BaseModel] | None:
    shape = answer["content"].get("application/json", {}).get("schema", {})
    return MODELS[shape["$ref"].rpartition("/")[2]] if shape else None


async def check(client: aiohttp.ClientSession, path: str, method: str, operation: Any, query: Any) -> int:
    async with client.request(method, path, params=query) as answer:
        described = operation["responses"].get(str(answer.status))
        assert described is not None, f"{method} {path} {query}: undescribed status {answer.status}"
        assert answer.content_type in described["content"]
        model = model_of(described)
        if model is not None:
            model.model_validate_json(await answer.text(), strict=True)
        return answer.status


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    server = StatusServer(Big(30, 200, time.time()), HttpOptions())
    await server.start()
    async with aiohttp.ClientSession(server.url) as client:
        yield client
    await server.stop()


async def test_it_is_served_and_whole(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/openapi.json") as answer:
        served = await answer.json()
    assert served["info"]["version"] == "1.2.3"
    assert served["paths"] == DESCRIPTION["paths"]

    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if "$ref" in part else set()
            return own.union(*(references(each) for each in part.values()))
        return set().union(*(references(each) for each in part)) if isinstance(part, list) else set()

    known = {f"#/components/schemas/{name}" for name in served["components"]["schemas"]}
    assert references(served) <= known
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))


async def test_every_route_of_the_interface_is_described() -> None:
    server = StatusServer(Source(), HttpOptions())
    await server.start()
    try:
        assert server._runner is not None
        routes = {
            (route.resource.canonical, route.method.lower())
            for route in server._runner.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    finally:
        await server.stop()
    ours = {(path, method) for path, method in routes if path.startswith("/api/")}
    assert ours - {("/api/v1/openapi.json", "get")} == {
        (path, method) for path, method, _ in OPERATIONS if path.startswith("/api/")
    }


@pytest.mark.parametrize("well", [True, False])
async def test_every_operation_answers_as_described(well: bool) -> None:
    source = Source()
    source.health = (well, "" if well else "exabgp does not answer")
    source.peer_list = [peer("rr1"), peer("tor1", "ACTIVE" if not well else "ESTABLISHED")]
    source.ring.add(1.0, "session.up", "rr1 is up", peer="rr1", reason=None, count=3)
    server = StatusServer(source, HttpOptions())
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as client:
            for path, method, operation in OPERATIONS:
                needed = {
                    each["name"]: each["schema"].get("enum", ["rr1"])[0]
                    for each in operation.get("parameters", ())
                    if each["required"]
                }
                status = await check(client, path, method, operation, needed)
                assert status == 200 or path in ("/healthz", "/readyz")
    finally:
        await server.stop()


async def test_the_refusals_are_as_described() -> None:
    server = StatusServer(Source(), HttpOptions(token="s3cret"))
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as client:
            for path, method, operation in OPERATIONS:
                wanted = {401} if "401" in operation["responses"] else {200, 503}
                assert await check(client, path, method, operation, {}) in wanted
    finally:
        await server.stop()


def _value(shape: dict[str, Any]) -> st.SearchStrategy[str]:
    if "enum" in shape:
        return st.sampled_from(shape["enum"])
    if shape["type"] == "integer":
        return st.integers(shape["minimum"], shape.get("maximum", 10**9)).map(str)
    return st.text(max_size=12)


def requests(*, valid: bool) -> st.SearchStrategy[tuple[int, dict[str, str]]]:
    """An operation's place in QUERIES with values that its schema allows, or just any."""

    def query(place: int) -> st.SearchStrategy[tuple[int, dict[str, str]]]:
        parameters = QUERIES[place][2]["parameters"]
        fields = {
            each["name"]: _value(each["schema"]) if valid else st.text(max_size=20) for each in parameters
        }
        needed = {each["name"]: fields.pop(each["name"]) for each in parameters if each["required"]}
        if valid and "prefix" in fields:
            fields["prefix"] = st.ip_addresses(v=4).map(str) | st.just("100.64.0.0/25") | st.just("::/0")
        return st.fixed_dictionaries(needed, optional=fields).map(lambda found: (place, found))

    return st.integers(0, len(QUERIES) - 1).flatmap(query)


@pytest.mark.parametrize("valid", [True, False])
def test_generated_requests(valid: bool) -> None:
    with asyncio.Runner() as runner:
        server = StatusServer(Big(30, 200, 1e9), HttpOptions())

        async def started() -> aiohttp.ClientSession:
            await server.start()
            return aiohttp.ClientSession(server.url)

        client = runner.run(started())

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(requests(valid=valid))
        def ask(request: tuple[int, dict[str, str]]) -> None:
            place, query = request
            status = runner.run(check(client, *QUERIES[place], query))
            wanted = {200} if valid else {200, 400}
            if "404" in QUERIES[place][2]["responses"]:  # a peer's name is made up
                wanted |= {400, 404}
            assert status in wanted

        try:
            ask()
        finally:
            runner.run(client.close())
            runner.run(server.stop())


async def test_peers_are_searched_sorted_and_paged(client: aiohttp.ClientSession) -> None:
    async def ask(query: str) -> Any:
        async with client.get(f"/api/v1/peers?{query}") as answer:
            assert answer.status == 200
            return await answer.json()

    everything = await ask("")
    assert (everything["total"], len(everything["peers"]), everything["limit"]) == (30, 30, None)
    assert everything["states"] == {"ESTABLISHED": 29, "ACTIVE": 1}
    window = await ask("sort=-flaps&offset=5&limit=10")
    assert (window["total"], len(window["peers"])) == (30, 10)
    flaps = [each["flaps"] for each in (await ask("sort=-flaps"))["peers"]]
    assert flaps == sorted(flaps, reverse=True)
    assert [each["flaps"] for each in window["peers"]] == flaps[5:15]
    assert [each["name"] for each in (await ask("state=down"))["peers"]] == ["node-0002"]
    assert {each["kind"] for each in (await ask("kind=external"))["peers"]} == {"external"}
    assert (await ask("search=TOR-RACK"))["total"] == 4
    assert (await ask("search=10.64.0.30"))["total"] == 1
    addresses = [each["address"] for each in (await ask("sort=address"))["peers"]]
    assert addresses.index("10.64.0.9") < addresses.index("10.64.0.10")
    for bad in ("state=up", "sort=colour", "offset=-1"):
        async with client.get(f"/api/v1/peers?{bad}") as answer:
            assert answer.status == 400


async def test_an_address_finds_the_longest_prefix_that_holds_it(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/routes?prefix=100.64.0.10") as answer:
        found = await answer.json()
    assert {route["prefix"] for route in found["routes"]} == {"100.64.0.10/32"}
    async with client.get("/api/v1/routes?prefix=192.0.2.1") as answer:
        assert (await answer.json())["total"] == 0
    for bad in ("10.0.0.0/33", "nowhere", "10.0.0"):
        async with client.get("/api/v1/routes", params={"prefix": bad}) as answer:
            assert answer.status == 400
            assert bad in (await answer.json())["error"]
