"""The declared state as commands meet it: files of resources, and a datastore that may not be there.

Errors of the rooms below become failures with an exit code here, in one place.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from bgpd.datastore import (
    EVERYTHING,
    Absent,
    Conflict,
    Datastore,
    DatastoreError,
    Denied,
    Interests,
    Misconfigured,
    Snapshot,
    TooLarge,
    Unavailable,
    Unread,
    Write,
    open_datastore,
)
from bgpd.resources import Resource, ResourceError, ResourceSet, load_documents
from bgpd.resources.support import kinds_written_by_services
from ctl.exits import ExitCode, Failure, usage
from ctl.terminal import visible

T = TypeVar("T")
SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def run(work: Coroutine[object, object, T]) -> T:
    """Run a command's work to its end."""
    with failures():
        return asyncio.run(work)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the rooms below raise into what the operator reads."""
    try:
        yield
    except ResourceError as error:
        raise invalid(error) from error
    except Misconfigured as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    except (Unavailable, Denied) as error:
        raise Failure(ExitCode.UNREACHABLE, str(error)) from error
    except Conflict as error:
        written = "what was written stays" if error.committed else "nothing was written"
        raise Failure(ExitCode.DIFFERS, str(error), remedy=f"{written}; run the command again") from error
    except TooLarge as error:
        raise Failure(ExitCode.INVALID, str(error), remedy="apply it in smaller parts") from error
    except DatastoreError as error:
        raise Failure(ExitCode.UNREACHABLE, str(error)) from error


def invalid(error: ResourceError) -> Failure:
    """A failure that tells every fault of the input."""
    if not error.also:
        return Failure(ExitCode.INVALID, error.what, where=error.place, remedy=error.remedy)
    faults = str(error).splitlines()
    lines = "".join(f"\n  {line}" for line in faults)
    return Failure(ExitCode.INVALID, f"{len(faults)} faults, so nothing was done{lines}")


@asynccontextmanager
async def opened(location: str | None) -> AsyncIterator[Datastore]:
    """The datastore an operator means: `--datastore`, or what the environment says."""
    store = open_datastore(location, os.environ)
    try:
        yield store
    finally:
        await store.close()


async def commit(store: Datastore, writes: Sequence[Write]) -> None:
    """Write all or nothing, as far as one transaction of the store reaches: what follows has its own."""
    try:
        await store.commit(writes, atomic=False)
    except Unavailable as error:
        raise Failure(
            ExitCode.UNREACHABLE,
            str(error),
            remedy="it may have been written or not, `cairn diff` tells; to do it again does no harm",
        ) from error


async def snapshot(store: Datastore, kinds: Iterable[str] | None = None) -> Snapshot:
    """What the datastore holds now; values that cannot be read are reported on standard error."""
    found = await store.list(Interests(frozenset(kinds)) if kinds is not None else EVERYTHING)
    for place, reasons in dict.fromkeys((value.place, value.reason or "") for value in found.invalid):
        for line in reasons.split("\n"):
            reason = line.removeprefix(f"{place}: ")
            sys.stderr.write(visible(f"cairn: ignored, not readable: {place}: {reason}") + "\n")
    return found


async def snapshot_or_nothing(store: Datastore) -> Snapshot:
    """What the datastore holds now: nothing, said so, if its directory is still to be made."""
    try:
        return await snapshot(store)
    except Absent:
        sys.stderr.write(f"cairn: {store.location} does not exist yet; applying makes it\n")
        return Snapshot((), 0)


def resource_set(found: Snapshot) -> ResourceSet:
    """A snapshot as the plan wants it."""
    return ResourceSet.of(entry.resource for entry in found.entries)


def declared(location: str | None, kinds: Iterable[str] | None = None) -> ResourceSet:
    """Everything declared, or what is of some kinds, for commands that only look."""

    async def read() -> ResourceSet:
        async with opened(location) as store:
            return resource_set(await snapshot(store, kinds))

    return run(read())


def to_be_planned(location: str | None, node: str | None = None) -> ResourceSet:
    """Everything declared, for a plan. Failure if settings of the cluster, or of `node`, cannot be read."""

    async def read() -> ResourceSet:
        async with opened(location) as store:
            found, unread = await snapshot(store), Unread(node)
            unread.heard(found, resources := resource_set(found))
            if unread.reason:
                raise Failure(ExitCode.INVALID, unread.reason)
            return resources

    return run(read())


def declarations(paths: Sequence[Path] | None) -> list[Resource]:
    """What the files declare, at least something.

    Not what only a service may say of itself: a copy of a datastore has that too, and a lease put back from
    it would have no end.
    """
    resources = from_files(paths)
    theirs = kinds_written_by_services()
    if left := Counter(resource.KIND for resource in resources if resource.KIND in theirs):
        told = ", ".join(f"{count} {kind}" for kind, count in left.items())
        sys.stderr.write(f"cairn: left out, since only services write it: {told}\n")
    resources = [resource for resource in resources if resource.KIND not in theirs]
    if not resources:
        raise usage("the files declare nothing", "give a file that holds resources")
    return resources


def from_files(paths: Sequence[Path] | None) -> list[Resource]:
    """Every resource of the files, directories (searched to the bottom) and `-`; all faults at once."""
    if not paths:
        raise usage("nothing to read", "give -f with a file, a directory, or - for standard input")
    resources: list[Resource] = []
    faults: list[ResourceError] = []
    origins: dict[object, str] = {}
    for source, text in _texts(paths):
        try:
            found = load_documents(text, source)
        except ResourceError as error:
            faults += [error, *error.also]
            continue
        for resource in found:
            if resource.key in origins:
                faults.append(
                    ResourceError(source, f"{resource.key} is also in {origins[resource.key]}", "keep one")
                )
            origins[resource.key] = source
        resources += found
    if faults:
        raise invalid(ResourceError(faults[0].place, faults[0].what, faults[0].remedy, faults[1:]))
    return resources


def _texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if str(path) == "-":
            with _utf8("standard input"):
                text = sys.stdin.buffer.read().decode()
            yield "standard input", text
            continue
        files = [path]
        if path.is_dir():
            files = sorted(entry for entry in path.rglob("*") if entry.suffix in SUFFIXES and entry.is_file())
            if not files:
                raise usage(f"no .yaml, .yml or .json file in {path}", "give a directory with resources")
        for file in files:
            try:
                with _utf8(str(file)):
                    text = file.read_text(encoding="utf-8")
            except OSError as error:
                raise usage(
                    f"{file} cannot be read: {error.strerror}", "check the path and permissions"
                ) from error
            yield str(file), text


@contextmanager
def _utf8(source: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise Failure(
            ExitCode.INVALID,
            "not UTF-8 text",
            where=f"{source}: octet {error.start}",
            remedy="save it as UTF-8",
        ) from error
