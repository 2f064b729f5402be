"""What Alice-LG reads: the endpoints and shapes of a birdwatcher, answered from a `StatusSource`.

    /status  /protocols  /protocols/bgp  /protocols/short       the service and its peers
    /routes/protocol/:id          accepted routes of one peer
    /routes/filtered/:id          its routes that may not compete
    /routes/noexport/:id          its accepted routes whose communities forbid passing them on (RFC 1997)
    /routes/export/:id            what one peer is told
    /routes/table/:t  /routes/table/:t/filtered                 all paths of one family

A protocol's ID is the peer's name; a table is a family ("ipv4-unicast") or BIRD's name for it ("master4").
Shapes follow what Alice's parser expects: `Version` with a capital V, `protocols` an object, `routes` on
every peer, AS path and metrics as text, and an unknown ID gives an empty list, because a 404 breaks the page.
Large answers are sent page by page, so that the service's loop goes on turning in between and nothing waits
in memory for a reader that takes nothing; so many at a time, and whoever does not read is let go.

Left out: `preferred` counts (they would cost a walk of the whole Loc-RIB per peer and request), and caching.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from aiohttp import web

from bgpd.telemetry.documents import Document, rfc3339
from bgpd.telemetry.status import Direction, PeerStatus, RouteQuery, RouteStatus, StatusSource
from bgpd.telemetry.turns import Turns

PATHS = ("/status", "/protocols", "/routes/")
_PAGE = 500
_MOST = 250_000  # routes in one answer
_AT_ONCE = 16  # such answers
_PATIENCE = 60.0  # seconds for a reader to take a page
_TABLES = {
    "master": "ipv4-unicast",
    "master4": "ipv4-unicast",
    "ipv4-unicast": "ipv4-unicast",
    "master6": "ipv6-unicast",
    "ipv6-unicast": "ipv6-unicast",
}
_FAMILIES = ("ipv4-unicast", "ipv6-unicast")
_HEADERS = {"Cache-Control": "no-store"}
_NOT_PASSED_ON = frozenset({"65535:65281", "65535:65282", "65535:65283"})
_KNOWN_KINDS = {0x02: "rt", 0x03: "ro"}

_Keep = Callable[[RouteStatus], bool]


class Birdwatcher:
    """The endpoints over one source. `clock`: seconds since the epoch."""

    def __init__(
        self,
        source: StatusSource,
        clock: Callable[[], float],
        peers: Callable[[], Sequence[PeerStatus]],
        turns: Turns,
    ) -> None:
        """`peers` gives them as of a moment ago; searches of the table take `turns`."""
        self._source = source
        self._clock = clock
        self._peers = peers
        self._turns = turns
        self._running = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/protocols", self._protocols),
            web.get("/protocols/bgp", self._protocols),
            web.get("/protocols/short", self._short),
            web.get("/routes/protocol/{id}", self._accepted),
            web.get("/routes/filtered/{id}", self._filtered),
            web.get("/routes/noexport/{id}", self._not_exported),
            web.get("/routes/export/{id}", self._exported),
            web.get("/routes/table/{table}", self._table),
            web.get("/routes/table/{table}/filtered", self._table_filtered),
        ]

    async def _status(self, _: web.Request) -> web.Response:
        service = self._source.service()
        healthy, reason = self._source.healthy()
        started = rfc3339(service.started_at)
        return self._answer(
            {
                "status": {
                    "version": f"cairn {service.version}",
                    "router_id": service.router_id,
                    "message": "Daemon is up and running" if healthy else reason,
                    "current_server": rfc3339(self._clock()),
                    "last_reboot": started,
                    "last_reconfig": started,
                }
            }
        )

    async def _protocols(self, _: web.Request) -> web.Response:
        return self._answer({"protocols": {peer.name: protocol(peer) for peer in self._peers()}})

    async def _short(self, _: web.Request) -> web.Response:
        return self._answer(
            {
                "protocols": {
                    peer.name: {
                        "proto": "BGP",
                        "table": "master",
                        "state": bird_state(peer),
                        "since": rfc3339(peer.since),
                        "info": peer.state.capitalize(),
                    }
                    for peer in self._peers()
                }
            }
        )

    async def _accepted(self, request: web.Request) -> web.StreamResponse:
        return await self._of_peer(request, lambda route: not route.ineligible)

    async def _filtered(self, request: web.Request) -> web.StreamResponse:
        return await self._of_peer(request, lambda route: bool(route.ineligible))

    async def _not_exported(self, request: web.Request) -> web.StreamResponse:
        return await self._of_peer(
            request, lambda route: not route.ineligible and not _NOT_PASSED_ON.isdisjoint(route.communities)
        )

    async def _exported(self, request: web.Request) -> web.StreamResponse:
        return await self._of_peer(request, lambda _: True, Direction.OUT)

    async def _of_peer(
        self, request: web.Request, keep: _Keep, direction: Direction = Direction.IN
    ) -> web.StreamResponse:
        name = request.match_info["id"]
        if all(peer.name != name for peer in self._peers()):
            return self._answer({"routes": []})
        query = RouteQuery(direction=direction, peer=name)
        return await self._routes(request, [replace(query, family=family) for family in _FAMILIES], keep)

    async def _table(self, request: web.Request) -> web.StreamResponse:
        return await self._of_table(request, lambda route: not route.ineligible)

    async def _table_filtered(self, request: web.Request) -> web.StreamResponse:
        return await self._of_table(request, lambda route: bool(route.ineligible))

    async def _of_table(self, request: web.Request, keep: _Keep) -> web.StreamResponse:
        family = _TABLES.get(request.match_info["table"])
        return await self._routes(request, [RouteQuery(family=family)] if family else [], keep)

    async def _routes(
        self, request: web.Request, queries: Iterable[RouteQuery], keep: _Keep
    ) -> web.StreamResponse:
        if request.method == "HEAD":
            return self._answer({"routes": []})
        if self._running >= _AT_ONCE:
            raise web.HTTPServiceUnavailable(text=f"{self._running} such answers are under way; ask again")
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type, response.charset = "application/json", "utf-8"
        self._running += 1
        try:
            await response.prepare(request)
            await self._send(response, queries, keep)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # who asked is gone
        finally:
            self._running -= 1
        return response

    async def _send(self, response: web.StreamResponse, queries: Iterable[RouteQuery], keep: _Keep) -> None:
        """Write the document of `_answer`, its routes a page at a time."""
        peers = {peer.name: peer for peer in self._peers()}
        text = json.dumps({**self._head(), "routes": []}).removesuffix("]}")
        sent = 0
        for query in queries:
            offset, total = 0, 1
            while offset < total and sent < _MOST:
                asked = replace(query, offset=offset, limit=_PAGE)
                total, found = await self._turns.take(partial(self._page, asked, keep, peers))
                text += ", " * bool(sent and found) + ", ".join(found)
                sent += len(found)
                offset += _PAGE
                async with asyncio.timeout(_PATIENCE):
                    await response.write(text.encode())
                text = ""
        async with asyncio.timeout(_PATIENCE):
            await response.write(f"{text}]}}".encode())
            await response.write_eof()

    def _page(self, query: RouteQuery, keep: _Keep, peers: Mapping[str, PeerStatus]) -> tuple[int, list[str]]:
        """How many there are, and of one page those to keep, as JSON."""
        page = self._source.routes(query)
        kept = (route for route in page.routes if keep(route))
        return page.total, [json.dumps(_route(route, peers.get(route.peer))) for route in kept]

    def _answer(self, document: Document) -> web.Response:
        return web.json_response({**self._head(), **document}, headers=_HEADERS)

    def _head(self) -> Document:
        now = rfc3339(self._clock())
        api = {"Version": "2", "result_from_cache": False, "cache_status": {"cached_at": {"date": now}}}
        return {"api": api, "ttl": now}


def bird_state(peer: PeerStatus) -> str:
    """The state as BIRD names a protocol's."""
    if peer.established:
        return "up"
    return "down" if peer.state == "IDLE" else "start"


