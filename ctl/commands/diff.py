"""`cairn diff`: what applying files would do to every node, without doing it. Exit 0 same, 1 differs."""

import sys
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from bgpd.plan.diff import diff_cluster
from ctl import options, state
from ctl.edits import changes_of, edits_for, outdated, unread_in, writes_of
from ctl.exits import ExitCode
from ctl.findings import brought_in, refuse, warn
from ctl.output import Format
from ctl.summary import tell
from ctl.terminal import visible


def command(
    filename: options.Files = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the exit code.")] = False,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show what applying the files would change: resources, sessions, routes. Exit 1 if anything would."""
    differs = state.run(_diff(filename, datastore, quiet, output))
    if differs:
        raise typer.Exit(ExitCode.DIFFERS)


async def _diff(filename: options.Files, location: str | None, quiet: bool, form: Format) -> bool:
    wanted = state.declarations(filename)
    async with state.opened(location) as store:
        found = await state.snapshot_or_nothing(store)
    present = {entry.key: entry for entry in found.entries}
    edits = edits_for(wanted, present, unread_in(found), datetime.now(UTC), (uuid4() for _ in wanted))
    before = state.resource_set(found)
    after = before.with_changes(changes_of(edits))
    findings = brought_in(before, after)
    if not quiet:
        for reason in outdated(wanted, edits):
            sys.stderr.write(f"cairn: `cairn apply` would refuse this: {visible(reason)}\n")
        warn(findings)
    refuse(findings)
    effect = diff_cluster(before, after)
    if not quiet:
        tell(edits, effect, form)
    return bool(writes_of(edits))
