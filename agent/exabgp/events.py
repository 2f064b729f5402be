"""ExaBGP's lines, read: what arrives on the event pipe, as values. Pure.

The configuration asks for ``neighbor-changes`` and raw ``packets`` in both directions, so that UPDATEs and
OPENs are decoded by our own wire codec, octet for octet as the peer sent them. A packet line is picked
apart by one regular expression; only the rare state lines go through a JSON parser. Of the UPDATEs ExaBGP
*sends*, End-of-RIBs and short ones matter to the agent (see ``adj_rib_out``); the rest are counted unread.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bgpd.wire.iana import AttributeCode, notification_words
from bgpd.wire.nlri import IPV4_UNICAST, Family, prefix_of, split

EXABGP_ENDED = "ExaBGP ended"
"""Why a session is over that ended on our side: the peer has lost nothing and said nothing."""
OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5
_LONGEST_TRACED = 300  # hexadecimal digits of an UPDATE sent: a few prefixes, whose change may be waited for

_PACKET = re.compile(
    r'"peer": "([^"]+)" \}.*?"direction": "(send|receive)", '
    r'"message": "?\{ "category": (\d+), "header": "[^"]*", "body": "(?:0x)?([0-9A-Fa-f]*)"'
)
_ROUTE = re.compile(r"^(\S+) (ipv[46] unicast) ([0-9a-fA-F:.]+/\d+)")
_NUMBERS = re.compile(r"\((\d+),(\d+)\)$")


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A session's state: "connected", "up" or "down", the latter with ExaBGP's words why."""

    peer: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Packet:
    """A BGP message without its 19-octet header. ``sent``: ours; a long UPDATE has no body then."""

    peer: str
    sent: bool
    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """``done`` or ``error``: the end of the oldest unanswered command."""

    done: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A line that belongs to the answer of a `show` command."""

    line: str


Event = StateChanged | Packet | Answer | Text


def parse(line: str) -> Event | None:
    """One line of the event pipe; None for what the agent has no use for (also a line cut in half)."""
    if line == "done":
        return Answer(True)
    if line == "error":
        return Answer(False)
    if not line.startswith('{ "exabgp"'):
        return Text(line) if line else None
    if packet := _PACKET.search(line):
        peer, direction, category, body = packet.groups()
        sent = direction == "send"
        if sent and int(category) == UPDATE and len(body) > _LONGEST_TRACED:
            body = ""
        return Packet(peer, sent, int(category), bytes.fromhex(body))
    if '"type": "state"' not in line:
        return None
    try:
        peer = json.loads(line)["neighbor"]
        return StateChanged(peer["address"]["peer"], peer["state"], _in_words(peer.get("reason", "")))
    except (ValueError, KeyError, TypeError):
        return None  # the tail of a line whose beginning another agent read


def _in_words(reason: str) -> str:
    """ExaBGP's reason, and what its numbers mean: `notification received (2,2), bad peer AS`."""
    numbers = _NUMBERS.search(reason)
    return f"{reason}, {notification_words(*map(int, numbers.groups()))}" if numbers else reason


def is_end_of_rib(body: bytes) -> bool:
    """RFC 4724 §2: an UPDATE with nothing in it, or with an empty MP_UNREACH_NLRI alone."""
    if body == bytes(4):
        return True
    withdrawn, attributes = body[:2], body[4:]
    if withdrawn != b"\0\0" or len(body) > 11:
        return False
    value = attributes[4:] if attributes[:1] and attributes[0] & 0x10 else attributes[3:]
    return attributes[1:2] == b"\x0f" and len(value) == 3


def prefixes_of(body: bytes) -> list[str]:
    """What an UPDATE of ours announces or withdraws. (ExaBGP is never told to send path identifiers.)"""
    attributes = 4 + int.from_bytes(body[:2], "big")
    end = attributes + int.from_bytes(body[attributes - 2 : attributes], "big")
    fields = [(IPV4_UNICAST, body[2 : attributes - 2]), (IPV4_UNICAST, body[end:])]
    while attributes < end:
        extended = body[attributes] & 0x10
        code, start = body[attributes + 1], attributes + (4 if extended else 3)
        value = body[start : start + int.from_bytes(body[attributes + 2 : start], "big")]
        if code in (AttributeCode.MP_REACH_NLRI, AttributeCode.MP_UNREACH_NLRI):
            nlri = 5 + value[3] if code == AttributeCode.MP_REACH_NLRI else 3
            fields.append((Family(int.from_bytes(value[:2], "big"), value[2]), value[nlri:]))
        attributes = start + len(value)
    return [str(prefix_of(nlri, family)) for family, field in fields for nlri in split(field, family)]


def parse_route(line: str) -> tuple[str, str] | None:
    """(peer, prefix) of a line of ``show adj-rib out``."""
    found = _ROUTE.match(line)
    return (found[1], found[3]) if found else None


def parse_peers(line: str) -> dict[str, bool]:
    """Peer → established, from the answer of ``show neighbor json``."""
    return {peer["peer"]["address"]: peer["fsm"].lower() == "established" for peer in json.loads(line)}
