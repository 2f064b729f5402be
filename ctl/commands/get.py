"""`cairn get`: resources as tables, or as documents that `cairn apply` takes again."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from bgpd.datastore import Entry
from bgpd.resources import CALICO_API_VERSION, MODELS, to_document
from ctl import options, state
from ctl.edits import STORE_FIELDS
from ctl.exits import ExitCode, Failure
from ctl.kinds import Field, cell, kind_named, view_of
from ctl.output import Column, Format, Listing, show

_ALL = (
    Field("KIND", "kind"),
    Field("NAMESPACE", "metadata.namespace", wide=True),
    Field("NAME", "metadata.name"),
)


def command(
    kind: Annotated[str, typer.Argument(help="Kind of resource (bgppeers, ippool, wep …), or `all`.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Only these.")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only of this namespace.")
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            "--export", help="Without uid, creationTimestamp and resourceVersion, as for a new one."
        ),
    ] = False,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Show resources of a kind, all of them or those named.

    The `resourceVersion` in documents lets `cairn apply` refuse what was changed meanwhile; leave it out of
    files that are kept, with `--export`.
    """
    wanted = None if kind.lower() == "all" else kind_named(kind)
    entries = state.run(_entries(datastore, wanted))
    if namespace is not None:
        entries = [entry for entry in entries if entry.key.namespace == namespace]
    if names:
        entries = [entry for name in names for entry in _named(entries, name, wanted or "resource")]
    documents = [_document(entry, export) for entry in entries]
    place = "" if namespace is None else f" in namespace {namespace}"
    show(listing(documents, wanted, single=bool(names) and len(documents) == 1, place=place), output)


def _document(entry: Entry, export: bool) -> dict[str, object]:
    """A resource as `cairn apply` takes it: to replace just this version, or for anywhere if exported."""
    document = to_document(entry.resource)
    metadata = document.get("metadata", {})
    if export:
        kept = {name: item for name, item in metadata.items() if name not in STORE_FIELDS}
    else:
        kept = {**metadata, "resourceVersion": str(entry.revision)}
    return {name: kept if name == "metadata" else item for name, item in document.items()}


async def _entries(location: str | None, kind: str | None) -> list[Entry]:
    async with state.opened(location) as store:
        found = await state.snapshot(store, None if kind is None else [kind])
    return list(found.entries)


def _named(entries: Sequence[Entry], name: str, kind: str) -> list[Entry]:
    """All of this name: there may be one in every namespace, and with `all` one of every kind."""
    found = [entry for entry in entries if name in (entry.key.name, entry.resource.metadata.name)]
    if found:
        return found
    raise Failure(
        ExitCode.DIFFERS,
        f"there is no {kind} called {name}",
        remedy=f"`cairn get {kind if kind in MODELS else 'all'}` lists what there is",
    )


def listing(
    documents: Sequence[Mapping[str, object]], kind: str | None, single: bool, place: str = ""
) -> Listing:
    """The documents as rows of the kind's view."""
    view = _ALL if kind is None else view_of(kind)
    rows = [[cell(document, field.path) for field in view] for document in documents]
    version = CALICO_API_VERSION if kind is None else MODELS[kind].API_VERSION
    together = {"apiVersion": version, "kind": f"{kind or 'Resource'}List", "items": list(documents)}
    return Listing(
        tuple(Column(field.head, field.wide) for field in view),
        rows,
        documents[0] if single else together,
        empty=f"no {kind or 'resource'} is declared{place}",
    )
