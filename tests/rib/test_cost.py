"""What one peer can make us do and keep: counted in steps and octets, never in time.

A step is one operation of the interpreter; twice the input may take about twice the steps, and what is
quadratic takes four times as many. Octets are those that Python allocated. Each test is an attack that one
peer, or a few that stop reading, can lead with a small message or an ordinary table.
"""

import random
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import islice
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.rib import decision, export_log
from bgpd.rib.changes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.path import Path, Source, SourceKind
from bgpd.rib.reflection import Speaker, Target, export_to, ineligibility, told_to
from bgpd.rib.update_group import AddPathGroup, UpdateGroup
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.iana import SegmentType, WellKnownCommunity
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of

pytestmark = pytest.mark.plain  # steps of the interpreter are not taken by machine code

SPEAKER = Speaker(65000, bytes((10, 255, 0, 1)), bytes((10, 255, 0, 2)))
NEXT_HOP = bytes((192, 0, 2, 9))
PREFIX, OTHER = (nlri_of(ip_network(text)) for text in ("10.1.0.0/24", "192.168.0.0/24"))
EXPORT = export_to(Target(SourceKind.CLIENT), SPEAKER, IPV4_UNICAST)


@cache
def source(number: int, kind: SourceKind = SourceKind.CLIENT) -> Source:
    return Source(kind, str(ip_address((192 << 24) + number)), number.to_bytes(4, "big"), 65000 + number)


def attributes(**more: Any) -> AttributeSet:
    return AttributeSet.of(encode_attributes(next_hop=NEXT_HOP, **({"local_pref": 100} | more)))


def prefixes(count: int) -> list[bytes]:
    return [nlri_of(ip_network((10 << 24 | n << 8, 24))) for n in range(count)]


def steps(action: Callable[[], object]) -> int:
    """How many operations the interpreter takes for it, those of the collector aside."""
    if sys.version_info >= (3, 12):
        return _counted(action)
    else:
        return _traced(action)


