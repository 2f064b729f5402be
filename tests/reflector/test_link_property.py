"""What is taken from a log arrives, whatever the sockets do: peers with next to no room in them, over `Link`.

Both families at once, several paths a prefix, refreshes one upon the other, policies that change, compaction
at every other step, peers that stop reading. At rest all have what a fresh reflector would have told them.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from bgpd.rib import export_log, update_group
from bgpd.rib.path import SourceKind
from bgpd.wire.capabilities import AddPath
from bgpd.wire.messages import KEEPALIVE
from bgpd.wire.nlri import Family
from reflector import core, link
from reflector.link import Link
from reflector.member import MemberOptions
from tests.reflector.simulated import V4, V6, SimulatedPeer, adds_path, reflector
from tests.reflector.test_core_property import FILTERS

pytestmark = pytest.mark.plain
CLIENT, NON_CLIENT = SourceKind.CLIENT, SourceKind.NON_CLIENT
ROUNDS, STEPS = 10, 25
PREFIXES = [*(f"10.1.{n}.0/24" for n in range(12)), *(f"2001:db8:{n}::/48" for n in range(8))]
BOTH_WAYS = {"add_path": adds_path(AddPath.SEND | AddPath.RECEIVE)}
KINDS: dict[int, dict[str, Any]] = {
    1: {},
    2: {"capabilities": {"enhanced_refresh": False}},
    3: {"kind": NON_CLIENT},
    4: {"takes_paths": True, "options": MemberOptions(CLIENT, add_path_limit=1)},
    5: {"capabilities": BOTH_WAYS, "ours": BOTH_WAYS, "options": MemberOptions(CLIENT, add_path_limit=9)},
}
Said = dict[tuple[str, int | None], dict[str, Any]]


class Wire:
    """A loop, a session and a socket in one: it takes `room` octets until they are read."""

    closed = False

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = bytearray()
        self.control = b""
        self.writer: Callable[[], None] | None = None

    def fileno(self) -> int:
        return 0

    def add_writer(self, _fd: int, writer: Callable[[], None]) -> None:
        self.writer = writer

    def remove_writer(self, _fd: int) -> None:
        self.writer = None

    def data_to_send(self) -> bytes:
        control, self.control = self.control, b""
        return control

    def send(self, data: bytes) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: list[bytes]) -> int:
        room = self.room - len(self.sent)
        if room <= 0:
            raise BlockingIOError
        taken = b"".join(buffers)[:room]
        self.sent += taken
        return len(taken)

    def read(self, octets: int) -> bytes:
        data = bytes(self.sent[:octets])
        del self.sent[:octets]
        if self.writer is not None and len(self.sent) < self.room:
            self.writer()
        return data


class Life:
    """One reflector, its peers, and what they say."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.core = reflector()
        self.peers = {n: SimulatedPeer(self.core, n, **kind).up() for n, kind in KINDS.items()}
        self.said: dict[int, Said] = {n: {} for n in KINDS}
        self.resumed: list[Link] = []
        self.wires = {n: Wire(self.rng.choice((20, 150, 1000, 1 << 20))) for n in KINDS}
        self.links = {n: self.link(n) for n in KINDS}

    def link(self, number: int) -> Link:
        wire = cast("Any", self.wires[number])
        nothing = cast("Any", None)
        made = Link(wire, wire, wire, self.core, "", inbox=nothing, lost=nothing, resume=self.resumed.append)
        made.member = self.peers[number].member
        return made

    def step(self) -> None:
        number = self.rng.choice(list(KINDS))
        peer, family = self.peers[number], self.rng.choice((V4, V6))
        kinds = ("say", "turn", "read", "refresh", "change", "control", "wait")
        match self.rng.choices(kinds, (6, 6, 4, 3, 1, 1, 2))[0]:
            case "wait":
                self.wait()
            case "say":
                for prefix in self.rng.sample(PREFIXES, self.rng.choice((1, 2, 20))):
                    self.say(number, prefix)
            case "turn":
                self.turn()
            case "read":
                self.read(number, self.rng.choice((1, 50, 500, 1 << 20)))
            case "refresh":
                peer.refresh(family=family, now=self.now)
            case "change":
                assert peer.options is not None
                peer.options = replace(peer.options, export_filters=self.rng.choice(FILTERS))
                assert peer.member is not None
                self.core.change(peer.member, peer.options)
            case "control":
                self.wires[number].control += KEEPALIVE

    def say(self, number: int, prefix: str) -> None:
        path_id = self.rng.randrange(1, 3) if number == 5 else None
        if self.rng.random() < 0.4:
            self.said[number].pop((prefix, path_id), None)
            self.peers[number].withdraw(prefix, path_id=path_id)
        else:
            attributes = {"med": self.rng.choice((None, 1)), "local_pref": self.rng.choice((100, 100, 101))}
            self.said[number][prefix, path_id] = attributes
            self.peers[number].announce(prefix, path_id=path_id, **attributes)

    def turn(self) -> None:
        self.core.flush()
        for each in self.links.values():
            each.push()
        resumed, self.resumed[:] = self.resumed[:], []
        for each in resumed:
            each.write()

    def read(self, number: int, octets: int) -> None:
        peer = self.peers[number]
        peer.framer.feed(self.wires[number].read(octets))
        for kind, body in peer.framer:
            if kind != KEEPALIVE[18]:
                peer.heard(kind, body)

    def wait(self) -> None:
        self.now += 1.0
        self.core.tick(self.now)

    def rest(self) -> None:
        """Everybody reads everything, and a refresh that was held back is answered."""
        members = [peer.member for peer in self.peers.values() if peer.member is not None]
        for _ in range(10_000):
            self.turn()
            for number in KINDS:
                self.read(number, 1 << 20)
            unread = self.resumed or any(wire.sent for wire in self.wires.values())
            if not unread and not any(member.behind for member in members):
                return
            self.wait()
        raise AssertionError("there is always more to send")

    def fresh(self) -> dict[int, SimulatedPeer]:
        """The same peers with a reflector that knows nothing but what they stand for now."""
        other = reflector()
        peers = {n: SimulatedPeer(other, n, **kind) for n, kind in KINDS.items()}
        for number, peer in peers.items():
            peer.options = self.peers[number].options
            peer.up()
            for (prefix, path_id), attributes in self.said[number].items():
                peer.announce(prefix, path_id=path_id, **attributes)
        for peer in peers.values():
            peer.turn()
        return peers


