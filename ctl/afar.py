"""Services that are asked, or followed, from afar: by way of the datastore.

A question is written for each service and its answer waited for; that is for what is asked once, such as
`cairn peers`. Who wants to go on looking, as `cairn top` and `cairn watch` do, follows the *reports* instead:
one watch, which costs the services nothing, however many look.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from secrets import token_hex

import typer

from bgpd.datastore import Create, Datastore, DatastoreError, Delete, Entry, Interests, Snapshot
from bgpd.resources import Key, ResourceSet, ServiceAnswer, ServiceQuestion
from ctl import state
from ctl.cluster import KINDS, Service, reported
from ctl.exits import ExitCode, Failure, usage
from ctl.options import is_written
from ctl.services import LOCAL, Answer, answered, ask_all

PATIENCE = 5.0  # seconds that services asked by way of the datastore are given
_MOMENT = 2.0  # for so long nobody need know that the datastore does not answer


def pattern(context: typer.Context, node: str | None) -> str | None:
    """The nodes whose services are meant, by way of the datastore; None: those at --api, or on this machine.

    Who writes --datastore and neither --api nor --node means all of them.
    """
    if node is not None and is_written(context, "api"):
        raise usage("--api and --node both say who is asked", "give one of them")
    if node is None and is_written(context, "datastore") and not is_written(context, "api"):
        return "*"
    return node


def ask(
    api: Sequence[str] | None, nodes: str | None, datastore: str | None, what: str, query: Mapping[str, str]
) -> tuple[list[Answer], list[Answer]]:
    """Ask whom the operator means (`nodes`: see `pattern`); who answered, and who failed to.

    Raises Failure if nobody did.
    """
    if nodes is not None:
        return answered(state.run(ask_through(datastore, nodes, what, query)), named=True)
    return answered(state.run(ask_all(api or LOCAL, what, **query)), named=bool(api))


async def ask_through(location: str | None, nodes: str, what: str, query: Mapping[str, str]) -> list[Answer]:
    """Ask all services of the nodes that match (`*` and `?` as in a shell), through the datastore.

    Raises Failure if there is none. One that is silent, or does not answer in time, is an answer with its
    failure.
    """
    async with _shared(location) as store:
        resources = state.resource_set(await state.snapshot(store, KINDS))
        services = _some(_matching(resources, nodes), nodes, store)
        answers = await _ask(store, [each for each in services if each.silent is None], what, query)
        return answers + [Answer(each.called, None, silence(each)) for each in services if each.silent]


@dataclass(slots=True)
class Following:
    """What the services of matching nodes report, at any time as it is then."""

    store: Datastore
    nodes: str
    resources: ResourceSet

    def services(self) -> list[Service]:
        """All that report, or did."""
        return _matching(self.resources, self.nodes)

    @property
    def trouble(self) -> str:
        """Why what is known is no longer current; "" if it is."""
        health = self.store.health()
        lost = not health.current and time.time() - health.since > _MOMENT
        return f"{self.store.location}: {health.reason}" if lost else ""


@asynccontextmanager
async def following(location: str | None, nodes: str) -> AsyncIterator[Following]:
    """Follow the reports until the block is left. Raises Failure if there is none to begin with."""
    logging.getLogger("bgpd").addHandler(logging.NullHandler())  # `trouble` says it, where it can be read
    async with _shared(location) as store:
        seen = Following(store, nodes, state.resource_set(await state.snapshot(store, KINDS)))
        _some(seen.services(), nodes, store)
        task = asyncio.create_task(_follow(seen))
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.wait({task})


async def _follow(seen: Following) -> None:
    async with aclosing(seen.store.watch(Interests(frozenset(KINDS)))) as news:
        async for update in news:
            if isinstance(update, Snapshot):
                seen.resources = state.resource_set(update)
                continue
            changes = {
                change.key: None if change.entry is None else change.entry.resource
                for change in update.changes
            }
            seen.resources = seen.resources.with_changes(changes)


def silence(service: Service) -> str:
    """That a service no longer reports, in words."""
    return f"{service.called} is silent: no report since {service.silent:%F %T %Z}"


@asynccontextmanager
async def _shared(location: str | None) -> AsyncIterator[Datastore]:
    """A datastore that services report into."""
    async with state.opened(location) as store:
        if not store.shared:
            raise Failure(
                ExitCode.UNREACHABLE,
                f"services cannot be asked through the directory {store.location}",
                remedy="they are on this machine: give --api with their addresses",
            )
        yield store


def _matching(resources: ResourceSet, nodes: str) -> list[Service]:
    found = reported(resources, datetime.now(UTC)).services
    return [service for service in found if fnmatchcase(service.node, nodes)]


def _some(services: list[Service], nodes: str, store: Datastore) -> list[Service]:
    if not services:
        raise Failure(
            ExitCode.UNREACHABLE,
            f"no service of a node called {nodes} reports to {store.location}",
            remedy="`cairn get reports` lists those that do",
        )
    return services


async def _ask(
    store: Datastore, services: Sequence[Service], what: str, query: Mapping[str, str]
) -> list[Answer]:
    """Write a question to each, wait for the answers, take everything away again."""
    questions: dict[Key, tuple[ServiceQuestion, str]] = {}
    for service in services:
        document = {
            "metadata": {"name": f"{service.node}.{service.name}.{token_hex(6)}"},
            "spec": {"service": service.name, "node": service.node, "what": what, "query": dict(query)},
        }
        question = ServiceQuestion.model_validate(document, by_alias=True)
        questions[question.key] = (question, service.called)
    answers: dict[Key, ServiceAnswer] = {}
    try:
        await store.commit([Create(question) for question, _ in questions.values()], atomic=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await _collect(store, questions, answers)
    finally:
        with suppress(DatastoreError):
            await store.commit([Delete(key) for key in questions], atomic=False)
    late = ServiceAnswer(failure=f"no answer within {PATIENCE:g} s")
    found = []
    for key, (_, called) in questions.items():
        answer = answers.get(key, late)
        found.append(Answer(called, answer.document, f"{called}: {answer.failure}" if answer.failure else ""))
    return found


async def _collect(store: Datastore, questions: Collection[Key], answers: dict[Key, ServiceAnswer]) -> None:
    """Fill in `answers` until there is one to every question."""
    async with aclosing(store.watch(Interests(frozenset({ServiceQuestion.KIND})))) as stream:
        async for news in stream:
            changed: Iterable[Entry | None]
            changed = news.entries if isinstance(news, Snapshot) else [c.entry for c in news.changes]
            for entry in changed:
                question = entry.resource if entry is not None and entry.key in questions else None
                if isinstance(question, ServiceQuestion) and question.status is not None:
                    answers[question.key] = question.status
            if len(answers) == len(questions):
                return
