"""Which peers' summaries a broker is sent next: what changed, changes of state first, a bounded number.

Retained on the broker, so that a reader that comes late has every peer at once. What was sent is remembered
by value; a summary is due when it differs from that. Under a storm the bound makes the broker see fewer
states in between, never a queue: what is skipped now is due, with newer numbers, the next time. Pure.
"""

from collections.abc import Sequence
from dataclasses import asdict

from bgpd.telemetry.documents import SCHEMA_VERSION, Document, rfc3339
from bgpd.telemetry.status import PeerStatus


class PeerSummaries:
    """What the broker has been told of the peers. `most`: how many are due at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: dict[str, Document] = {}

    def forget(self) -> None:
        """The broker may be another one: tell it everything again."""
        self._told.clear()

    def due(self, peers: Sequence[PeerStatus]) -> list[tuple[str, Document | None]]:
        """Names and summaries to be sent; None: the peer is gone and so should be what is retained of it."""
        now = {peer.name: _summary(peer) for peer in peers}
        gone: list[tuple[str, Document | None]] = [(name, None) for name in self._told if name not in now]
        changed = [(name, found) for name, found in now.items() if self._told.get(name) != found]
        changed.sort(key=lambda entry: self._told.get(entry[0], {}).get("state") == entry[1]["state"])
        return [*gone, *changed][: self._most]

    def sent(self, name: str, summary: Document | None) -> None:
        """The broker has confirmed it."""
        if summary is None:
            self._told.pop(name, None)
        else:
            self._told[name] = summary


def _summary(peer: PeerStatus) -> Document:
    return {
        "version": SCHEMA_VERSION,
        "name": peer.name,
        "address": peer.address,
        "state": peer.state,
        "since": rfc3339(peer.since),
        "asn": peer.asn,
        "flaps": peer.flaps,
        "last_reason": peer.last_reason,
        "families": [asdict(family) for family in peer.families],
    }
