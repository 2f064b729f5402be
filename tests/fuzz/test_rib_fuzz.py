"""From the wire through the RIBs and back: decode, store, decide, encode again, for peers of every sort.

Crashes of other speakers came after parsing, when a route that had been accepted was compared, printed or
sent on. Here every UPDATE that a peer gets away with goes through a whole reflector, and what others are told
of it is decoded with the decoder of *their* session, in which it must be faultless. A late joiner is the
second opinion: it is told from the state, the others from its history, and both must have the same.
`CAIRN_FUZZ_EXAMPLES` sets how much; the default is bounded for every run of the tests.
"""

import os
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.rib import export_log, update_group
from bgpd.rib.path import SourceKind
from bgpd.telemetry.route_status import route_status
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import Role
from bgpd.wire.nlri import prefix_of
from reflector.core import Reflector
from reflector.member import MemberOptions
from tests.fuzz.test_wire_fuzz import updates
from tests.reflector.simulated import BOTH, V4, SimulatedPeer, graceful, reflector

EXAMPLES = int(os.environ.get("CAIRN_FUZZ_EXAMPLES", "150"))
pytestmark = pytest.mark.timeout(max(120, EXAMPLES))
CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
EXTENDED = {"extended_next_hop": ((V4, 2),), "extended_message": True}
LONG_LIVED = {
    "graceful_restart": graceful(),
    "long_lived": tuple((family, True, 600) for family in sorted(BOTH)),
}
SPEAKERS: list[dict[str, Any]] = [
    {},
    {"capabilities": {"asn4": None}},
    {"sends_paths": True},
    {"kind": EXTERNAL, "asn": 65100},
    {"kind": EXTERNAL, "asn": 65101, "options": MemberOptions(EXTERNAL, role=Role.CUSTOMER)},
    {"kind": NON_CLIENT, "capabilities": EXTENDED, "ours": EXTENDED},
    {
        "capabilities": LONG_LIVED,
        "ours": LONG_LIVED,
        "options": MemberOptions(CLIENT, long_lived_stale_time=600),
    },
]
LISTENERS: list[dict[str, Any]] = [
    {},
    {"capabilities": EXTENDED, "ours": EXTENDED},
    {"capabilities": {"asn4": None}},
    {"takes_paths": True, "options": MemberOptions(CLIENT, add_path_limit=4)},
    {"kind": NON_CLIENT},
    {"kind": EXTERNAL, "asn": 65102, "options": MemberOptions(EXTERNAL, own_next_hop=True)},
    {"kind": EXTERNAL, "asn": 70000, "capabilities": {"asn4": None}},
    {"kind": EXTERNAL, "asn": 65103, "options": MemberOptions(EXTERNAL, role=Role.PROVIDER)},
    {"capabilities": LONG_LIVED, "ours": LONG_LIVED},
]


def made(core: Reflector, number: int, sort: dict[str, Any]) -> SimulatedPeer:
    chosen: dict[str, Any] = {
        name: dict(value) if isinstance(value, dict) else value for name, value in sort.items()
    }
    return SimulatedPeer(core, number, **chosen)


class World:
    """A reflector, those who say anything at all, and those who listen."""

    def __init__(self, listeners: Sequence[dict[str, Any]] = LISTENERS) -> None:
        self.core = reflector()
        self.now = 0.0
        self.speakers = [made(self.core, n, sort).up() for n, sort in enumerate(SPEAKERS, start=1)]
        self.listens = listeners
        self.listeners = [made(self.core, 100 + n, sort).up() for n, sort in enumerate(listeners)]

    def say(self, which: int, body: bytes) -> bool:
        """One UPDATE; whether the session survived it. If not, the peer comes back at once."""
        speaker = self.speakers[which % len(self.speakers)]
        try:
            speaker.say(bytes(19) + body)
        except ProtocolError:
            speaker.down(self.now)
            speaker.up(self.now)
            return False
        return True

    def restart(self, which: int) -> None:
        """A peer goes, its routes become stale, then long-lived stale, and it comes back."""
        speaker = self.speakers[which % len(self.speakers)]
        speaker.down(self.now, BOTH)
        self.core.flush()
        self.now += 130.0
        self.core.tick(self.now)
        self.turn()
        speaker.up(self.now)

    def turn(self) -> None:
        self.core.flush()
        for listener in self.listeners:
            listener.read()

    def check(self) -> None:
        """Everybody has the same as one who asks only now, and everything can be shown."""
        self.turn()
        for number, (listener, sort) in enumerate(zip(self.listeners, self.listens, strict=True)):
            late = made(self.core, 150 + number, sort).up(self.now).read()
            assert {
                family: {item: told.attributes.raw for item, told in view.items()}
                for family, view in late.view.items()
            } == {
                family: {item: told.attributes.raw for item, told in view.items()}
                for family, view in listener.view.items()
            }
            late.down(self.now)
        for family, rib in self.core.ribs.items():
            for nlri in list(rib.prefixes()):
                for path, reason in rib.explain(nlri):
                    text = str(prefix_of(nlri, family))
                    assert route_status(text, family, path, best=False, reason=reason.value).prefix == text

    def leave(self, speakers: Iterable[SimulatedPeer] | None = None) -> None:
        """When all speakers have gone (or these, if the others said nothing) nobody has anything."""
        for speaker in self.speakers if speakers is None else speakers:
            speaker.down(self.now)
        self.turn()
        for listener in self.listeners:
            assert not any(listener.view.values())
        assert not any(len(rib) or list(rib.prefixes()) for rib in self.core.ribs.values())


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction is part of the way."""
    monkeypatch.setattr(export_log, "SLACK_BATCHES", 4)
    monkeypatch.setattr(update_group, "ExportLog", lambda *args: export_log.ExportLog(*args, slack=64))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.tuples(st.integers(0, len(SPEAKERS) - 1), updates(), st.booleans()), min_size=1, max_size=12),
    st.integers(0, len(SPEAKERS) - 1),
)
def test_what_a_peer_gets_away_with_harms_nobody(said: list[tuple[int, bytes, bool]], restarted: int) -> None:
    world = World()
    for which, body, read in said:
        world.say(which, body)
        if read:
            world.turn()
    world.restart(restarted)
    world.check()
    world.leave()


def recorded(folder: Path) -> list[bytes]:
    """The bodies of all UPDATEs of the lists, whatever their columns."""
    found = []
    for name in ("malformed.tsv", "rfc7606_updates.tsv", "update_shapes.tsv", "gobgp_bad_len.tsv"):
        for digits in re.findall(r"\b(?:[0-9a-fA-F]{2}){23,}\b", (folder / name).read_text()):
            octets = bytes.fromhex(digits)
            if octets.startswith(b"\xff" * 16):
                if octets[18] == 2:
                    found.append(octets[19:])
            else:
                found.append(octets)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_recorded_updates_damaged_a_little_harm_nobody(corpora: Path, seed: int) -> None:
    rng = random.Random(seed)
    bodies = recorded(corpora)
    assert len(bodies) > 50
    world = World()
    survived = 0
    for number in range(EXAMPLES):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
            at = rng.randrange(len(body))
            body[at] = rng.choice((0, 1, 0xFF, rng.randrange(256), body[at] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.1:
            del body[rng.randrange(len(body)) :]
        survived += world.say(rng.randrange(len(SPEAKERS)), bytes(body))
        if rng.random() < 0.3:
            world.turn()
        if number % 100 == 99:
            world.restart(rng.randrange(len(SPEAKERS)))
            world.check()
    assert survived > EXAMPLES // 10
    world.check()
    world.leave()
