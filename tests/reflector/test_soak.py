"""Hundreds of clients coming and going: nothing piles up, and in the end everybody has exactly everything.

`CAIRN_SOAK_SECONDS` sets for how long; the default is bounded for every run of the tests. With `-s` the
figures are shown.
"""

import asyncio
import gc
import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest

from bgpd.rib import export_log, update_group
from bgpd.rib.path import SourceKind
from bgpd.session.decoders import Decoders
from bgpd.wire.interner import Interner
from bgpd.wire.messages import KEEPALIVE
from reflector.core import Reflector
from reflector.member import MemberOptions
from tests.reflector.clients import Client, until
from tests.reflector.simulated import BOTH, V4, SimulatedPeer, graceful, key, reflector
from tests.reflector.test_process import Program

SECONDS = float(os.environ.get("CAIRN_SOAK_SECONDS", "4"))
CLIENTS = 500
PREFIXES = 4


class Crowd:
    """Clients without sockets, each with prefixes of its own and some it shares with a neighbour.

    One in twenty replays what it is told; the others let it go by, as the work of reading it is not ours.
    """

    def __init__(self, core: Reflector, rng: random.Random) -> None:
        self.core, self.rng, self.now = core, rng, 0.0
        self.decoders = Decoders()
        self.peers = [self._peer(number) for number in range(CLIENTS)]
        self.said: list[dict[str, int]] = [{} for _ in self.peers]
        self.up: set[int] = set()

    def _peer(self, number: int) -> SimulatedPeer:
        restart = {"graceful_restart": graceful()} if number % 3 == 0 else {}
        paths = number % 40 == 0
        options = MemberOptions(SourceKind.CLIENT, add_path_limit=2 if paths else 0)
        peer = SimulatedPeer(
            self.core,
            number % 250,
            options=options,
            capabilities=dict(restart),
            ours=dict(restart),
            takes_paths=paths,
            decoders=self.decoders,
        )
        peer.name = f"192.0.{number // 250}.{number % 250}"
        return peer

    def prefixes(self, number: int) -> list[str]:
        own = [f"10.{number // 250}.{number % 250}.{16 * n}/28" for n in range(PREFIXES - 1)]
        return [*own, f"10.9.{number // 2 % 250}.0/24"]

    def step(self) -> None:
        number = self.rng.randrange(CLIENTS)
        peer, said = self.peers[number], self.said[number]
        if number not in self.up:
            peer.up(self.now)
            self.up.add(number)
            self.announce(number)
            peer.end_of_rib()
            return
        choice = self.rng.random()
        if choice < 0.25:
            peer.down(self.now, BOTH if number % 3 == 0 and choice < 0.2 else frozenset())
            self.up.discard(number)
            said.clear()
        elif choice < 0.65:
            self.announce(number)
        elif choice < 0.95:
            prefix = self.rng.choice(self.prefixes(number))
            peer.withdraw(prefix)
            said.pop(prefix, None)
        else:
            peer.refresh(now=self.now)

    def announce(self, number: int) -> None:
        for prefix in self.prefixes(number):
            med = self.rng.randrange(1000)
            self.peers[number].announce(prefix, med=med)
            self.said[number][prefix] = med

    def read(self, share: float = 1.0) -> None:
        self.core.flush()
        for number in self.up:
            peer = self.peers[number]
            if self.rng.random() >= share:
                continue
            if number % 20 == 0:
                peer.read()
            else:
                assert peer.member is not None
                while self.core.take(peer.member):
                    pass

    def churn(self, seconds: float) -> int:
        steps = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for _ in range(20):
                self.step()
                steps += 1
            self.read(0.3)
            self.now += 1.0
            self.core.tick(self.now)
        return steps

    def all_leave(self) -> None:
        for number in list(self.up):
            self.peers[number].down(self.now)
            self.up.discard(number)
            self.said[number].clear()
        self.now += 1000.0
        self.core.tick(self.now)
        self.core.flush()
        # What the test itself remembers does not count.
        self.peers = [self._peer(number) for number in range(CLIENTS)]
        for interner in self.decoders.interners.values():
            interner.sweep()

    def exact(self) -> None:
        self.now += 1000.0  # whoever is away is forgotten
        self.core.tick(self.now)
        self.read()
        owners: dict[str, list[tuple[int, int]]] = {}
        for number in self.up:
            for prefix, med in self.said[number].items():
                owners.setdefault(prefix, []).append((med, number))
        for number in self.up:
            if number % 20:
                continue
            peer = self.peers[number]
            if number % 40 == 0:
                others = {p for p, who in owners.items() if {n for _, n in who} - {number}}
                assert peer.prefixes == others
                continue
            wanted = {p: min(who)[0] for p, who in owners.items() if self.best(who) != number}
            assert {p: peer.told(p).med for p in wanted} == wanted
            assert len(peer.view[V4]) == len(wanted)

    def best(self, who: list[tuple[int, int]]) -> int:
        """Lowest MED, then lowest BGP Identifier, then lowest address."""
        return min(who, key=lambda owner: (owner[0], owner[1] % 250, owner[1]))[1]


