"""What the log says of sessions, and when."""

import io
import json

from structlog.testing import capture_logs

from bgpd.telemetry.logging import configure_logging
from bgpd.telemetry.status import EventRing
from bgpd.wire.iana import MessageType
from bgpd.wire.messages import message
from reflector.journal import LINES, SessionJournal
from tests.reflector.clients import clients, serving, until


def test_a_line_comes_with_the_tick_and_tells_the_time_of_what_happened() -> None:
    ring, now = EventRing(), 1_700_000_000.0
    journal = SessionJournal(ring, lambda: now)
    with capture_logs() as lines:
        journal.up("192.0.2.1", 65000, "client", b"\xc0\0\2\1")
        now += 0.2
        journal.down("192.0.2.1", "hold timer")
        assert not lines
        assert [event.kind for event in ring.after(0)] == ["session.up", "session.down"]
        journal.tick()
    assert [(line["event"], line["timestamp"][-7:]) for line in lines] == [
        ("session up", "20.000Z"),
        ("session down", "20.200Z"),
    ]
    with capture_logs() as lines:
        journal.tick()
    assert not lines


def test_of_a_crowd_the_first_are_named_and_all_are_events() -> None:
    ring = EventRing()
    journal = SessionJournal(ring, lambda: 0.0)
    with capture_logs() as lines:
        for n in range(LINES + 92):
            journal.up(f"192.0.2.{n}", 65000, "client", n.to_bytes(4))
        journal.tick()
    assert [line["event"] for line in lines] == ["session up"] * LINES + ["more sessions up"]
    assert lines[-1]["count"] == 92
    assert len(ring.after(0)) == LINES + 92


def test_peers_of_one_bgp_identifier_are_named() -> None:
    ring, mine = EventRing(), b"\xc0\0\2\1"
    journal = SessionJournal(ring, lambda: 0.0)
    with capture_logs() as lines:
        for peer, asn in (("192.0.2.1", 65000), ("2001:db8::1", 65000), ("192.0.2.9", 65009)):
            journal.up(peer, asn, "client", mine)
        assert not lines
        journal.up("192.0.2.2", 65000, "client", mine)
        journal.down("192.0.2.1", "hold timer")
        journal.down("192.0.2.2", "hold timer")
        journal.up("192.0.2.2", 65000, "client", mine)
    assert [(line["event"], line["peer"], line["other"]) for line in lines] == [
        ("two peers have one BGP Identifier", "192.0.2.2", "192.0.2.1")
    ]
    assert [event.message for event in ring.after(0) if event.kind == "peer.identifier"] == [
        "192.0.2.2 has the BGP Identifier of 192.0.2.1, 192.0.2.1: neither takes the other's routes"
    ]


def test_of_peers_of_one_bgp_identifier_those_count_that_are_up() -> None:
    """A router of another AS may have several sessions, and takes what it is told in each."""
    journal = SessionJournal(EventRing(), lambda: 0.0)
    with capture_logs() as lines:
        for number in (1, 2):
            journal.up(f"198.51.100.{number}", 65001, "external", b"\xc0\0\2\1")
            journal.up(f"192.0.2.{number}", 65000, "client", b"\xc0\0\2\1")
        journal.down("192.0.2.1", "hold timer")
        journal.up("192.0.2.3", 65000, "non-client", b"\xc0\0\2\1")
        for peer in ("198.51.100.1", "192.0.2.2", "192.0.2.3"):
            journal.down(peer, "hold timer")
        journal.up("192.0.2.1", 65000, "client", b"\xc0\0\2\1")
    assert [(line["peer"], line["other"]) for line in lines] == [
        ("192.0.2.2", "192.0.2.1"),
        ("192.0.2.3", "192.0.2.2"),
    ]


def test_a_line_says_which_module_it_is_from() -> None:
    """Also where that is compiled: by another name it could be one that is kept quiet."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    journal = SessionJournal(EventRing(), lambda: 0.0)
    journal.near_limit("192.0.2.1", 9, 10)
    assert json.loads(stream.getvalue())["logger"] == "reflector.journal"


async def test_rfc7606_8_a_malformed_update_is_in_the_log_with_its_nlri_and_as_it_came() -> None:
    attributes = bytes.fromhex("400101074002004003047f00000240050400000064")  # ORIGIN 7
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + bytes.fromhex("180a0901")
    async with serving() as server, clients(server, 1) as (a,):
        with capture_logs() as lines:
            for _ in range(3):
                a.write(message(MessageType.UPDATE, body))
            session = server.entries[a.address].peer.session
            await until(lambda: session and session.counters.attribute_faults == 3)
        told = [line for line in lines if line["event"] == "malformed UPDATE"]
        assert told == [
            {
                "event": "malformed UPDATE",
                "log_level": "error",
                "peer": a.address,
                "reason": "ORIGIN: the value 7 (treated as withdrawn)",
                "prefixes": ["10.9.1.0/24"],
                "message": message(MessageType.UPDATE, body).hex(),
            }
        ]
        events = [event for event in server.events.after(0) if event.kind == "update.malformed"]
        assert [event.peer for event in events] == [a.address]
        assert a.established
