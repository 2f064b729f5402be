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
    """What the broker has been told of the peers, by their level of the topic; `{}` where nobody knows what.

    `most`: how many are due at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: dict[str, Document] = {}

    def forget(self) -> None:
        """The broker may be another one: tell it everything again, also who is gone."""
        self._told = {level: {} for level in self._told}

    def found(self, level: str) -> None:
        """The broker has something retained here, maybe from before this service's start."""
        self._told.setdefault(level, {})

    def due(self, peers: Sequence[PeerStatus]) -> list[tuple[str, Document | None]]:
        """Levels and summaries to be sent; None: the peer is gone and so should be what is retained of it."""
        now = {level_of(peer.name): _summary(peer) for peer in peers}
        gone: list[tuple[str, Document | None]] = [(level, None) for level in self._told if level not in now]
        changed = [(level, found) for level, found in now.items() if self._told.get(level) != found]
        changed.sort(key=lambda entry: self._told.get(entry[0], {}).get("state") == entry[1]["state"])
        return [*gone, *changed][: self._most]

    def sent(self, level: str, summary: Document | None) -> None:
        """The broker has confirmed it."""
        if summary is None:
            self._told.pop(level, None)
        else:
            self._told[level] = summary


def level_of(name: str) -> str:
    """`name` as one level of a topic."""
    return "".join("_" if character in "/+#" else character for character in name) or "_"


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
