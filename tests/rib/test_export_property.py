"""The property that defines the export log, over random operations and reading speeds.

At any time, replaying what a peer was sent gives exactly what it may have as of its cursor; at rest, as
of now. The model below keeps the whole history of the Loc-RIB's best paths and knows nothing of logs.
"""

from ipaddress import ip_network
from itertools import islice

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bgpd.rib import export_log
from bgpd.rib.decision import best, ordered
from bgpd.rib.export_log import Cursor
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Path, Source, SourceKind
from bgpd.rib.reflection import Speaker, Target, export_to
from bgpd.rib.update_group import AddPathGroup, UpdateGroup
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.framing import Framer
from bgpd.wire.iana import SegmentType
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from bgpd.wire.update import UpdateDecoder

SPEAKER = Speaker(65000, bytes((10, 255, 0, 1)), bytes((10, 255, 0, 2)))
PREFIXES = [nlri_of(ip_network(f"10.{n}.0.0/{16 + n % 3}")) for n in range(1, 5)]
NEXT_HOP = bytes((192, 0, 2, 1))
ATTRIBUTES = [
    AttributeSet.of(encode_attributes(next_hop=NEXT_HOP, local_pref=pref, med=med, as_path=path))
    for pref in (100, 200)
    for med in (None, 5)
    for path in ((), ((SegmentType.AS_SEQUENCE, (65001,)),), ((SegmentType.AS_SEQUENCE, (65002,)),))
]
KINDS = (
    SourceKind.CLIENT,
    SourceKind.CLIENT,
    SourceKind.NON_CLIENT,
    SourceKind.NON_CLIENT,
    SourceKind.CLIENT,
)
View = dict[bytes, bytes]


class Reader:
    """A peer: its source, its cursor, and what it has made of the messages it was sent."""

    def __init__(self, source: Source, group: UpdateGroup, add_path: bool) -> None:
        self.source = source
        self.group = group
        self.cursor: Cursor = group.join(source)
        self.view: View = {}
        families = frozenset({IPV4_UNICAST})
        receive = families if add_path else frozenset()
        self._framer = Framer()
        self._decoder = UpdateDecoder(Negotiated(families=families, add_path_receive=receive), internal=True)

    def read(self, limit: int) -> None:
        for buffer in self.cursor.take(limit):
            self._framer.feed(bytes(buffer))
        for _, body in self._framer:
            update = self._decoder.decode(body)
            assert not update.errors
            for unreach in update.unreach:
                for item in unreach.nlri:
                    self.view.pop(item, None)
            for reach in update.reach:
                for item in reach.nlri:
                    self.view[item] = reach.attributes.raw


