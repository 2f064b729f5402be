"""A change on trial: applied, and taken back unless the operator says in time that it is good.

For changes that may cut the operator off. Silence, a closed terminal, a signal and an answer other than
`yes` all mean no. What is taken back is exactly what was written: a resource that somebody else has changed
meanwhile is a conflict, and then nothing is taken back and everything is told.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bgpd.datastore import (
    Conflict,
    Create,
    Datastore,
    DatastoreError,
    Delete,
    Entry,
    Unavailable,
    Update,
    Write,
)
from bgpd.resources import Key, Resource
from ctl.edits import Edit, Verb, comparable
from ctl.exits import ExitCode, Failure

_RETRY = 1.0  # seconds between two attempts to take a change back
_NO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def inverse(edits: Sequence[Edit], before: Mapping[Key, Entry], written: Mapping[Key, int]) -> list[Write]:
    """The writes that undo `edits`. `before` is what was there, `written` the revisions of the edits."""
    writes: list[Write] = []
    for edit in edits:
        match edit.verb:
            case Verb.CREATE:
                writes.append(Delete(edit.key, written[edit.key]))
            case Verb.CHANGE:
                writes.append(Update(before[edit.key].resource, written[edit.key]))
            case Verb.DELETE:
                writes.append(Create(before[edit.key].resource))
            case Verb.KEEP:
                pass
    return writes


async def on_trial(
    store: Datastore, edits: Sequence[Edit], before: Mapping[Key, Entry], seconds: float
) -> bool:
    """Wait for the operator's word on edits just committed; take them back without it. Whether they stay.

    Raises Failure if they could not be taken back because of somebody else's change.
    """
    written = await _revisions(store, edits)
    if await _confirmed(seconds):
        return True
    undo = inverse(edits, before, written)
    while True:
        try:
            await store.commit(undo)
            return False
        except Conflict as error:
            raise Failure(
                ExitCode.DIFFERS,
                f"not confirmed, and not taken back either: {error}",
                remedy="look at it with `cairn get`, and apply what should be there",
            ) from error
        except Unavailable as error:
            sys.stderr.write(f"cairn: cannot take it back yet: {error}\n")
            await asyncio.sleep(_RETRY)


async def _revisions(store: Datastore, edits: Sequence[Edit]) -> dict[Key, int]:
    """The revisions of what was just written; if it is not there any more, an impossible one: a conflict."""
    found: dict[Key, int] = {}
    for edit in edits:
        if edit.verb in (Verb.CREATE, Verb.CHANGE):
            with suppress(DatastoreError):
                entry = await store.get(edit.key)
                if entry is not None and edit.resource is not None and _same(entry.resource, edit.resource):
                    found[edit.key] = entry.revision
            found.setdefault(edit.key, -1)
    return found


def _same(found: Resource, written: Resource) -> bool:
    return comparable(found) == comparable(written)


async def _confirmed(seconds: float) -> bool:
    """Whether `yes` comes in on standard input in time."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[str] = loop.create_future()

    def answer(text: str) -> None:
        if not said.done():
            said.set_result(text)

    def listen() -> None:
        answer(sys.stdin.readline())

    for number in _NO:
        loop.add_signal_handler(number, answer, "")
    sys.stderr.write(f"applied on trial: write `yes` within {seconds:g} s to keep it: ")
    sys.stderr.flush()
    try:
        loop.add_reader(sys.stdin.fileno(), listen)
        return (await asyncio.wait_for(said, seconds)).strip().lower() in ("y", "yes")
    except TimeoutError:
        sys.stderr.write("\n")
        return False
    finally:
        loop.remove_reader(sys.stdin.fileno())
        # The handlers stay: until the change is taken back, nothing may end this process half way.
