"""The last good versions of what cannot be read at the moment, kept for the next life of a service.

A resource that was overwritten with something unreadable counts as it was. A service that is restarted
meanwhile would take it for absent, and drop a peer or a pool. So whatever it goes on counting is in its run
directory too, for as long as it has to; otherwise the file is not there.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from bgpd.datastore.store import Changes, Snapshot
from bgpd.notes import read_note, unusable, write_whole
from bgpd.resources import Key, Resource, ResourceError, ResourceSet, decode, encode

NAME = "last-good.json"

log = structlog.get_logger(__name__)


class LastGood:
    """A file in ``directory``, a JSON list of [kind, namespace, name, stored value]; none without one."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / NAME if directory is not None else None
        self._kept: dict[Key, Resource] = {}
        self._written = True  # what could not be written is, with the next news

    def counted(self, news: Snapshot | Changes, resources: ResourceSet) -> ResourceSet:
        """What counts with an update, where ``resources`` did."""
        if isinstance(news, Snapshot):
            recalled = self.recall(news)
            return ResourceSet.of((*(entry.resource for entry in news.entries), *recalled))
        resources = resources.with_changes(_changes(news))
        self.heard(news, resources)
        return resources

    def recall(self, snapshot: Snapshot) -> Iterable[Resource]:
        """What counted before our start, of what cannot be read now."""
        unreadable = {invalid.key for invalid in snapshot.invalid}
        self._kept = {resource.key: resource for resource in self._read() if resource.key in unreadable}
        self._write()
        for key in self._kept:
            log.warning("a resource cannot be read and counts as before the restart", resource=str(key))
        return self._kept.values()

    def heard(self, news: Changes, resources: ResourceSet) -> None:
        """Keep what became unreadable, as it is in ``resources``, and forget what was repaired or removed."""
        before = dict(self._kept)
        for change in news.changes:
            self._kept.pop(change.key, None)
        for invalid in news.invalid:
            if invalid.key is None:
                continue
            if invalid.reason is None:
                self._kept.pop(invalid.key, None)
            elif (known := resources.get(invalid.key)) is not None:
                self._kept[invalid.key] = known
        if self._kept != before or not self._written:
            self._write()

    def _read(self) -> Iterator[Resource]:
        """What cannot be used of the file costs nothing else."""
        if self._path is None:
            return
        try:
            noted = list(read_note(self._path))
        except (OSError, ValueError, TypeError) as error:
            unusable(self._path, error)
            return
        for each in noted:
            try:
                kind, namespace, name, value = each
                yield decode(Key(kind, name, namespace), value.encode("utf-8", "surrogatepass"))
            except (ValueError, TypeError, AttributeError, ResourceError) as error:
                unusable(self._path, error)

    def _write(self) -> None:
        if self._path is None:
            return
        kept = [
            [key.kind, key.namespace, key.name, encode(resource).decode("utf-8", "surrogatepass")]
            for key, resource in sorted(self._kept.items())
        ]
        try:
            if kept:
                write_whole(self._path, json.dumps(kept))
            else:
                self._path.unlink(missing_ok=True)
            self._written = True
        except OSError as error:
            if self._written:
                reason = str(error)
                what = "what counts would not be known after a restart"
                log.error(what, file=str(self._path), reason=reason)
            self._written = False


def _changes(news: Changes) -> dict[Key, Resource | None]:
    """What became of which resource. One that could not be read, and is gone, may have been recalled."""
    gone = dict.fromkeys(each.key for each in news.invalid if each.key is not None and each.reason is None)
    return gone | {change.key: change.entry.resource if change.entry else None for change in news.changes}
