"""The export log by itself: what is shared, what is skipped, and what a stalled reader costs."""

import tracemalloc
from collections.abc import Iterator

from bgpd.rib.export_log import Buffer, Cursor, ExportLog, Segment
from bgpd.rib.path import Source, SourceKind


def source(n: int) -> Source:
    return Source(SourceKind.CLIENT, f"192.0.2.{n}", bytes((10, 0, 0, n)), 65000)


class Store:
    """A key-value store replicated through a log. A message is `key=value;`, or `key=;` for a withdrawal."""

    def __init__(self, slack: int = 10_000) -> None:
        self.state: dict[bytes, tuple[bytes, Source]] = {}
        self.log = ExportLog(self.snapshot, self.catch_up, slack=slack)

    def snapshot(self) -> Iterator[Segment]:
        for key, (value, skip) in sorted(self.state.items(), key=lambda item: item[1][1].address):
            yield Segment(b"%b=%b;" % (key, value), ([key],), skip)

    def catch_up(self, touched: set[bytes]) -> Iterator[Segment]:
        for key in touched:
            if key in self.state:
                value, skip = self.state[key]
                yield Segment(b"%b=%b;" % (key, value), ([key],), skip)
                yield Segment(b"%b=;" % key, ([key],), only=skip)
            else:
                yield Segment(b"%b=;" % key, ([key],))

    def put(self, key: bytes, value: bytes, by: Source) -> None:
        before = self.state.get(key)
        self.state[key] = value, by
        segments = [Segment(b"%b=%b;" % (key, value), ([key],), by)]
        if before is not None and before[1] is not by:
            segments.append(Segment(b"%b=;" % key, ([key],), only=by))
        self.log.append(segments, 2 if before is not None else 0)

    def expected(self, reader: Source) -> dict[bytes, bytes]:
        return {key: value for key, (value, by) in self.state.items() if by is not reader}


def replay(buffers: list[Buffer], view: dict[bytes, bytes]) -> None:
    for message in b"".join(buffers).split(b";")[:-1]:
        key, value = message.split(b"=")
        if value:
            view[key] = value
        else:
            view.pop(key, None)


def read_all(cursor: Cursor, view: dict[bytes, bytes]) -> None:
    while cursor.behind:
        replay(cursor.take(1), view)


def test_readers_share_the_bytes() -> None:
    store, writer = Store(), source(1)
    cursors = [store.log.join(source(n)) for n in range(2, 5)]
    store.put(b"k", b"v", writer)
    taken = [cursor.take(1000) for cursor in cursors]
    assert taken[0] == [b"k=v;"]
    assert all(buffers[0] is taken[0][0] for buffers in taken)


def test_a_peer_is_not_sent_its_own() -> None:
    store, one, two = Store(), source(1), source(2)
    cursor = store.log.join(one)
    store.log.append(
        [Segment(b"a;", ([b"a"],), two), Segment(b"b;", ([b"b"],), one), Segment(b"c;", ([b"c"],), two)],
        False,
    )
    store.log.append([Segment(b"d;", ([b"d"],), one)], 0)
    assert b"".join(cursor.take(1000)) == b"a;c;"
    assert not cursor.behind


def test_an_addressed_segment_reaches_one_peer_after_all_others() -> None:
    store, one, two = Store(), source(1), source(2)
    first, second = store.log.join(one), store.log.join(two)
    store.log.append([Segment(b"only;", ([b"k"],), only=one), Segment(b"all;", ([b"k"],))], 1)
    assert b"".join(first.take(1000)) == b"all;only;"
    assert b"".join(second.take(1000)) == b"all;"


def test_a_turn_takes_whole_batches_up_to_its_limit_and_the_lag_is_what_lies_ahead() -> None:
    store, own = Store(), source(2)
    cursor = store.log.join(own)
    for by in (source(1), own, source(1)):
        store.put(b"key%d" % len(store.state), b"value", by)
    assert (cursor.lag, cursor.behind) == (33, True)
    assert (cursor.take(10), cursor.lag) == ([b"key0=value;"], 22)
    assert (cursor.take(12), cursor.lag) == ([b"key2=value;"], 0)
    store.put(b"key3", b"value", own)
    assert (cursor.take(1), cursor.lag, cursor.behind) == ([], 0, False)
    assert store.log.join(source(3)).lag == 44


def test_a_joiner_takes_a_large_table_in_several_turns() -> None:
    store = Store()
    for n in range(10):
        store.state[b"key%d" % n] = b"v" * 100_000, source(1)
    turns: list[int] = []
    cursor = store.log.join(source(2))
    while cursor.behind:
        ahead = cursor.lag
        turns.append(len(b"".join(cursor.take(1))))
        assert cursor.lag == ahead - turns[-1]
    assert (len(turns), sum(turns), cursor.lag) == (5, 1_000_060, 0)


