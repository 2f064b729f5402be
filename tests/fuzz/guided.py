"""Coverage-guided fuzzing: libFuzzer, through atheris, sees what an input reaches and goes on from there.

`.venv/bin/python -m tests.fuzz.guided TARGET FOLDER [libFuzzer's options]` fuzzes until it is stopped (or for
`-max_total_time=600` seconds), keeps in FOLDER what reached anything new, and goes on from there the next
time; what fails is left in a file `crash-...`, which given in place of FOLDER is run alone. The targets:

* `update`: records of a speaker's number, a length (2 octets) and the body of an UPDATE go through a whole
  reflector and on to listeners of every sort (`test_rib_fuzz`), until all have left and nothing is behind;
* `open`: an OPEN, negotiated, answered, and encoded again;
* `session`: a state, and then a stream that must mean the same however it is cut.

A new FOLDER is seeded with the project's own messages and, where they are, with the recorded corpora.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bgpd", "reflector"]):
    from bgpd.session.fsm import State
    from bgpd.wire.errors import ProtocolError
    from bgpd.wire.iana import MessageType
    from bgpd.wire.messages import Open, decode, encode, message, negotiate
    from tests.fuzz.test_rib_fuzz import LISTENERS, SPEAKERS, World, recorded
    from tests.fuzz.test_session_fuzz import GOOD, OFFER, check, start, told
    from tests.session.speakers import NOW, announcement, established, openconfirm, opensent, peer_open, sent

STATES = (opensent, openconfirm, established)
OURS = [decode(MessageType.OPEN, octets[19:]) for octets in (peer_open(), peer_open(capabilities=OFFER))]
SEEDS = 150  # at most this many to begin with; the way to the others is found soon
CUTS = 8  # octets that say where the stream is cut
OWN = [octets[19:] for octets in (announcement(1), announcement(2), message(MessageType.UPDATE, bytes(4)))]


class Updates:
    """The target `update`. One reflector for all inputs: after each it must be as empty as it was before."""

    def __init__(self) -> None:
        self.world = World([LISTENERS[n] for n in (1, 2, 3, 5)])

    def __call__(self, data: bytes) -> None:
        world = self.world
        speakers = {}
        at = survived = restarted = 0
        while at + 3 <= len(data):
            length = int.from_bytes(data[at + 1 : at + 3], "big")
            number = data[at] % len(SPEAKERS)
            speakers[number] = world.speakers[number]
            survived += world.say(number, data[at + 3 : at + 3 + length])
            if data[at] & 0x80:
                world.turn()
            if data[at] & 0x40 and not restarted:
                restarted = 1
                world.restart(number)
            at += 3 + length
        if survived:
            world.check()
        world.leave(speakers.values())
        for speaker in speakers.values():
            speaker.up(world.now)


def opens(data: bytes) -> None:
    """The target `open`."""
    session = opensent()
    session.receive_data(message(MessageType.OPEN, data), NOW)
    assert session.closed == (session.state is not State.OPENCONFIRM)
    assert len(sent(session.data_to_send())) == 1
    try:
        said = decode(MessageType.OPEN, data)
    except ProtocolError:
        return
    assert isinstance(said, Open)
    assert repr(said)
    assert decode(MessageType.OPEN, encode(said)[19:]) == said
    for ours in OURS:
        assert isinstance(ours, Open)
        there, back = negotiate(ours, said), negotiate(said, ours)
        assert there.families == back.families
        assert there.add_path_send == back.add_path_receive
        assert there.max_length == back.max_length


def streams(data: bytes) -> None:
    """The target `session`."""
    if len(data) <= CUTS:
        return
    make = STATES[data[0] % len(STATES)]
    cuts, stream = data[1:CUTS], data[CUTS:]
    whole, pieces = start(make), start(make)
    whole.receive_data(stream, NOW)
    at = turn = 0
    while at < len(stream):
        size = cuts[turn % len(cuts)] or 1
        pieces.receive_data(stream[at : at + size], NOW)
        at, turn = at + size, turn + 1
    events, others = whole.events(), pieces.events()
    check(whole, events)
    check(pieces, others)
    assert told(events) == told(others)
    assert whole.data_to_send() == pieces.data_to_send()
    assert whole.state is pieces.state


def bodies() -> list[bytes]:
    """UPDATEs to begin with."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "corpora"
    folder = Path(os.environ.get("CAIRN_CORPORA") or beside)
    return OWN + (recorded(folder) if (folder / "malformed.tsv").is_file() else [])


def update_seeds() -> list[bytes]:
    records = [bytes((n % len(SPEAKERS),)) + len(b).to_bytes(2, "big") + b for n, b in enumerate(bodies())]
    return records + [a + b for a, b in zip(records[::2], records[1::2], strict=False)]


def open_seeds() -> list[bytes]:
    return [octets[19:] for octets in (peer_open(), peer_open(capabilities=OFFER)) if octets]


def session_seeds() -> list[bytes]:
    whole = [*GOOD, *(message(MessageType.UPDATE, body) for body in bodies() if len(body) < 4077)]
    return [bytes((n % 3, *range(1, CUTS))) + b"".join(whole[n : n + 3]) for n in range(len(whole))]


TARGETS: dict[str, tuple[Callable[[], Callable[[bytes], None]], Callable[[], list[bytes]]]] = {
    "update": (Updates, update_seeds),
    "open": (lambda: opens, open_seeds),
    "session": (lambda: streams, session_seeds),
}


def main(target: str, place: Path, *options: str) -> None:
    """Fuzz one target; `place` is a folder of inputs or a single one."""
    make, seeds = TARGETS[target]
    if not place.is_file() and not (place.is_dir() and any(place.iterdir())):
        place.mkdir(parents=True, exist_ok=True)
        found = seeds()
        for seed in found[:: len(found) // SEEDS + 1]:
            (place / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    limits = ("-max_len=8192", "-len_control=0", "-timeout=20", "-rss_limit_mb=2048")
    atheris.Setup([sys.argv[0], *limits, *options, str(place)], make())
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
