"""What applying or deleting resources would write, worked out before anything is written.

`apply` means: afterwards the datastore holds what the file says. A resource that is there already is
replaced whole; its identity (`uid`, `creationTimestamp`) stays, and a resource that would not change is not
written. A file that says with `resourceVersion` what it was made from replaces or deletes only that; without
one, and where the resource is new or would not change, it does not matter (`calicoctl` refuses the last too).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from bgpd.datastore import Create, Delete, Entry, Snapshot, Update, Write
from bgpd.resources import CALICO_API_VERSION, Key, Resource, to_document
from bgpd.resources.ipam import IpamResource
from ctl.exits import ExitCode, Failure
from ctl.output import rfc3339
from ctl.terminal import visible

STORE_FIELDS = ("uid", "creationTimestamp", "resourceVersion")


class Verb(StrEnum):
    """What happens to a resource."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "unchanged"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Edit:
    """One resource of a change: what happens to it, the write that does it, and which fields differ."""

    key: Key
    verb: Verb
    write: Write | None
    resource: Resource | None
    fields: tuple[str, ...] = ()


def edits_for(
    wanted: Iterable[Resource],
    present: Mapping[Key, Entry],
    unread: Mapping[Key, int],
    now: datetime,
    uids: Iterable[UUID],
) -> list[Edit]:
    """The edits that make the datastore hold `wanted`. `uids` has an identity for each new resource."""
    fresh = iter(uids)
    edits = []
    for resource in wanted:
        entry = present.get(resource.key)
        if entry is None:
            created = _with_identity(resource, {"uid": str(next(fresh)), "creationTimestamp": rfc3339(now)})
            if resource.key in unread:
                write = Update(created, unread[resource.key])
                edits.append(Edit(resource.key, Verb.CHANGE, write, created, ("what could not be read",)))
            else:
                edits.append(Edit(resource.key, Verb.CREATE, Create(created), created))
            continue
        fields = differing(comparable(entry.resource), comparable(resource))
        if not fields:
            edits.append(Edit(resource.key, Verb.KEEP, None, entry.resource))
            continue
        metadata = to_document(entry.resource).get("metadata", {})
        kept = {name: metadata[name] for name in STORE_FIELDS[:2] if name in metadata}
        changed = _with_identity(resource, kept)
        edits.append(Edit(resource.key, Verb.CHANGE, Update(changed, entry.revision), changed, tuple(fields)))
    return edits


def deletion(key: Key, revision: int) -> Edit:
    """The edit that deletes what is there, and only that."""
    return Edit(key, Verb.DELETE, Delete(key, revision), None)


def outdated(said: Iterable[Resource], edits: Iterable[Edit]) -> list[str]:
    """Which of the edits are of something else than what files say, by `resourceVersion`, they are of."""
    versions = {resource.key: resource.metadata.resource_version for resource in said}
    return [
        f"{edit.key} was changed: it has resourceVersion {edit.write.revision}, "
        f"the file that of {visible(wanted)}"
        for edit in edits
        if isinstance(edit.write, Update | Delete)
        and (wanted := versions.get(edit.key))
        and wanted != str(edit.write.revision)
    ]


def refuse_outdated(said: Iterable[Resource], edits: Iterable[Edit]) -> None:
    """Fail if files would undo what they do not know of."""
    if found := outdated(said, edits):
        raise Failure(
            ExitCode.DIFFERS,
            f"{'; '.join(found)}; nothing was done",
            remedy="read it again with `cairn get`, and change that; or take resourceVersion out of the file",
        )


def unread_in(found: Snapshot) -> dict[Key, int]:
    """The revisions of what is there and cannot be read."""
    return {
        value.key: value.revision
        for value in found.invalid
        if value.key is not None and value.revision is not None
    }


def writes_of(edits: Sequence[Edit]) -> list[Write]:
    """The writes of those edits that have one."""
    return [edit.write for edit in edits if edit.write is not None]


def changes_of(edits: Sequence[Edit]) -> dict[Key, Resource | None]:
    """The edits as changes to a `ResourceSet`."""
    return {edit.key: edit.resource for edit in edits if edit.write is not None}


def comparable(resource: Resource) -> dict[str, object]:
    """A resource's document without what the datastore, not the operator, has put there."""
    document = to_document(resource)
    metadata = document.get("metadata")
    if isinstance(metadata, Mapping):
        document["metadata"] = {key: item for key, item in metadata.items() if key not in STORE_FIELDS}
    if isinstance(resource, IpamResource):
        document.pop("metadata", None)  # etcd does not keep it; the identity is in the spec
    return document


def differing(before: object, after: object, path: str = "") -> list[str]:
    """The fields in which two documents differ, as `path: before → after`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [*before, *(name for name in after if name not in before)]
        return [
            line
            for name in names
            for line in differing(before.get(name), after.get(name), f"{path}.{name}".removeprefix("."))
        ]
    return [] if before == after else [f"{path}: {_shown(before)} → {_shown(after)}"]


def _shown(value: object) -> str:
    """A value on one line, as it may be written in a resource."""
    if value is None:
        return "unset"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _with_identity(resource: Resource, identity: Mapping[str, str]) -> Resource:
    theirs: Sequence[str] = STORE_FIELDS
    if isinstance(resource, IpamResource) or resource.API_VERSION != CALICO_API_VERSION:
        if resource.metadata.resource_version is None:
            return resource
        theirs, identity = STORE_FIELDS[2:], {}
    document = to_document(resource)
    metadata = {key: item for key, item in document["metadata"].items() if key not in theirs}
    return type(resource).model_validate({**document, "metadata": {**metadata, **identity}}, by_alias=True)
