"""The update groups of one speaker: peers that are told the same bytes read one log.

What must be equal for that is in `GroupKey`: the family, what the session negotiated, and the export policy.
A group exists while somebody reads it.
"""

from collections.abc import Iterator, Mapping

from bgpd.plan.policy import Decision, Judge
from bgpd.plan.route_policy import changed, facts_of, med_abroad
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY
from bgpd.rib.changes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Path
from bgpd.rib.reflection import Advert, Export, Speaker, Target, export_to, last_resort, told_to
from bgpd.rib.update_group import AddPathGroup, ExportOfPrefix, PathIdentifiers, UpdateGroup
from bgpd.wire.attributes import rewrite
from bgpd.wire.errors import UnsendableError
from bgpd.wire.iana import AttributeCode
from bgpd.wire.nlri import IPV4_UNICAST, Family, numbers_of
from reflector.member import GroupKey, Member, Reading


class Groups:
    """The groups that are read, by their keys."""

    def __init__(self, speaker: Speaker, ribs: Mapping[Family, LocRib]) -> None:
        self.draining = False
        self._speaker = speaker
        self._ribs = ribs
        self._by_key: dict[GroupKey, UpdateGroup] = {}
        self._identifiers = {family: PathIdentifiers() for family in ribs}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[UpdateGroup]:
        return iter(self._by_key.values())

    def of(self, member: Member, family: Family) -> tuple[GroupKey, UpdateGroup]:
        """The group a member with a session belongs to by what holds now, made if there is none."""
        negotiated, options = member.negotiated, member.options
        if negotiated is None:
            raise ValueError("a member without a session reads no log")
        adds_paths = options.add_path_limit if family in negotiated.add_path_send else 0
        target = Target(
            kind=options.kind,
            asn4=negotiated.asn4,
            local_asn=options.local_asn or self._speaker.asn,
            next_hop=member.own_next_hop(family),
            long_lived=any(family == known for known, _, _ in negotiated.long_lived),
            extended_next_hop=family in negotiated.extended_next_hop,
            role=None if options.internal else options.role,
        )
        version = 4 if family == IPV4_UNICAST else 6
        filters = tuple(item for item in options.export_filters if item.version in (None, version))
        key = GroupKey(family, target, adds_paths, 65535 if negotiated.extended_message else 4096, filters)
        group = self._by_key.get(key)
        if group is None:
            by_prefix = self._filtering(key, options.internal) if filters else None
            rib = self._ribs[family]
            if adds_paths:
                group = AddPathGroup(
                    rib,
                    self._export(key),
                    limit=adds_paths,
                    identifiers=self._identifiers[family],
                    export_prefix=by_prefix,
                    max_length=key.max_length,
                )
            else:
                export = self._export(key)
                told = told_to(target, family, export)
                group = UpdateGroup(
                    rib, export, export_prefix=by_prefix, told=told, max_length=key.max_length
                )
            self._by_key[key] = group
        return key, group

    def leave(self, reading: Reading) -> bool:
        """A member reads no more; whether it was the last one, and the group is gone."""
        reading.group.leave(reading.cursor)
        if reading.group.log.based or self._by_key.get(reading.key) is not reading.group:
            return False
        del self._by_key[reading.key]
        return True

    def apply(self, family: Family, changes: Changes) -> dict[UpdateGroup, Exception]:
        """Append to the logs of one family what its RIB decided anew; the groups that could not, by a defect.

        Changes are taken from the RIB once, so each group gets them whatever becomes of the others. A group
        that failed is none any more: nobody joins it, and who reads it has not what it should have.
        """
        failed: dict[UpdateGroup, Exception] = {}
        for key, group in list(self._by_key.items()):
            if key.family == family:
                try:
                    group.apply(changes)
                except Exception as defect:  # noqa: BLE001 - whatever it is, it shall cost this group alone
                    failed[group] = defect
                    del self._by_key[key]
        return failed

    def drain(self, draining: bool) -> None:
        """From now on everything looks like the last resort (RFC 8326), or as it is again."""
        self.draining = draining
        for key, group in self._by_key.items():
            group.replace_export(self._export(key))

    def _export(self, key: GroupKey) -> Export:
        """What the paths of a group look like; while draining, the last resort (RFC 8326)."""
        export = export_to(key.target, self._speaker, key.family)
        if not self.draining:
            return export
        return lambda path: self._drained(export(path))

    def _filtering(self, key: GroupKey, internal: bool) -> ExportOfPrefix:
        """Export through the filters of a session: they see the path as learned, then it is exported."""
        filters, family = key.filters, key.family
        export = export_to(key.target, self._speaker, family)

        def advert_of(path: Path, decision: Decision | None) -> Advert | None:
            if decision is None:
                return export(path)
            if not decision.accept:
                return None
            try:
                attributes = changed(path.attributes, decision)
                advert = export(Path(path.source, attributes, None, path.path_id, path.long_lived_stale))
                if advert is not None and not internal:
                    advert = _told_abroad(advert, med_abroad(path.attributes, decision))
            except UnsendableError:
                return None
            return advert

        # Mostly many prefixes of one path follow each other, and few rules decide them.
        judged: Path | None = None
        judge: Judge | None = None
        adverts: dict[int, Advert | None] = {}

        def export_prefix(nlri: bytes, path: Path) -> Advert | None:
            nonlocal judged, judge
            if judge is None or path is not judged:
                facts = facts_of(nlri, family, path.attributes, DEFAULT_ROUTE_PRIORITY)
                judged, judge = path, Judge(filters, facts, internal)
                adverts.clear()
            decision = judge.decide(*numbers_of(nlri, family))
            rule = id(decision)  # the judge has one for each
            if rule not in adverts:
                adverts[rule] = advert_of(path, decision)
            return self._drained(adverts[rule])

        return export_prefix

    def _drained(self, advert: Advert | None) -> Advert | None:
        """While draining, every path is told as the last resort (RFC 8326), if the mark has room."""
        if advert is None or not self.draining:
            return advert
        attributes, next_hop = advert
        try:
            return last_resort(attributes), next_hop
        except UnsendableError:
            return None


def _told_abroad(advert: Advert, med: int | None) -> Advert:
    """A path for another AS with this MULTI_EXIT_DISC; None leaves it as it is."""
    raw, next_hop = advert
    if med is not None:
        raw = rewrite(raw, {AttributeCode.MULTI_EXIT_DISC: med.to_bytes(4, "big")})
    return raw, next_hop
