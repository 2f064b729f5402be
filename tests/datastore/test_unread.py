"""What is there and cannot be read by whoever has just begun, and what is not done because of it."""

from __future__ import annotations

import pytest

from bgpd.datastore import Changes, Invalid, Snapshot, UnreadSettings
from bgpd.resources import Key, ResourceSet, load_documents

FILTER = Key("BGPFilter", "f")
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: t}
spec: {peerIP: 10.0.0.9, asNumber: 65100, filters: [f]}
"""
GOOD = """\
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: f}
"""


def known(*documents: str) -> ResourceSet:
    return ResourceSet.of(each for text in documents for each in load_documents(text, "f"))


def invalid(key: Key, reason: str | None = "'Log' is no action") -> tuple[Invalid, ...]:
    return (Invalid(f"/{key.name}", key, reason),)


def test_a_filter_that_a_peer_names_is_waited_for_and_no_other() -> None:
    unread = UnreadSettings("a")
    unread.heard(Snapshot((), 1, invalid(FILTER)), known())
    assert unread.reason == ""
    unread.heard(Changes((), 2, ()), known(PEER))
    assert unread.reason == "'Log' is no action; nothing is done before it is repaired"
    unread.heard(Changes((), 3, invalid(FILTER, None)), known(PEER, GOOD))
    assert unread.reason == ""


def test_a_filter_whose_last_good_version_is_known_is_not_waited_for() -> None:
    unread = UnreadSettings("a")
    unread.heard(Snapshot((), 1, invalid(FILTER)), known(PEER, GOOD))
    assert unread.reason == ""
    unread.heard(Changes((), 2, invalid(FILTER)), known(PEER, GOOD))
    assert unread.reason == ""


@pytest.mark.parametrize("kind", ["BGPPeer", "Node"])
def test_there_may_be_peers_until_all_can_be_read(kind: str) -> None:
    unread, key = UnreadSettings("a"), Key(kind, "x")
    assert not unread.peers
    unread.heard(Snapshot((), 1, invalid(key)), known())
    assert (unread.peers, unread.reason) == (True, "")
    unread.heard(Changes((), 2, invalid(key, None)), known())
    assert not unread.peers