class ExportMachine(RuleBasedStateMachine):
    """Sources announce and withdraw, readers come, read at their own speed, and go."""

    with_add_path = True

    def __init__(self) -> None:
        super().__init__()
        self.rib = LocRib(IPV4_UNICAST)
        self.sources = [
            Source(kind, f"192.0.2.{n}", bytes((10, 0, 0, n)), 65000) for n, kind in enumerate(KINDS, start=1)
        ]
        self.groups = {
            kind: UpdateGroup(self.rib, export_to(Target(kind), SPEAKER, IPV4_UNICAST))
            for kind in (SourceKind.CLIENT, SourceKind.NON_CLIENT)
        }
        self.add_path = AddPathGroup(
            self.rib, export_to(Target(SourceKind.CLIENT), SPEAKER, IPV4_UNICAST), limit=2
        )
        # Add-path makes the Loc-RIB report everything; without it, it takes shortcuts.
        self.rib.tells_all = self.with_add_path
        for group in (*self.groups.values(), self.add_path):
            group.log._slack = 64
        self.readers: dict[int, Reader] = {}
        # The reader's versions: log position -> what it should hold once everything up to there is read.
        self.history: dict[int, dict[int, View]] = {}

    # What a peer may have, straight from the definition

    def should_have(self, reader: Reader) -> View:
        group = reader.group
        if group is self.add_path:
            told = [
                (nlri, path)
                for nlri in self.rib.best
                for path in islice(ordered(self.rib.candidates(nlri)), 2)
            ]
            return {
                self.add_path.identifiers.of(path) + nlri: advert[0]
                for nlri, path in told
                if path.source is not reader.source and (advert := group.export(path)) is not None
            }
        return {
            nlri: advert[0]
            for nlri, path in self.rib.best.items()
            if path.source is not reader.source and (advert := group.export(path)) is not None
        }

    def flush(self) -> None:
        changes = self.rib.take_changes()
        for nlri in PREFIXES:
            # Whatever shortcut was taken: the best is what the decision process says of all paths.
            assert self.rib.best.get(nlri) is best(self.rib.candidates(nlri))
        for group in (*self.groups.values(), self.add_path):
            group.apply(changes)
        for number, reader in self.readers.items():
            self.history[number][reader.group.log.position] = self.should_have(reader)

    @rule(
        source=st.integers(0, 4),
        prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3, unique=True),
        attributes=st.sampled_from(ATTRIBUTES),
        refused=st.booleans(),
        raw=st.booleans(),
    )
    def announce(
        self, source: int, prefixes: list[bytes], attributes: AttributeSet, refused: bool, raw: bool
    ) -> None:
        reason = "refused" if refused and source == 1 else None
        field = b"".join(prefixes) if raw else b""
        self.rib.announce(self.sources[source], attributes, prefixes, raw=field, ineligible=reason)

    @rule(source=st.integers(0, 4), prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=4))
    def withdraw(self, source: int, prefixes: list[bytes]) -> None:
        self.rib.withdraw(self.sources[source], prefixes)

    @rule(source=st.integers(0, 4))
    def drop(self, source: int) -> None:
        self.rib.drop(self.sources[source])

    @rule(source=st.integers(0, 4))
    def restart(self, source: int) -> None:
        self.rib.mark_stale(self.sources[source])

    @rule(source=st.integers(0, 4))
    def sweep(self, source: int) -> None:
        self.rib.sweep_stale(self.sources[source])

    @rule()
    def turn(self) -> None:
        self.flush()

    @rule(number=st.integers(0, 9))
    def come_or_go(self, number: int) -> None:
        """Readers 0 to 4 are the sources; 5 to 9 are the same peers over add-path."""
        self.flush()
        reader = self.readers.pop(number, None)
        if reader is not None:
            reader.group.leave(reader.cursor)
            return
        source = self.sources[number % 5]
        group = self.add_path if number >= 5 else self.groups[source.kind]
        if number >= 5 and (source.kind is not SourceKind.CLIENT or not self.with_add_path):
            return
        reader = self.readers[number] = Reader(source, group, number >= 5)
        self.history[number] = {group.log.position: self.should_have(reader)}

    @precondition(lambda self: self.readers)
    @rule(number=st.integers(0, 9), limit=st.sampled_from((1, 60, 200, 100_000)))
    def read(self, number: int, limit: int) -> None:
        reader = self.readers.get(number)
        if reader is not None:
            reader.read(limit)

    @precondition(lambda self: self.readers)
    @rule(number=st.integers(0, 9))
    def refresh(self, number: int) -> None:
        """A route refresh: everything again, to a peer that has everything."""
        reader = self.readers.get(number)
        if reader is not None and not reader.group.log.whole:
            self.flush()
        if reader is not None and not reader.cursor.behind:
            reader.group.log.restart(reader.cursor)

    @rule()
    def rewrite(self) -> None:
        self.flush()
        for group in (*self.groups.values(), self.add_path):
            if group.log.based:
                group.log.rebase()

    @invariant()
    def exact_as_of_the_cursor(self) -> None:
        for number, reader in self.readers.items():
            if not reader.cursor.behind:
                position = reader.group.log.position
                assert (
                    reader.view == self.history[number][max(p for p in self.history[number] if p <= position)]
                )

    def teardown(self) -> None:
        """At rest everybody has exactly what it may have."""
        self.flush()
        for reader in self.readers.values():
            while reader.cursor.behind:
                reader.read(100)
            assert reader.view == self.should_have(reader)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every mechanism of the log come into play at the size of a test."""
    monkeypatch.setattr(export_log, "SLACK_BATCHES", 4)
    monkeypatch.setattr(export_log, "BATCH_OCTETS", 150)


class PlainMachine(ExportMachine):
    """The same where nobody wants to hear of more than the best path."""

    with_add_path = False


@pytest.mark.parametrize("machine", [ExportMachine, PlainMachine])
def test_replaying_what_a_peer_was_sent_gives_what_it_may_have(machine: type[ExportMachine]) -> None:
    effort = settings(
        max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=effort)


def test_rfc4456_6_may_advertise() -> None:
    """A non-client's route goes to clients only; a client's to everybody."""
    sources = {kind: Source(kind, "192.0.2.1", bytes((10, 0, 0, 1)), 65000) for kind in SourceKind}
    told = {
        (source, target)
        for source in SourceKind
        for target in (SourceKind.CLIENT, SourceKind.NON_CLIENT)
        if export_to(Target(target, local_asn=65000), SPEAKER, IPV4_UNICAST)(
            Path(sources[source], ATTRIBUTES[0])
        )
    }
    assert (SourceKind.NON_CLIENT, SourceKind.NON_CLIENT) not in told
    assert len(told) == 2 * len(SourceKind) - 1
