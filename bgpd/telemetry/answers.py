"""What a service answers when it is asked: one question, one JSON document, whatever way it came in.

The HTTP interface asks here, and so does the `reporter`, which brings questions from the datastore. A
question is the last part of /api/v1/<what> and its query; the shapes are those of `documents`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network

from bgpd.telemetry.documents import (
    SCHEMA_VERSION,
    Document,
    event_document,
    routes_document,
    samples_document,
    status_document,
)
from bgpd.telemetry.metrics import STATE_NUMBERS
from bgpd.telemetry.peer_query import DOWN, SORTS, PeerQuery, graph_document, peers_document, totals
from bgpd.telemetry.status import Direction, PeerStatus, RoutePage, RouteQuery, StatusSource

MAX_LIMIT = 1000
QUESTIONS = ("status", "peers", "routes", "plan", "events", "graph", "samples")
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_QUICK = 0.005
_FAMILIES = ("ipv4-unicast", "ipv6-unicast")

Query = Mapping[str, str]


class QuestionError(ValueError):
    """A question that cannot be answered; the text says what would be right."""


class Answers:
    """Answers for one `StatusSource`. `clock`: seconds since the epoch."""

    def __init__(self, source: StatusSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._kept_peers: Sequence[PeerStatus] = ()
        self._peers_kept_until = 0.0
        self._known: Mapping[str, Callable[[Query], Document]] = {
            "status": self._status,
            "peers": self._peers,
            "routes": self._routes,
            "plan": self._plan,
            "events": self._events,
            "graph": self._graph,
            "samples": self._samples,
        }

    def answer(self, what: str, query: Query) -> Document:
        """The document asked for. Raises QuestionError."""
        if what not in self._known:
            raise QuestionError(f"nothing is known of {what!r}, only of {', '.join(QUESTIONS)}")
        return self._known[what](query)

    def peer_list(self) -> Sequence[PeerStatus]:
        """The peers now, or, where collecting them takes long, as of a moment ago.

        With 5,000 of them and several viewers the loop's time belongs to the sessions: a list is kept for
        twenty times as long as it took to make.
        """
        now = time.monotonic()
        if now >= self._peers_kept_until:
            self._kept_peers = self._source.peers()
            took = time.monotonic() - now
            self._peers_kept_until = now + 20 * took if took > _QUICK else 0.0
        return self._kept_peers

    def _status(self, _: Query) -> Document:
        return status_document(self._source, self._clock())

    def _peers(self, query: Query) -> Document:
        return peers_document(self.peer_list(), _peer_query(query))

    def _graph(self, _: Query) -> Document:
        service = self._source.service()
        return graph_document(service.service, service.node, self.peer_list())

    def _samples(self, _: Query) -> Document:
        return samples_document([*totals(self.peer_list()), *self._source.samples()], self._clock())

    def _plan(self, _: Query) -> Document:
        return {"version": SCHEMA_VERSION, "plan": dict(self._source.plan())}

    def _routes(self, query: Query) -> Document:
        asked = _route_query(query)
        address = asked.prefix is not None and "/" not in asked.prefix
        found = self._longest(asked) if address else self._source.routes(asked)
        return routes_document(found, asked.offset, asked.limit)

    def _longest(self, query: RouteQuery) -> RoutePage:
        """What the most specific prefix has that holds the address asked for."""
        network = ip_network(query.prefix or "")
        for length in range(network.max_prefixlen, -1, -1):
            found = self._source.routes(replace(query, prefix=str(network.supernet(new_prefix=length))))
            if found.total:
                return found
        return RoutePage(0, ())

    def _events(self, query: Query) -> Document:
        ring = self._source.events
        after = number(query.get("after", "0"), "after", ring.last_id)
        limit = number(query.get("limit", "100"), "limit", MAX_LIMIT)
        events = [event_document(event) for event in ring.after(after, limit)]
        return {"version": SCHEMA_VERSION, "last": ring.last_id, "events": events}


def number(text: str, name: str, most: int | None) -> int:
    """A count out of a query, at most `most`. Raises QuestionError."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise QuestionError(f"{name} is a number, not {text!r}")
    return int(text) if most is None else min(int(text), most)


def one_of(query: Query, name: str, choices: Sequence[str]) -> str | None:
    """A word out of a query. Raises QuestionError."""
    text = query.get(name) or None
    if text is not None and text not in choices:
        raise QuestionError(f"{name} is one of {', '.join(choices)}, not {text!r}")
    return text


def _yes_or_no(query: Query, name: str) -> bool:
    text = one_of({name: query.get(name, "").lower()}, name, (*_YES, *_NO))
    return text in _YES


def _route_query(query: Query) -> RouteQuery:
    prefix = query.get("prefix") or None
    if prefix is not None:
        try:
            ip_network(prefix, strict=False)
        except ValueError:
            raise QuestionError(f"prefix is such as 10.0.0.0/8 or 10.1.2.3, not {prefix!r}") from None
    return RouteQuery(
        direction=Direction(one_of(query, "direction", tuple(Direction)) or Direction.BEST),
        prefix=prefix,
        longer=_yes_or_no(query, "longer"),
        family=one_of(query, "family", _FAMILIES),
        peer=query.get("peer") or None,
        offset=number(query.get("offset", "0"), "offset", None),
        limit=number(query.get("limit", "100"), "limit", MAX_LIMIT),
    )


def _peer_query(query: Query) -> PeerQuery:
    sort = one_of(query, "sort", (*SORTS, *(f"-{name}" for name in SORTS)))
    limit = query.get("limit")
    return PeerQuery(
        state=one_of(query, "state", (*STATE_NUMBERS, DOWN)),
        kind=query.get("kind") or None,
        search=query.get("search") or None,
        sort=sort.removeprefix("-") if sort else None,
        descending=sort is not None and sort.startswith("-"),
        offset=number(query.get("offset", "0"), "offset", None),
        limit=None if limit is None else number(limit, "limit", MAX_LIMIT),
    )