def _traced(action: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


if sys.version_info >= (3, 12):  # a trace misses operations there

    def _counted(action: Callable[[], object]) -> int:
        count = 0

        def counts(_code: object, _offset: int) -> None:
            nonlocal count
            count += 1

        monitoring, event = sys.monitoring, sys.monitoring.events.INSTRUCTION
        monitoring.use_tool_id(monitoring.PROFILER_ID, "steps")
        monitoring.register_callback(monitoring.PROFILER_ID, event, counts)
        monitoring.set_events(monitoring.PROFILER_ID, event)
        try:
            action()
        finally:
            monitoring.set_events(monitoring.PROFILER_ID, 0)
            monitoring.free_tool_id(monitoring.PROFILER_ID)
        return count


def linear(prepared: Callable[[int], Callable[[], object]], size: int = 200) -> None:
    """Twice the size may take twice the steps, with some allowance; four times would be quadratic."""
    few, many = (steps(prepared(n)) for n in (size, 2 * size))
    assert few > size / 2, "nothing was done"
    assert many < 2.6 * few


def allocated(action: Callable[[], object]) -> int:
    """Octets that are allocated at its worst moment beyond what was before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def items(count: int) -> list[bytes]:
    """Many paths of one prefix."""
    return [n.to_bytes(4, "big") + PREFIX for n in range(1, count + 1)]


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_many_paths_of_one_prefix_are_withdrawn_at_the_price_of_each(order: str) -> None:
    def prepared(count: int) -> Callable[[], object]:
        rib, peer, all_items = LocRib(IPV4_UNICAST), source(1), items(count)
        rib.announce(peer, attributes(), all_items, add_path=True)
        rib.take_changes()
        if order == "backward":
            all_items.reverse()
        elif order == "shuffled":
            random.Random(1).shuffle(all_items)

        def withdraw() -> None:
            rib.withdraw(peer, all_items, add_path=True)
            rib.take_changes()

        return withdraw

    linear(prepared)


def test_a_prefix_that_every_peer_has_goes_at_the_price_of_each() -> None:
    def prepared(count: int) -> Callable[[], object]:
        rib = LocRib(IPV4_UNICAST)
        peers = [source(n) for n in range(count)]
        for peer in peers:
            rib.announce(peer, attributes(), [PREFIX])
        rib.take_changes()

        def leave() -> None:
            for peer in reversed(peers):
                rib.drop(peer)

        return leave

    linear(prepared)


@pytest.mark.parametrize("med", [False, True])
def test_paths_that_may_not_be_told_are_passed_over_at_the_price_of_each(med: bool) -> None:
    """An add-path group looks for the best path it may tell, and a peer marks all of its own NO_ADVERTISE."""
    secret = (WellKnownCommunity.NO_ADVERTISE,)

    def prepared(count: int) -> Callable[[], object]:
        rib, peer = LocRib(IPV4_UNICAST), source(1)
        group = AddPathGroup(rib, EXPORT, limit=2)
        group.join(source(2))
        for n, item in enumerate(items(count)):
            path = ((SegmentType.AS_SEQUENCE, (65001 + n % 3,)),)
            said = attributes(communities=secret, med=n if med else None, as_path=path)
            rib.announce(peer, said, [item], add_path=True)
        return lambda: group.apply(rib.take_changes())

    linear(prepared)


PATHS = st.builds(
    lambda peer, first, med, pref, external, path_id: Path(
        source(peer, SourceKind.EXTERNAL if external else SourceKind.CLIENT),
        attributes(local_pref=pref, med=med, as_path=((SegmentType.AS_SEQUENCE, (first,)),) if first else ()),
        path_id=path_id,
    ),
    st.integers(1, 3),
    st.sampled_from((0, 65001, 65002)),
    st.sampled_from((None, 1, 2)),
    st.sampled_from((100, 100, 200)),
    st.booleans(),
    st.integers(0, 50),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PATHS, max_size=12, unique_by=lambda p: (p.source.bgp_identifier, p.source.kind, p.path_id)))
def test_the_order_of_paths_is_the_best_and_then_the_best_of_the_rest(paths: list[Path]) -> None:
    """The quick way to order paths is what elimination, again and again, comes to."""
    rest, wanted = list(paths), []
    while (choice := decision.best(rest)) is not None:
        wanted.append(choice)
        rest.remove(choice)
    for cost in (None, lambda _next_hop: 1):
        found = list(decision.ordered(paths, cost))
        assert [id(path) for path in found] == [id(path) for path in wanted]


def test_beginning_to_say_everything_again_copies_nothing() -> None:
    """A peer with a full table that sends the beginning of a refresh and one route, in turn, for ever."""
    rib, peer, table = LocRib(IPV4_UNICAST), source(1), prefixes(4000)
    rib.announce(peer, attributes(), table)
    other = attributes(med=1)
    assert len(rib.received(peer)) == 4000

    def in_turn() -> None:
        for at in range(100):
            rib.mark_stale(peer)
            rib.announce(peer, other, table[at : at + 1])
            rib.take_changes()

    assert allocated(in_turn) < 20_000  # one copy of what it has is ten times that
    assert rib.stale_count(peer) == 3999
    assert rib.sweep_stale(peer) == 3999
    assert list(rib.received(peer)) == [table[99]]


def stalled_group(monkeypatch: pytest.MonkeyPatch, readers: int) -> tuple[LocRib, UpdateGroup, list[Source]]:
    """A group with readers of whom each stopped reading at another moment."""
    monkeypatch.setattr(export_log, "BATCH_OCTETS", 1 << 30)
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(rib, EXPORT)
    group.log._slack = 1
    return rib, group, [source(n) for n in range(10, 10 + readers)]


def test_readers_that_stopped_at_different_places_are_caught_up_in_one_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prepared(count: int) -> Callable[[], object]:
        rib, group, readers = stalled_group(monkeypatch, count)
        group.log._slack = 1 << 30
        group.join(source(9))
        for n, reader in enumerate(readers):
            group.join(reader).take(1 << 30)
            rib.announce(source(1), attributes(med=n), prefixes(1))
            group.apply(rib.take_changes())
        group.log._slack = 1
        return group.log.rebase

    linear(prepared)


def test_a_stalled_source_is_told_in_few_messages_what_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table has as many attribute sets as prefixes, and all of it changed while it did not read."""
    rib, group, (reader,) = stalled_group(monkeypatch, 1)
    cursor = group.join(reader)
    group.log._slack = 1 << 30
    for turn in range(2):
        for n, nlri in enumerate(prefixes(500)):
            rib.announce(reader, attributes(med=500 * turn + n), [nlri])
        group.apply(rib.take_changes())
    group.log._slack = 1
    group.log.rebase()
    told = b"".join(bytes(buffer) for buffer in cursor.take(1 << 30))
    assert told.count(b"\xff" * 16) < 4
    assert len(told) < 500 * 4 + 4 * 23


def test_who_joins_again_and_again_has_the_log_written_anew_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small changes pile up in small batches, but a large table is worth many of them."""
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(rib, EXPORT)
    group.join(source(9))
    table = prefixes(20_000)
    for at in range(0, len(table), 400):
        rib.announce(source(1), attributes(med=at), table[at : at + 400])
    group.apply(rib.take_changes())
    written = 0
    rebase = group.log.rebase

    def counted() -> None:
        nonlocal written
        written += 1
        rebase()

    monkeypatch.setattr(group.log, "rebase", counted)
    for turn in range(1000):
        rib.announce(source(2), attributes(med=turn), [OTHER])
        group.apply(rib.take_changes())
        group.leave(group.join(source(3)))
    assert written <= 1


@pytest.mark.parametrize("what", ["communities", "as_path"])
def test_looking_at_long_lists_leaves_nothing_behind(what: str) -> None:
    """Octets that might be a well-known community, or our AS, have a list looked at, in every set anew."""
    numbers = tuple(range(0xFFFF8000, 0xFFFF8000 + 200))
    sets = [
        attributes(med=n, communities=numbers)
        if what == "communities"
        else attributes(med=n, as_path=((SegmentType.AS_SEQUENCE, (1 << 16, SPEAKER.asn << 16, *numbers)),))
        for n in range(200)
    ]
    peer = source(1)
    target = Target(SourceKind.EXTERNAL, local_asn=65000)
    export = EXPORT if what == "as_path" else export_to(target, SPEAKER, IPV4_UNICAST)

    def look() -> None:
        for one in sets:
            assert ineligibility(one, SPEAKER) is None
            assert export(Path(peer, one)) is not None

    assert allocated(look) < 200_000  # decoded and kept, each list has about 8,000


def test_taking_a_few_of_many_paths_takes_no_more_than_a_look_at_each() -> None:
    def prepared(count: int) -> Callable[[], object]:
        peer = source(1)
        paths = [Path(peer, attributes(local_pref=n), path_id=n) for n in range(count)]
        for path in paths:
            assert path.ranked()
        return lambda: list(islice(decision.ordered(paths), 3))

    linear(prepared)


def test_what_changed_is_worked_out_once_for_all_groups() -> None:
    """The second group takes a few steps for all prefixes that went from one path to another."""
    rib = LocRib(IPV4_UNICAST)
    groups = [UpdateGroup(rib, EXPORT) for _ in range(2)]
    for group in groups:
        group.join(source(9))
    table = prefixes(900)
    rib.announce(source(1), attributes(med=1), table)
    changes = rib.take_changes()
    for group in groups:
        group.apply(changes)
    rib.announce(source(1), attributes(med=2), table)
    changes = rib.take_changes()
    groups[0].apply(changes)
    assert steps(lambda: groups[1].apply(changes)) < len(table)


def test_nobody_looks_for_the_best_path_of_what_is_gone() -> None:
    """Unless a path has come since."""
    rib, table = LocRib(IPV4_UNICAST), prefixes(100)
    rib.announce(source(1), attributes(), table)
    rib.take_changes()

    def withdrawn() -> Changes:
        changes = rib.take_changes()
        assert len(changes.moved) == 50
        return changes

    rib.withdraw(source(1), table[:50])
    gone = withdrawn()
    rib.withdraw(source(1), table[50:])
    rib.announce(source(1), attributes(), table[50:51])
    back = withdrawn()

    class Best(dict[bytes, Path]):
        def get(self, _nlri: bytes, _default: object = None) -> Any:
            raise LookupError

    assert [(new, nlri) for _old, new, nlri in gone.moves(Best())] == [(None, table[:50])]
    with pytest.raises(LookupError):
        back.moves(Best())


def test_paths_that_all_are_told_need_no_order() -> None:
    rib = LocRib(IPV4_UNICAST)
    for number in range(3):
        rib.announce(source(number), attributes(), [PREFIX])
    assert set(rib.leading(PREFIX, 3)) == set(rib.leading(PREFIX, 2))
    assert [path.source for path in rib.leading(PREFIX, 2)] == [source(0), source(1), source(2)]
    assert 4 * steps(lambda: list(rib.leading(PREFIX, 3))) < steps(lambda: list(rib.leading(PREFIX, 2)))


def test_prefixes_in_a_row_with_the_same_paths_take_few_steps_each() -> None:
    def told(count: int) -> int:
        rib = LocRib(IPV4_UNICAST)
        group = AddPathGroup(rib, EXPORT, limit=8)
        group.join(source(9))
        for number in range(4):
            rib.announce(source(number), attributes(local_pref=100 - number), prefixes(count))
        changes = rib.take_changes()
        return steps(lambda: group.apply(changes))

    assert told(1000) - told(500) < 500 * 450


@pytest.mark.parametrize("goes", [0, 3])
def test_prefixes_of_redundant_tables_share_their_paths(goes: int) -> None:
    """Also of twenty routers, and when one of them goes."""
    rib = LocRib(IPV4_UNICAST)
    table = prefixes(100)
    for number in range(20):
        rib.announce(source(number), attributes(local_pref=200 - number), table)
    assert len({id(rib.choices(nlri)) for nlri in table}) == 1
    rib.drop(source(goes))
    rib.take_changes()
    assert len({id(rib.choices(nlri)) for nlri in table}) == 1
    assert len(rib.choices(table[0])) == 19


def test_a_table_that_is_not_the_best_is_kept_by_prefix_only_once() -> None:
    """Until somebody asks what its source said, it takes room for the choices of each prefix alone."""
    rib = LocRib(IPV4_UNICAST)
    first, second = prefixes(20_000), prefixes(20_000)
    rib.announce(source(1), attributes(), first)
    worse = attributes(local_pref=50)
    taken = allocated(lambda: rib.announce(source(2), worse, second))
    asked = allocated(lambda: rib.received(source(2)))
    assert asked > taken / 2, "it was sorted before"
    assert len(rib.received(source(2))) == len(second)


def test_a_table_that_is_withdrawn_is_written_anew_only_for_who_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A withdrawal takes hardly any room, so it does not count as what is left of an announcement does."""
    rib = LocRib(IPV4_UNICAST)
    group = UpdateGroup(rib, EXPORT)
    group.log._slack = 100
    cursor = group.join(source(9))
    table = prefixes(1000)
    rib.announce(source(1), attributes(), table)
    group.apply(rib.take_changes())
    cursor.take(1 << 20)
    written: list[int] = []
    real = group.log.rebase

    def counted() -> None:
        written.append(len(rib))
        real()

    monkeypatch.setattr(group.log, "rebase", counted)
    held = [group.log.octets]
    for at in range(0, 900, 50):
        rib.withdraw(source(1), table[at : at + 50])
        group.apply(rib.take_changes())
        cursor.take(1 << 20)
        held.append(group.log.octets)
    assert not written
    assert min(held[:10]) == held[0], "less than half of it is gone"
    assert max(held[11:]) < held[0]
    joiner = group.join(source(8))
    assert written == [100]
    assert joiner.lag < held[0] / 5


def test_a_route_for_another_as_is_rewritten_in_few_steps() -> None:
    export = export_to(Target(SourceKind.EXTERNAL, local_asn=65000), SPEAKER, IPV4_UNICAST)
    path = ((SegmentType.AS_SEQUENCE, (65001, 65002)),)
    usual = attributes(as_path=path, med=1, communities=(1, 2))
    odd = AttributeSet.of(usual.raw + b"\xe0\x63\x01\x00")
    quick, careful = Path(source(1), usual), Path(source(1), odd)
    assert 2 * steps(lambda: export(quick)) < steps(lambda: export(careful))


def test_what_is_withdrawn_is_not_worked_out_once_more() -> None:
    target = Target(SourceKind.EXTERNAL, local_asn=65000)
    export = export_to(target, SPEAKER, IPV4_UNICAST)

    def withdrawn(told: Callable[[Path], bool] | None) -> int:
        rib = LocRib(IPV4_UNICAST)
        group = UpdateGroup(rib, export, told=told)
        group.join(source(9))
        for number, nlri in enumerate(prefixes(50)):
            rib.announce(source(1), attributes(as_path=((SegmentType.AS_SEQUENCE, (number + 1,)),)), [nlri])
        group.apply(rib.take_changes())
        rib.drop(source(1))
        changes = rib.take_changes()
        return steps(lambda: group.apply(changes))

    assert 1.5 * withdrawn(told_to(target, IPV4_UNICAST, export)) < withdrawn(None)
