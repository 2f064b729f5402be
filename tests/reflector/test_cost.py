"""What one client can make the reflector do with floods of small messages: counted, never timed."""

import tracemalloc

import pytest

from bgpd.rib.export_log import ExportLog
from bgpd.wire.interner import Interner
from reflector.core import Reflector
from tests.reflector.simulated import V4, SimulatedPeer, reflector

TABLE = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(1000)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The octets of each log that is written anew."""
    found: list[int] = []
    rebase = ExportLog.rebase

    def counted(log: ExportLog) -> None:
        rebase(log)
        found.append(log.octets)

    monkeypatch.setattr(ExportLog, "rebase", counted)
    return found


def speaking() -> tuple[Reflector, SimulatedPeer, SimulatedPeer]:
    core = reflector()
    one, other = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    one.announce(*TABLE, communities=tuple(range(200)))
    other.turn()
    return core, one, other


@pytest.mark.plain
def test_a_flood_of_refresh_requests_has_the_table_encoded_at_a_bounded_rate(written: list[int]) -> None:
    """With a change before each request, so that the log never begins with the present state."""
    core, one, other = speaking()
    for n, prefix in enumerate(TABLE[:300]):
        one.announce(prefix, med=n, communities=tuple(range(900)))
    written.clear()
    seconds = 3
    for turn in range(40 * seconds):
        core.tick(turn / 40)
        one.announce(TABLE[0], med=turn)
        other.refresh(now=turn / 40)
        other.turn()
    table = written[0]
    assert sum(written) < (seconds << 22) + 2 * table
    assert 1 < len(written) < 40 * seconds / 4


@pytest.mark.plain
def test_refresh_requests_that_nothing_happened_between_encode_nothing(written: list[int]) -> None:
    _core, _one, other = speaking()
    other.refresh()
    other.turn()
    written.clear()
    for _ in range(50):
        other.refresh()
        other.turn()
    assert written == []


def test_withdrawals_of_what_was_never_announced_change_and_keep_nothing() -> None:
    core, one, other = speaking()
    unknown = [f"172.16.{n}.0/24" for n in range(200)]
    one.withdraw(*unknown)  # fills what is filled once
    changes = core.changes
    told = len(other.messages)
    tracemalloc.start()
    try:
        one.withdraw(*unknown)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            one.withdraw(*unknown)
            core.flush()
        assert tracemalloc.get_traced_memory()[0] - before < 2_000
    finally:
        tracemalloc.stop()
    assert core.changes == changes
    assert len(other.turn().messages) == told


@pytest.mark.plain
def test_a_prefix_whose_attributes_change_for_ever_keeps_a_bounded_number_of_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Interner, "SWEEP_FLOOR", 1 << 18)
    core, one, other = speaking()
    interner = one.hears.interner
    interner.sweep()
    held = []
    for turn in range(3000):
        one.announce(TABLE[0], med=turn, communities=tuple(range(turn, turn + 50)))
        core.flush()
        held.append(len(interner))
    assert max(held) < 1500
    assert other.turn().told(TABLE[0]).med == 2999
    assert len(core.ribs[V4]) == len(TABLE)
