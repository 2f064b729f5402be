"""A service seen through the datastore: for whoever reaches that and not the node.

Two things. A *report*: the service's status, the sessions that are down, its numbers and what has just
happened, written when something happened, and every minute all the same, so that a report that gets old
tells of a service that is gone. And *answers*: a question that somebody writes is answered with the
document that /api/v1/ has for it and removed after a minute, should it still be there. `cairn status`,
`cairn top` and `cairn watch` read the reports of the whole cluster, `cairn peers` and `cairn routes` ask.

What this costs a datastore of 5,000 nodes: 84 small writes a second when nothing happens and 1,000 when
something happens to everybody; routes that come and go do not count as something. No plan reads any of it.

Only stores that other machines reach are written to: whoever can read a directory can ask the services.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog

from bgpd.datastore import Changes, Conflict, Datastore, DatastoreError, Entry, Interests, Snapshot
from bgpd.resources import Key, ResourceError, ServiceAnswer, ServiceQuestion, ServiceReport
from bgpd.telemetry.answers import Answers, QuestionError
from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.documents import event_document, peer_document, rfc3339, status_document
from bgpd.telemetry.peer_query import totals
from bgpd.telemetry.status import Event, Sample, StatusSource
from bgpd.telemetry.turns import BusyError, Turns

EVERY = 60.0  # seconds between two reports if nothing happens
MOST_DOWN = 50
MOST_EVENTS, RECENT = 20, 300.0  # told in a report: so many, of so many seconds
MOST_OCTETS = 1_000_000  # etcd takes 1.5 MB in a request
MOST_ASKED = 64  # questions at a time
_GATHER, _PACE = 0.3, 5.0  # seconds after an event until it is reported, and between two reports
_ASK_ALIKE = ("name", "address", "node", "state", "since", "last_reason")

log = structlog.get_logger("reporter")


class Reporter:
    """Reports and answers for one service of the node declared as `node`. `run` until cancelled.

    `clock`: seconds since the epoch.
    """

    def __init__(
        self, store: Datastore, source: StatusSource, node: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._source = source
        self._node = node
        self._clock = clock
        self._answers = Answers(source, clock)
        self._turns = Turns(MOST_ASKED)
        self._happened = asyncio.Event()
        self._revision: int | None = None
        self._ready: tuple[bool, float] | None = None
        self._failed = ""

    async def run(self) -> None:
        if not self._store.shared:
            return
        unsubscribe = self._source.events.subscribe(self._noticed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report())
                tasks.create_task(self._answer())
        finally:
            unsubscribe()

    def _noticed(self, event: Event) -> None:
        if _is_told(event):
            self._happened.set()

    async def _report(self) -> None:
        while True:
            self._happened.clear()
            try:
                await self._write(self.report())
                self._failed = ""
            except Conflict:
                self._revision = None  # somebody else wrote or removed it: look again next time
            except DatastoreError as error:
                if str(error) != self._failed:
                    log.warning("the service's report cannot be written", reason=str(error))
                self._failed = str(error)
            await asyncio.sleep(_PACE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY - _PACE):
                    await self._happened.wait()
            await asyncio.sleep(_GATHER)

    def report(self) -> ServiceReport:
        """The report as of now."""
        now = self._clock()
        status = status_document(self._source, now)
        if self._ready is None or self._ready[0] != status["ready"]:
            self._ready = (status["ready"], now if self._ready else self._source.service().started_at)
        peers = self._answers.peer_list()
        down = [peer_document(peer) for peer in peers if peer.expected and not peer.established]
        numbers: dict[str, float] = {}
        delays = []
        for sample in (*totals(peers), *self._source.samples()):
            if isinstance(sample, Sample):
                numbers[sample.name] = numbers.get(sample.name, 0.0) + sample.value
            elif isinstance(sample, Distribution):
                delays.append(sample.quantile(0.99))
        ring = self._source.events
        told = [event for event in ring.after(0) if _is_told(event) and event.at > now - RECENT]
        spec: dict[str, Any] = {
            "service": status["service"],
            "node": self._node,
            "reportedAt": rfc3339(now),
            "since": rfc3339(self._ready[1]),
            "status": status,
            "down": [{name: peer[name] for name in _ASK_ALIKE} for peer in down[:MOST_DOWN]],
            "numbers": numbers,
            "slowest": max((delay for delay in delays if delay is not None), default=None),
            "events": [event_document(event) for event in told[-MOST_EVENTS:]],
            "lastEvent": ring.last_id,
        }
        return ServiceReport.model_validate(
            {"metadata": {"name": self._key.name}, "spec": spec}, by_alias=True
        )

    @property
    def _key(self) -> Key:
        return Key(ServiceReport.KIND, f"{self._source.service().service}.{self._node}")

    async def forget(self) -> None:
        """Take the report away: the service ends for good."""
        if self._store.shared:
            with contextlib.suppress(DatastoreError):
                await self._store.delete(self._key)

    async def _write(self, report: ServiceReport) -> None:
        if self._revision is None:
            try:
                known = await self._store.get(report.key)
            except ResourceError:  # of another release, or nobody's; it is ours to replace
                await self._store.delete(report.key)
                known = None
            self._revision = known.revision if known is not None else None
        if self._revision is None:
            written = await self._store.create(report)
        else:
            written = await self._store.update(report, self._revision)
        self._revision = written.revision

    async def _answer(self) -> None:
        """Questions to us come by watch; each is answered once, and the end of its minute awaited."""
        async with asyncio.TaskGroup() as tasks:
            interests = Interests(frozenset({ServiceQuestion.KIND}), self._node)
            async with aclosing(self._store.watch(interests)) as stream:
                async for news in stream:
                    entries: list[Entry | None] = []
                    if isinstance(news, Snapshot):
                        entries = list(news.entries)
                    elif isinstance(news, Changes):
                        entries = [change.entry for change in news.changes]
                    for entry in entries:
                        if entry is not None and self._is_ours(entry):
                            tasks.create_task(self._answer_one(entry))

    def _is_ours(self, entry: Entry) -> bool:
        question = entry.resource
        return (
            isinstance(question, ServiceQuestion)
            and question.status is None
            and (question.spec.service, question.spec.node) == (self._source.service().service, self._node)
        )

    async def _answer_one(self, entry: Entry) -> None:
        question = entry.resource
        assert isinstance(question, ServiceQuestion)
        try:
            found = await self._turns.take(partial(self._found, question))
        except BusyError as error:
            found = ServiceAnswer(failure=str(error))
        answered = question.model_copy(update={"status": found})
        try:
            await self._store.update(answered, entry.revision)
            await asyncio.sleep(EVERY)
            await self._store.delete(Key(ServiceQuestion.KIND, question.name))
        except Conflict:
            pass  # who asked has taken it away
        except DatastoreError as error:
            log.warning("a question cannot be answered", question=question.name, reason=str(error))

    def _found(self, question: ServiceQuestion) -> ServiceAnswer:
        query = {name: str(value) for name, value in question.spec.query.items()}
        try:
            document = self._answers.answer(question.spec.what, query)
        except QuestionError as error:
            return ServiceAnswer(failure=str(error))
        except Exception:
            log.exception("a question could not be answered", what=question.spec.what, query=query)
            return ServiceAnswer(failure="the service failed at this question; its log says how")
        if len(json.dumps(document)) > MOST_OCTETS:
            return ServiceAnswer(failure="the answer is too large for the datastore; ask for less of it")
        return ServiceAnswer(document=document)


def _is_told(event: Event) -> bool:
    """Whether an event is worth a report: routes come and go too often."""
    return not event.kind.startswith("route.")