def protocol(peer: PeerStatus) -> Document:
    """One peer as a BIRD protocol."""
    return {
        "bird_protocol": "BGP",
        "state": bird_state(peer),
        "state_changed": rfc3339(peer.since),
        "neighbor_address": peer.address,
        "neighbor_as": peer.asn or 0,
        "description": peer.description or peer.name,
        "last_error": peer.last_reason,
        "routes": {
            "imported": sum(family.accepted for family in peer.families),
            "filtered": sum(family.rejected for family in peer.families),
            "exported": sum(family.advertised for family in peer.families),
        },
    }


def _route(route: RouteStatus, peer: PeerStatus | None) -> Document:
    since = route.since if route.since is not None else peer.since if peer is not None else 0.0
    return {
        "network": route.prefix,
        "gateway": route.next_hop,
        "interface": "",
        "from_protocol": route.peer,
        "learnt_from": peer.address if peer is not None else "",
        "age": rfc3339(since),
        "metric": 100,
        "primary": route.best,
        "type": ["BGP", "univ"],
        "bgp": {
            "origin": {"igp": "IGP", "egp": "EGP", "incomplete": "Incomplete"}.get(
                route.origin, route.origin
            ),
            "as_path": route.as_path.split(),
            "next_hop": route.next_hop,
            "local_pref": "" if route.local_pref is None else str(route.local_pref),
            "med": "" if route.med is None else str(route.med),
            "communities": [_numbers(each) for each in route.communities],
            "large_communities": [_numbers(each) for each in route.large_communities],
            "ext_communities": [extended(each) for each in route.extended_communities],
        },
    }


def _numbers(community: str) -> list[int]:
    return [int(part) for part in community.split(":")]


def extended(octets: str) -> list[str]:
    """An extended community (RFC 4360; 8 octets in hexadecimal) as BIRD writes it: kind and two values."""
    raw = bytes.fromhex(octets)
    kind = _KNOWN_KINDS.get(raw[1])
    if kind is not None and raw[0] in (0x00, 0x40):  # 2-octet AS number, then 4 octets
        return [kind, str(int.from_bytes(raw[2:4])), str(int.from_bytes(raw[4:8]))]
    if kind is not None and raw[0] in (0x02, 0x42):  # 4-octet AS number (RFC 5668), then 2 octets
        return [kind, str(int.from_bytes(raw[2:6])), str(int.from_bytes(raw[6:8]))]
    if kind is not None and raw[0] in (0x01, 0x41):  # IPv4 address, then 2 octets
        return [kind, ".".join(map(str, raw[2:6])), str(int.from_bytes(raw[6:8]))]
    return ["generic", f"0x{raw[:4].hex()}", f"0x{raw[4:].hex()}"]