def test_a_joiner_starts_with_the_whole_state_and_costs_no_encoding() -> None:
    store, writer = Store(), source(1)
    keep = store.log.join(source(9))
    for n in range(50):
        store.put(b"k%d" % n, b"v", writer)
    encodings = 0

    def counting() -> Iterator[Segment]:
        nonlocal encodings
        encodings += 1
        yield from Store.snapshot(store)

    store.log._snapshot = counting
    for n in range(2, 8):
        view: dict[bytes, bytes] = {}
        read_all(store.log.join(source(n)), view)
        assert view == store.expected(source(n))
    assert encodings == 0
    assert keep.behind


def test_a_stalled_reader_costs_about_one_table() -> None:
    """It reads nothing while the others follow 40,000 changes; then it catches up exactly."""
    store, writer, other = Store(slack=2000), source(1), source(2)
    stalled, lively = store.log.join(source(3)), store.log.join(source(4))
    views: tuple[dict[bytes, bytes], dict[bytes, bytes]] = {}, {}
    for n in range(200):
        store.put(b"key%d" % n, b"0" * 50, writer)
    table = sum(len(key) + len(value) for key, (value, _) in store.state.items())
    read_all(lively, views[1])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(40_000):
        store.put(b"key%d" % (n % 200), b"%050d" % n, writer if n % 3 else other)
        if n % 100 == 0:
            read_all(lively, views[1])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert stalled.lag < 10 * table
    assert grown < 500_000  # the 40,000 changes alone are 2,400,000 octets
    read_all(stalled, views[0])
    read_all(lively, views[1])
    assert views[0] == views[1] == store.expected(source(3))


def test_one_prefix_that_changes_often_with_long_attributes_does_not_fill_the_log() -> None:
    """Counted by prefixes its garbage is the small part, while there are more prefixes than changes."""
    store = Store(slack=2000)
    reader = store.log.join(source(2))
    for n in range(2000):
        store.put(b"key%d" % n, b"0", source(1))
    for n in range(1000):
        store.put(b"key1", b"%05000d" % n, source(1))
        assert store.log.octets < 500_000
    view: dict[bytes, bytes] = {}
    read_all(reader, view)
    assert view == store.expected(source(2))


def test_changes_one_by_one_do_not_fill_memory() -> None:
    """Each has a batch of its own, which takes more than what it holds."""
    store = Store(slack=2000)
    store.log.join(source(2))
    segments = []
    for n in range(20_000):
        key = b"key%d" % n
        store.state[key] = (b"0", source(1))
        segments.append(Segment(b"%b=0;" % key, ((key,),), source(1)))
    store.log.append(segments, 0)
    for n in range(10_000):
        store.put(b"key%d" % n, b"1", source(1))
        assert len(store.log) < 5000


def test_a_reader_with_only_the_newest_ahead_is_not_stalled() -> None:
    """However much went in one turn: to encode the same once more for it would help nobody."""
    store = Store(slack=100)
    for n in range(100):
        store.put(b"key%d" % n, b"value", source(1))
    prompt, slow = store.log.join(source(2)), store.log.join(source(3))
    view: dict[bytes, bytes] = {}
    read_all(prompt, view)
    gone = list(store.state)
    store.state.clear()
    store.log.append([Segment(b"".join(b"%b=;" % key for key in gone), (gone,))], 2 * len(gone))
    assert prompt.floor == 0
    assert slow.floor > 0
    read_all(prompt, view)
    assert view == {}


def test_a_stalled_source_forgets_what_became_its_own() -> None:
    """While it stood still, keys it had been told moved to itself: catching up must take them back."""
    store, writer, stalled_source = Store(slack=100), source(1), source(3)
    stalled = store.log.join(stalled_source)
    view: dict[bytes, bytes] = {}
    for n in range(20):
        store.put(b"key%d" % n, b"x" * 20, writer)
    read_all(stalled, view)
    assert len(view) == 20
    for round_ in range(30):
        for n in range(20):
            store.put(b"key%d" % n, b"%020d" % round_, stalled_source if n % 2 else writer)
    read_all(stalled, view)
    assert view == store.expected(stalled_source)
    assert len(view) == 10


def test_without_readers_there_is_no_log() -> None:
    store, writer = Store(), source(1)
    cursor = store.log.join(source(2))
    store.put(b"k", b"v", writer)
    store.log.leave(cursor)
    assert not store.log.based
    assert len(store.log) == 0
    view: dict[bytes, bytes] = {}
    read_all(store.log.join(source(3)), view)
    assert view == {b"k": b"v"}


def test_a_refresh_sends_everything_again() -> None:
    store, writer = Store(), source(1)
    cursor = store.log.join(source(2))
    store.put(b"k", b"1", writer)
    store.put(b"k", b"2", writer)
    view: dict[bytes, bytes] = {}
    read_all(cursor, view)
    store.log.restart(cursor)
    again: dict[bytes, bytes] = {}
    read_all(cursor, again)
    assert again == view == {b"k": b"2"}