def routes(peer: SimulatedPeer, family: Family) -> list[tuple[bytes, bytes]]:
    """What a peer has, without our path identifiers."""
    assert peer.member is not None
    assert peer.member.negotiated is not None
    skip = 4 if family in peer.member.negotiated.add_path_send else 0
    return sorted((item[skip:], told.attributes.raw) for item, told in peer.view[family].items())


@pytest.mark.parametrize("seed", range(12))
def test_at_rest_everybody_has_what_a_fresh_reflector_tells(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = random.Random(seed).choice((64, 2000))
    monkeypatch.setattr(export_log, "SLACK_BATCHES", 4)
    monkeypatch.setattr(export_log, "BATCH_OCTETS", 300)
    monkeypatch.setattr(update_group, "ExportLog", lambda *args: export_log.ExportLog(*args, slack=slack))
    monkeypatch.setattr(core, "REFRESH_RATE", 1 << 12)
    monkeypatch.setattr(link, "CHUNK_OCTETS", 600)
    monkeypatch.setattr(link, "TURN_OCTETS", 3000)
    monkeypatch.setattr(link, "VECTOR", 3)
    life = Life(seed)
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            life.step()
        life.rest()
        for number, other in life.fresh().items():
            peer = life.peers[number]
            assert not peer.stale
            for family in (V4, V6):
                assert routes(peer, family) == routes(other, family), f"peer {number}"
