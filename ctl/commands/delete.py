"""`cairn delete`: take resources away, all or nothing, after saying what that means."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bgpd.datastore import Entry
from bgpd.plan.diff import diff_cluster
from bgpd.resources import Key
from ctl import options, state
from ctl.edits import Edit, changes_of, deletion, refuse_outdated, unread_in, writes_of
from ctl.exits import ExitCode, Failure, usage
from ctl.findings import brought_in, refuse, warn
from ctl.kinds import kind_named
from ctl.output import Format
from ctl.summary import agreed, tell


def command(
    kind: Annotated[str | None, typer.Argument(help="Kind of resource (bgppeer, ippool, wep …).")] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Which ones.")] = None,
    filename: options.Files = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace of the names.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-not-exists", help="What is not there counts as deleted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, even if sessions would drop.")
    ] = False,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Delete resources by kind and name, or those in the files, all in one transaction.

    In etcd one takes 128 changes; more take several, one after the other.

    First shows what that does to the sessions and routes of every node. On a terminal it asks before sessions
    drop. What a resource that stays refers to, such as a BGPFilter in use, is not deleted.
    """
    state.run(_delete(datastore, kind, names or [], filename, namespace, skip_missing, dry_run, yes, output))


async def _delete(
    location: str | None,
    kind: str | None,
    names: Sequence[str],
    files: Sequence[Path] | None,
    namespace: str | None,
    skip_missing: bool,
    dry_run: bool,
    yes: bool,
    form: Format,
) -> None:
    if files and (kind or names):
        raise usage("both files and a kind were given", "give either -f FILE or KIND NAME")
    if not files and not (kind and names):
        raise usage("nothing to delete", "give KIND NAME, or -f FILE")
    async with state.opened(location) as store:
        found = await state.snapshot(store)
        present = {entry.key: entry for entry in found.entries}
        said = state.from_files(files) if files else []
        if files:
            keys = [resource.key for resource in said]
            if not keys:
                raise usage("the files hold no resource", "give a file that holds what to delete")
        else:
            found_keys = [_key(present, kind_named(kind or ""), name, namespace) for name in names]
            keys = list(dict.fromkeys(found_keys))
        revisions = unread_in(found) | {key: entry.revision for key, entry in present.items()}
        if missing := [key for key in keys if key not in revisions]:
            if not skip_missing:
                raise Failure(
                    ExitCode.DIFFERS,
                    f"not there: {', '.join(map(str, missing))}; nothing was deleted",
                    remedy="check the names with `cairn get`, or give --skip-not-exists",
                )
            keys = [key for key in keys if key in revisions]
        edits: list[Edit] = [deletion(key, revisions[key]) for key in keys]
        refuse_outdated(said, edits)
        before = state.resource_set(found)
        after = before.with_changes(changes_of(edits))
        missed = [
            finding._replace(what=f"after that {finding.what}")
            for finding in brought_in(before, after)
            if finding.lacks
        ]
        warn(missed)
        refuse(missed)
        effect = diff_cluster(before, after)
        tell(edits, effect, form)
        if dry_run or not edits:
            return
        if not yes and not agreed(effect, "Delete"):
            raise Failure(ExitCode.DIFFERS, "nothing was deleted")
        await state.commit(store, writes_of(edits))
    if form in (Format.TABLE, Format.WIDE):
        print(f"deleted: {len(edits)}, at {store.location}")


def _key(present: Mapping[Key, Entry], kind: str, name: str, namespace: str | None) -> Key:
    """The key of a resource of this name, be it the key's (of an affinity node/cidr) or its metadata's."""
    fitting = [
        entry.key
        for entry in present.values()
        if entry.key.kind == kind
        and name in (entry.key.name, entry.resource.metadata.name)
        and namespace in (None, entry.key.namespace)
    ]
    if len(fitting) > 1:
        places = ", ".join(key.namespace or str(key) for key in fitting)
        raise usage(f"{kind} {name} is not unique: {places}", "give -n NAMESPACE")
    return fitting[0] if fitting else Key(kind, name, namespace or "")
