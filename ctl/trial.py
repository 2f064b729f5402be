"""A change on trial: applied, and taken back unless the operator says in time that it is good.

For changes that may cut the operator off. Silence, a closed terminal, a signal and an answer other than
`yes` all mean no. What is taken back is exactly what was written: a resource that somebody else has changed
meanwhile is a conflict, and then nothing is taken back and everything is told.

Who was started at the terminal only passes on what is typed; a process in a session of its own applies, waits
and takes back. So also the end of the first (`kill -9`, a broken connection, a closed window) means no, but
not that of the whole machine. While the datastore does not answer, it is tried again until it does; and what
it was told to write without saying whether it has is taken back too, since nobody could confirm it.
"""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bgpd.datastore import Conflict, Datastore, Delete, Denied, Entry, Unavailable, Update, Write
from bgpd.resources import Key, Resource
from ctl.edits import Edit, comparable, writes_of
from ctl.exits import ExitCode, Failure

_RETRY = 1.0  # seconds between two attempts to take a change back
_NO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def on_trial(
    store: Datastore, edits: Sequence[Edit], before: Mapping[Key, Entry], seconds: float
) -> bool:
    """Write edits and wait for the operator's word; take them back without it. Whether they stay.

    Raises Failure if they could not be taken back because of somebody else's change, or if the datastore did
    not say whether it wrote them: then it was waited for until none of them is there.
    """
    lost: Unavailable | None = None
    try:
        await store.commit(writes_of(edits))
    except Unavailable as error:
        lost = error
        _tell(f"cairn: it is not known whether that was applied, so it is taken back: {error}\n")
        await asyncio.sleep(_RETRY)  # a request that is on its way arrives
    if lost is None and await _confirmed(seconds):
        return True
    told = False
    while True:
        try:
            found = {edit.key: await store.get(edit.key) for edit in edits}
            await store.commit(inverse(edits, before, found))
            break
        except Conflict as error:
            raise Failure(
                ExitCode.DIFFERS,
                f"not confirmed, and not taken back either: {error}",
                remedy="look at it with `cairn get`, and apply what should be there",
            ) from error
        except (Unavailable, Denied) as error:
            if not told:
                _tell(f"cairn: it is taken back as soon as the datastore answers: {error}\n")
            told = True
            await asyncio.sleep(_RETRY)
    if lost is not None:
        raise Failure(ExitCode.UNREACHABLE, f"nothing was applied: {lost}", remedy="run the command again")
    return False


def inverse(
    edits: Sequence[Edit], before: Mapping[Key, Entry], found: Mapping[Key, Entry | None]
) -> list[Write]:
    """The writes that undo `edits`. `before` is what was there, `found` what is there now.

    What is as it was before needs none. What is neither that nor what was written is somebody else's: its
    write has an impossible revision, so that all of them end in a conflict.
    """
    writes: list[Write] = []
    for edit in edits:
        was, now = before.get(edit.key), found[edit.key]
        if edit.write is None or _alike(now, None if was is None else was.resource):
            continue
        revision = now.revision if now is not None and _alike(now, edit.resource) else -1
        writes.append(Delete(edit.key, revision) if was is None else Update(was.resource, revision))
    return writes


def _alike(entry: Entry | None, resource: Resource | None) -> bool:
    if entry is None or resource is None:
        return entry is None and resource is None
    return comparable(entry.resource) == comparable(resource)


def in_a_session_of_its_own() -> None:
    """Go on in a child that outlives this process and its terminal; here only pass on what is typed.

    Returns in the child, whose standard input ends when this process does. To be called before there are
    threads or an event loop.
    """
    typed, to_child = os.pipe()
    over, ends_with_child = os.pipe()
    given_up, signalled = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _NO)  # one that comes from now on is answered when it can be
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NO)
        os.setsid()
        os.dup2(typed, sys.stdin.fileno())
        for descriptor in (typed, to_child, over, given_up, signalled):
            os.close(descriptor)
        return
    os.close(typed)
    os.close(ends_with_child)
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled)
    for number in _NO:
        signal.signal(number, _told_by_the_pipe)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NO)
    with suppress(BrokenPipeError):
        while select.select([sys.stdin.fileno(), over, given_up], [], [])[0] == [sys.stdin.fileno()]:
            words = os.read(sys.stdin.fileno(), 4096)
            if not words:
                break
            os.write(to_child, words)
    os.close(to_child)  # from now on it is being taken back, whatever else comes
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def _told_by_the_pipe(number: int, frame: object) -> None:
    """A handler that raised would be late for a signal right before the waiting."""


def _tell(text: str) -> None:
    """Say it, if anybody is still there to hear it."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


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
    _tell(f"applied on trial: write `yes` within {seconds:g} s to keep it: ")
    try:
        loop.add_reader(sys.stdin.fileno(), listen)
        async with asyncio.timeout(seconds):
            return (await said).strip().lower() in ("y", "yes")
    except TimeoutError:
        _tell("\n")
        return False
    finally:
        loop.remove_reader(sys.stdin.fileno())
        # The handlers stay: until the change is taken back, nothing may end this process half way.
