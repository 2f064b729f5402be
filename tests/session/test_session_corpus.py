"""Hostile messages of the corpora through a whole session, each with the outcome listed for it."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from bgpd.session.events import Closed
from bgpd.session.fsm import State
from bgpd.session.session import Session

from .speakers import LOCAL_ASN, NOW, config, established, offer, opensent, peer_open, sent

PEER_ASN = 65001  # the sender of the whole corpus


class Hostile(NamedTuple):
    name: str
    kind: str
    expected: str
    data: bytes


def read(path: Path) -> list[Hostile]:
    lines = (line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [Hostile(name, kind, expected, bytes.fromhex(data)) for name, _, kind, expected, data in lines]


def facing(kind: str, asn: int = PEER_ASN) -> Session:
    """The session a message of this kind is thrown at: before its OPEN, or up."""
    ours = config(offer(LOCAL_ASN), peer_asn=asn)
    return opensent(ours) if kind == "open" else established(ours, peer_open(asn))


def outcome(session: Session) -> str:
    """`up`, `closed` (by the peer's own NOTIFICATION), or the code and subcode sent."""
    closed = [event for event in session.events() if isinstance(event, Closed)]
    sent(session.data_to_send())  # whole, well-formed messages
    if not session.closed:
        assert not closed
        return "up"
    (end,) = closed
    assert end.reason.isprintable()
    return "closed" if end.sent is None else f"{end.sent.code}/{end.sent.subcode}"


def allowed(expected: str) -> set[str] | None:
    """What the `expected` column of an OPEN or other message allows; None: anything but a crash."""
    words = re.sub(r"\((?!or )[^)]*\)", "", expected)
    found = set(re.findall(r"\b\d+/\d+\b", words))
    if re.search(r"accept|ignore|still runs", words):
        found.add("up")
    if re.search(r"silent close|/close|log", words):
        found.add("closed")
    return found or None


def test_every_open_and_other_message_has_its_listed_outcome(corpora: Path) -> None:
    wrong = []
    judged = 0
    for line in read(corpora / "malformed.tsv"):
        if line.kind == "update":
            continue
        session = facing(line.kind)
        session.receive_data(line.data, NOW)
        got, wanted = outcome(session), allowed(line.expected)
        judged += wanted is not None
        if (got == "up" and not wanted) or (wanted is not None and got not in wanted):
            wrong.append((line.name, line.expected, got))
    assert wrong == []
    assert judged >= 35


def test_every_update_leaves_the_session_up_unless_a_reset_is_listed(corpora: Path) -> None:
    wrong = []
    for line in read(corpora / "malformed.tsv"):
        if line.kind != "update":
            continue
        internal = "ibgp" in line.expected
        session = facing(line.kind, LOCAL_ASN if internal else PEER_ASN)
        session.receive_data(line.data, NOW)
        got = outcome(session)
        if got != "up" and not (
            got.startswith("3/")
            and "reset" in line.expected.replace("no reset", "").replace("never reset", "")
        ):
            wrong.append((line.name, line.expected, got))
    assert wrong == []


def test_half_a_message_does_not_stop_the_hold_timer(corpora: Path) -> None:
    (line,) = [line for line in read(corpora / "malformed.tsv") if line.name == "keepalive-then-half-header"]
    session = facing("other")
    session.receive_data(line.data, NOW + 10)
    for second in range(11, 99):
        session.receive_data(b"", NOW + second)
    assert session.state is State.ESTABLISHED
    session.handle_timer(NOW + 100)
    assert outcome(session) == "4/0"


def test_a_hold_time_of_zero_runs_no_timer(corpora: Path) -> None:
    (line,) = [line for line in read(corpora / "malformed.tsv") if line.name == "hold-0"]
    session = facing("open")
    session.receive_data(line.data, NOW)
    assert session.state is State.OPENCONFIRM
    assert session.next_timer() is None


def test_every_message_in_every_state_in_single_octets_raises_nothing(corpora: Path) -> None:
    for line in read(corpora / "malformed.tsv"):
        for kind in ("open", "other"):
            whole, piecemeal = facing(kind), facing(kind)
            whole.receive_data(line.data, NOW)
            if len(line.data) < 300:
                for octet in line.data:
                    piecemeal.receive_data(bytes((octet,)), NOW)
                assert outcome(piecemeal) == outcome(whole), line.name


@pytest.mark.parametrize("name", ["gobgp_bad_len.tsv", "rfc7606_updates.tsv"])
def test_other_hostile_collections_raise_nothing(corpora: Path, name: str) -> None:
    lines = [line for line in (corpora / name).read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        data = bytes.fromhex(line.split("\t")[-1])
        for kind in ("open", "other"):
            session = facing(kind)
            session.receive_data(data, NOW)
            outcome(session)
    assert lines
