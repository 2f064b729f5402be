"""A model of ExaBGP's queue, which can reorder two changes of one prefix, and what drives an Outbox by it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest

from agent.exabgp.adj_rib_out import Command, Outbox, Purpose

FAMILIES = ("ipv4 unicast", "ipv6 unicast")
PREFIXES = ("10.0.0.0/26", "10.0.0.64/26", "10.9.9.9/32", "2001:db8::/64", "2001:db8:1::/64")
ATTRIBUTES = ("next-hop self", "next-hop self med 4", "next-hop self med 9")


@dataclass
class PeerOfExaBGP:
    """What ExaBGP 5.0.15 keeps per peer: cache, queue by attribute set in order of creation, snapshot."""

    cache: dict[str, str] = field(default_factory=dict)
    queue: dict[str, dict[str, str | None]] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)
    sending: deque[tuple[str, str | None]] = field(default_factory=deque)
    refresh: dict[str, str] = field(default_factory=dict)  # captured when asked for, sent with the next lot
    eor: int = 0
    up: bool = False
    view: dict[str, str] = field(default_factory=dict)  # what the BGP peer itself has

    def insert(self, prefix: str, attributes: str | None, force: bool = False) -> None:
        if attributes is not None and not force and self.cache.get(prefix) == attributes:
            return
        if attributes is None:
            if prefix in self.latest:
                self.queue.get(self.latest[prefix], {}).pop(prefix, None)
            self.cache.pop(prefix, None)
        else:
            self.cache[prefix] = attributes
        bucket = attributes if attributes is not None else "withdrawn"
        self.queue.setdefault(bucket, {})[prefix] = attributes
        self.latest[prefix] = bucket

    def resend(self) -> None:
        """A flush, or the peer's own route refresh: all that is cached goes out again."""
        self.refresh |= self.cache

    def _snapshot(self) -> None:
        consumed = set(self.refresh)
        for group in self.queue.values():
            for prefix in [each for each, attributes in group.items() if attributes is None]:
                if self.refresh.pop(prefix, None) is not None and self.latest[prefix] != "withdrawn":
                    consumed.discard(prefix)
        for prefix, attributes in self.refresh.items():
            self.sending.append((prefix, self.latest.get(prefix, attributes)))
        for group in self.queue.values():
            self.sending.extend(item for item in group.items() if item[1] is None or item[0] not in consumed)
        self.queue, self.latest, self.refresh = {}, {}, {}

    def step(self) -> str | None:
        """One turn of the peer: a message out (its prefix), or with an empty queue one End-of-RIB ("")."""
        if not self.up:
            return None
        if not self.sending and (self.queue or self.refresh):
            self._snapshot()
        if self.sending:
            prefix, attributes = self.sending.popleft()
            if attributes is None:
                self.view.pop(prefix, None)
            else:
                self.view[prefix] = attributes
            return prefix
        if self.eor:
            self.eor -= 1
            return ""
        return None

    def go_up(self) -> None:
        self.up, self.view = True, {}
        for prefix, attributes in list(self.cache.items()):
            self.insert(prefix, attributes, force=True)

    def go_down(self) -> None:
        self.up = False
        self.queue, self.latest, self.refresh = {}, {}, {}
        self.sending.clear()


class ExaBGP:
    """Commands in by one pipe, acknowledgements and events out by another, peers served in random turns."""

    def __init__(self, peers: tuple[str, ...], random: Random) -> None:
        self.random = random
        self.peers = {address: PeerOfExaBGP() for address in peers}
        self.commands: deque[Command] = deque()
        self.events: deque[tuple[str, ...]] = deque()

    def process_command(self) -> None:
        if not self.commands:
            return
        command = self.commands.popleft()
        targets = [self.peers[address] for address in command.peers]
        done = True
        match command.purpose:
            case Purpose.ROUTES:
                for peer in targets:
                    for prefix in command.routes:
                        peer.insert(prefix, command.attributes)
            case Purpose.END_OF_RIB:
                done = targets[0].up
                targets[0].eor += done
            case Purpose.FLUSH:
                done = targets[0].up
                if done:
                    targets[0].resend()
        self.events.append(("ack", "done" if done else "error"))

    def turn(self) -> None:
        address = self.random.choice(list(self.peers))
        if (prefix := self.peers[address].step()) is not None:
            long = self.random.random() < 0.3  # an UPDATE too long to be read
            self.events.append(("sent", address, *([] if long else [prefix])) if prefix else ("eor", address))

    def ask_again(self, address: str) -> None:
        """The BGP peer sends a ROUTE-REFRESH."""
        if self.peers[address].up:
            self.events.append(("refresh", address))
            self.peers[address].resend()

    def flap(self, address: str) -> None:
        peer = self.peers[address]
        if peer.up:
            peer.go_down()
            self.events.append(("down", address))
        else:
            peer.go_up()
            self.events.append(("up", address))


def deliver(outbox: Outbox, exabgp: ExaBGP, count: int) -> None:
    for _ in range(min(count, len(exabgp.events))):
        match exabgp.events.popleft():
            case ("ack", answer):
                outbox.acknowledged(answer == "done")
            case ("eor", address):
                outbox.end_of_rib_sent(address)
            case ("sent", address, *prefixes):
                outbox.sent(address, prefixes)
            case ("refresh", address):
                outbox.refresh_asked(address)
            case ("up", address):
                outbox.session_up(address, FAMILIES)
            case ("down", address):
                outbox.session_down(address)


def settle(outbox: Outbox, exabgp: ExaBGP) -> None:
    for _ in range(5000):
        exabgp.commands.extend(outbox.commands())
        exabgp.process_command()
        exabgp.turn()
        deliver(outbox, exabgp, 3)
        quiet = not exabgp.commands and not exabgp.events and outbox.settled
        if quiet and not any(p.sending or p.queue or p.refresh for p in exabgp.peers.values() if p.up):
            return
    pytest.fail("never came to rest")


def drive(outbox: Outbox) -> list[str]:
    return [command.text for command in outbox.commands()]


def answered(outbox: Outbox) -> list[str]:
    """What is commanded until nothing is left to say, all of it taken and sent at once."""
    lines = []
    while not outbox.settled:
        for command in list(outbox.commands()):
            lines.append(command.text)
            outbox.acknowledged(True)
            if command.purpose is Purpose.END_OF_RIB:
                outbox.end_of_rib_sent(command.peers[0])
    return lines