pytestmark = pytest.mark.timeout(120 + 10 * SECONDS)


def test_hundreds_of_clients_come_and_go_and_nothing_piles_up() -> None:
    crowd = Crowd(reflector(), random.Random(1))
    tracemalloc.start()
    try:
        sizes = []
        steps = 0
        for _ in range(4):
            steps += crowd.churn(SECONDS / 4)
            crowd.exact()
            crowd.all_leave()
            assert not crowd.core.members
            assert not crowd.core.groups
            assert not len(crowd.core.ribs[V4])
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    print(f"{steps} comings, goings and changes in {crowd.now:.0f} s of their time; octets at rest: {sizes}")
    # The first round fills caches of fixed size.
    assert sizes[-1] < sizes[1] + (1 << 18), sizes


@pytest.mark.plain
def test_a_stalled_crowd_costs_about_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that never read while others change everything again and again."""
    monkeypatch.setattr(update_group, "ExportLog", lambda *args: export_log.ExportLog(*args, slack=1 << 14))
    rng = random.Random(2)
    core = reflector()
    writer = SimulatedPeer(core, 1).up()
    stalled = [SimulatedPeer(core, n).up() for n in range(2, 40)]
    reader = SimulatedPeer(core, 50).up()
    prefixes = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(600)]

    def round_of_changes() -> None:
        for prefix in prefixes:
            writer.announce(prefix, med=rng.randrange(1 << 20), communities=tuple(range(20)))
        core.flush()
        reader.read()

    def held() -> int:
        """Octets of the log that are kept for anybody's sake."""
        batches: dict[int, int] = {}
        for peer in (*stalled, reader, writer):
            assert peer.member is not None
            batch: export_log.Batch | None = peer.member.readings[V4].cursor.batch
            while batch is not None:
                batches[id(batch)] = len(batch.data)
                batch = batch.following
        return sum(batches.values())

    round_of_changes()
    table = held()
    for _ in range(12):
        round_of_changes()
        assert held() < 4 * table + (1 << 15), "the state now, and what has changed since, but not each time"
    for peer in stalled:
        peer.read()
        assert {item: told.attributes for item, told in peer.view[V4].items()}.keys() == {
            key(p) for p in prefixes
        }
        assert peer.told(prefixes[0]).med == reader.told(prefixes[0]).med


def resident(pid: int) -> int:
    """Resident memory in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no such process")


async def test_a_real_process_stays_as_large_as_it_was(tmp_path: Path) -> None:
    """Waves of clients with sockets connect, announce, and go, in every way there is to go."""
    program = Program(tmp_path)
    program.configure(clients=[{"prefix": "127.0.0.0/8"}])
    await program.start()
    try:
        assert program.process is not None
        witness = await Client(20_000, program.port).up()
        sizes = []
        waves = max(6, int(SECONDS))
        crowds = max(4, waves // 12 + 1)
        for wave in range(waves):
            witness.write(KEEPALIVE)
            # Crowds take turns: who sends garbage again and again is kept waiting.
            crowd = [Client(wave % crowds * 60 + n, program.port) for n in range(60)]
            await asyncio.gather(*(client.up() for client in crowd))
            for number, client in enumerate(crowd):
                client.announce(*(f"10.{number}.{n}.0/24" for n in range(8)), med=wave)
            await until(lambda: len(witness.view) == 60 * 8)
            for number, client in enumerate(crowd):
                if number % 3 == 0:
                    client.write(b"garbage that is no BGP message at all")
                elif number % 3 == 1:
                    client.withdraw(f"10.{number}.0.0/24")
                await client.close()
            await until(lambda: not witness.view)
            sizes.append(resident(program.process.pid))
        print(f"{waves} waves of 60 clients; kB resident after each: {sizes}")
        # By then every crowd was there once and the ring of events is full. What grows on is the interner:
        # every wave brings it new sets, up to its next sweep.
        room = 2048 + (Interner.SWEEP_FLOOR >> 10)
        assert sizes[-1] < sizes[min(crowds + 8, waves // 2)] + room, sizes
        assert witness.established
        await witness.close()
    finally:
        assert await program.stop() == 0
