"""`cairn apply`: make the datastore hold what the files say, all or nothing, after saying what that means."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from bgpd.plan.diff import diff_cluster
from bgpd.resources import Resource
from bgpd.resources.scalars import read_duration
from ctl import options, state
from ctl.edits import Edit, Verb, changes_of, edits_for, refuse_outdated, unread_in, writes_of
from ctl.exits import ExitCode, Failure, usage
from ctl.findings import brought_in, refuse, warn
from ctl.output import Format
from ctl.summary import agreed, tell
from ctl.trial import in_a_session_of_its_own, on_trial


def command(
    filename: options.Files = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, even if sessions would drop.")
    ] = False,
    confirm_within: Annotated[
        str | None,
        typer.Option(
            "--confirm-within", metavar="TIME", help="Take it back unless `yes` is written in time (60s, 2m)."
        ),
    ] = None,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Create or change the resources in the files, all in one transaction.

    In etcd one takes 128 changes; more take several, one after the other, and cannot be on trial.
    First shows which resources change and what that does to the sessions and routes of every node. On a
    terminal it asks before sessions drop. A resource with a `resourceVersion` that has changed since is a
    conflict; without one it is replaced as it is.
    """
    if confirm_within is not None and filename is not None and "-" in map(str, filename):
        raise usage(
            "the answer and the resources cannot both come from standard input", "put them into a file"
        )
    trial = None if confirm_within is None else _seconds(confirm_within)
    asking = sys.stdin.isatty() and not yes
    if trial is not None and not dry_run:
        in_a_session_of_its_own()
    state.run(_apply(state.declarations(filename), datastore, dry_run, asking, trial, output))


def _seconds(text: str) -> float:
    try:
        seconds = read_duration(text)
    except ValueError as error:
        raise usage(f"--confirm-within: {error}", "write a time such as 60s or 2m") from error
    if not seconds:
        raise usage(f"--confirm-within: {text} is no time to answer in", "write a time such as 60s or 2m")
    return seconds


async def _apply(
    wanted: Sequence[Resource],
    location: str | None,
    dry_run: bool,
    asking: bool,
    trial: float | None,
    form: Format,
) -> None:
    async with state.opened(location) as store:
        found = await state.snapshot_or_nothing(store)
        present = {entry.key: entry for entry in found.entries}
        unread = unread_in(found) if trial is None else {}  # what it was could not be put back
        edits = edits_for(wanted, present, unread, datetime.now(UTC), (uuid4() for _ in wanted))
        refuse_outdated(wanted, edits)
        before = state.resource_set(found)
        after = before.with_changes(changes_of(edits))
        findings = brought_in(before, after)
        warn(findings)
        refuse(findings)
        effect = diff_cluster(before, after)
        tell(edits, effect, form)
        if dry_run or not writes_of(edits):
            return
        if not agreed(effect, "Apply", asking):
            raise Failure(ExitCode.DIFFERS, "nothing was applied")
        if trial is None:
            await state.commit(store, writes_of(edits))
        elif not await on_trial(store, edits, present, trial):
            raise Failure(ExitCode.DIFFERS, "not confirmed; everything was taken back")
    if form in (Format.TABLE, Format.WIDE):
        print(f"applied: {_counted(edits)}, at {store.location}")


def _counted(edits: Sequence[Edit]) -> str:
    names = {Verb.CREATE: "created", Verb.CHANGE: "changed", Verb.KEEP: "unchanged", Verb.DELETE: "deleted"}
    counts = {name: sum(edit.verb is verb for edit in edits) for verb, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"
