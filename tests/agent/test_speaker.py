"""A real ExaBGP, fed at full speed, against what a real BIRD has in the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random

import pytest

from agent.exabgp.adj_rib_out import Refused
from agent.exabgp.channel import Channel
from agent.exabgp.events import EXABGP_ENDED
from agent.exabgp.process import Process, run_line
from agent.exabgp.speaker import Speaker
from bgpd.plan.model import Peering, PeeringKind
from bgpd.plan.policy import ExportPolicy, ImportPolicy
from bgpd.render.exabgp import configuration
from bgpd.wire.iana import MessageType
from bgpd.wire.messages import decode
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST
from tests.agent.ground import (
    Bird,
    eventually,
    exabgp_pid,
    is_running,
    kill_api_process,
    kill_exabgp,
    needs_bird,
    needs_root,
    python,
    short_directory,
)
from tests.ports import free_port

pytestmark = needs_bird
ASN = 65000
FAMILIES = ("ipv4 unicast", "ipv6 unicast")


def addresses() -> tuple[str, str]:
    """Two loopback addresses that no other test run uses."""
    block = f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
    return f"{block}.1", f"{block}.2"


def bird_configuration(local: str, peer: str, port: int, *, routes: int = 1) -> str:
    static = "\n".join(f"route 172.16.{n // 256}.{n % 256}/32 blackhole;" for n in range(routes))
    return f"""
router id {local};
log stderr all;
protocol device {{}}
protocol static {{ ipv4; {static} }}
protocol bgp agent {{
  local {local} port {port} as {ASN};
  neighbor {peer} as {ASN};
  multihop; passive on; graceful restart on; graceful restart time 60; enable extended messages on;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
  ipv6 {{ import all; export none; }};
}}
"""


def peering(local: str, peer: str, port: int) -> Peering:
    return Peering(
        name="bird", kind=PeeringKind.GLOBAL, peer_address=ip_address(peer), peer_port=port,
        local_address=ip_address(local), local_asn=ASN, peer_asn=ASN, families=(IPV4_UNICAST, IPV6_UNICAST),
        import_policy=ImportPolicy(), export_policy=ExportPolicy(), reason="a test",
        graceful_restart=60,
    )  # fmt: skip


class Recorder:
    """The owner of a speaker, that only writes down."""

    def __init__(self) -> None:
        self.up: dict[str, bool] = {}
        self.ups: list[bool] = []
        self.sent: list[bytes] = []  # OPENs
        self.opens: list[bytes] = []  # received
        self.downs: list[str] = []
        self.messages: list[tuple[int, bytes]] = []
        self.refusals: list[Refused] = []

    def session_up(self, peer: str, sent: bytes, received: bytes, adopted: bool) -> Sequence[str]:
        decode(MessageType.OPEN, sent)
        decode(MessageType.OPEN, received)
        self.up[peer] = True
        self.ups.append(adopted)
        self.sent.append(sent)
        self.opens.append(received)
        return FAMILIES

    def session_down(self, peer: str, reason: str) -> None:
        self.up[peer] = False
        self.downs.append(reason)

    def message_received(self, peer: str, type: int, body: bytes) -> None:
        self.messages.append((type, body))

    def refused(self, routes: Refused) -> None:
        self.refusals.append(routes)

    def progressed(self) -> None: ...


class Bench:
    """BIRD on one side, the directory of an ExaBGP on the other."""

    def __init__(self, directory: Path) -> None:
        self.local, self.peer = addresses()
        self.port = free_port()
        self.run = directory / "run" / "peer"
        self.bird = Bird(directory, bird_configuration(self.peer, self.local, self.port))

    def text(self, hold_time: int = 90) -> str:
        return configuration(
            [replace(peering(self.local, self.peer, self.port), hold_time=hold_time)],
            router_id=IPv4Address("10.255.0.1"),
            helper_command=run_line(self.run),
            passwords={},
        )

    @asynccontextmanager
    async def speaker(self, *, stop: bool = True) -> AsyncIterator[tuple[Speaker, Recorder]]:
        recorder = Recorder()
        speaker = Speaker(self.run, self.text(), [self.peer], recorder)
        task = asyncio.create_task(speaker.run())
        try:
            yield speaker, recorder
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if stop:
                await speaker.stop()
            else:
                speaker.release()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with short_directory() as directory:
        made = Bench(directory)
        made.bird.start()
        try:
            yield made
        finally:
            made.bird.stop(signal.SIGKILL)
            kill_exabgp(made.run)


def is_up(recorder: Recorder, address: str) -> Callable[[], bool]:
    return lambda: recorder.up.get(address, False)


def declared(speaker: Speaker, address: str) -> dict[str, int | None]:
    """What BIRD must have, by our own declarations."""
    found: dict[str, int | None] = {}
    for prefix, attributes in speaker.outbox.peer(address).wanted.items():
        words = attributes.split()
        found[prefix] = int(words[words.index("med") + 1]) if "med" in words else None
    return found


def random_change(speaker: Speaker, address: str, random: Random) -> None:
    n = random.randrange(400)
    prefix = f"10.0.{n // 256}.{n % 256}/32" if n < 300 else f"2001:db8:{n:x}::/64"
    med = random.choice((None, 0, 4, 9))
    next_hop = "self" if n < 300 else "2001:db8::1"
    attributes = None if med is None else f"next-hop {next_hop} med {med}"
    speaker.outbox.peer(address).want(prefix, attributes)


async def test_twenty_thousand_random_changes_at_full_speed_leave_exactly_the_declared_routes(
    bench: Bench,
) -> None:
    random = Random(20)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        for operation in range(20_000):
            random_change(speaker, bench.peer, random)
            speaker.push()
            if operation % 20 == 0:
                await asyncio.sleep(0)
        assert await speaker.settle(60)
        assert not recorder.refusals
        assert not recorder.downs
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 10)


async def test_an_up_that_comes_late_is_no_other_session_and_one_behind_new_opens_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExaBGP may answer that a peer is up before it says so by itself; the two mean one session."""
    heard: list[str] = []
    received = Speaker._received

    def hear(speaker: Speaker, lines: list[str]) -> None:
        heard.extend(lines)
        received(speaker, lines)

    monkeypatch.setattr(Speaker, "_received", hear)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        await eventually(lambda: any('"state": "up"' in line for line in heard))
        up = next(line for line in heard if '"state": "up"' in line)
        opens = [line for line in heard if '"type": "open"' in line]
        so_far = list(recorder.ups)
        speaker._received([up])
        assert (recorder.ups, recorder.downs) == (so_far, [])
        speaker._received([*(line.replace('"counter": ', '"counter": 1') for line in opens), up])
        assert (recorder.ups, recorder.downs) == ([*so_far, False], ["reconnected unseen"])


async def test_changes_while_the_session_flaps_end_exact(bench: Bench) -> None:
    random = Random(7)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        for round_ in range(6):
            for _ in range(300):
                random_change(speaker, bench.peer, random)
                speaker.push()
                await asyncio.sleep(0)
            before = len(recorder.downs)
            bench.bird.ask("restart agent")
            await eventually(lambda before=before: len(recorder.downs) > before)  # type: ignore[misc]
            for _ in range(300):
                random_change(speaker, bench.peer, random)
                speaker.push()
            await eventually(is_up(recorder, bench.peer))
            assert round_ < 6
        assert await speaker.settle(60)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 10)


async def test_received_updates_arrive_as_the_peer_sent_them(bench: Bench) -> None:
    async with bench.speaker() as (_, recorder):
        await eventually(lambda: sum(type == MessageType.UPDATE for type, _ in recorder.messages) >= 3)
        bodies = [body for type, body in recorder.messages if type == MessageType.UPDATE]
        assert any(body.endswith(bytes((32, 172, 16, 0, 0))) for body in bodies)
        assert bytes(4) in bodies  # End-of-RIB


async def test_the_next_agent_adopts_exabgp_and_its_session(bench: Bench) -> None:
    async with bench.speaker(stop=False) as (speaker, recorder):
        for n in range(50):
            speaker.outbox.peer(bench.peer).want(f"10.1.0.{n}/32", f"next-hop self med {n}")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
    pid, since = exabgp_pid(bench.run), bench.bird.established_since()
    async with bench.speaker() as (speaker, recorder):
        for n in range(25, 75):
            speaker.outbox.peer(bench.peer).want(f"10.1.0.{n}/32", f"next-hop self med {n * 2}")
        await eventually(is_up(recorder, bench.peer))
        assert recorder.ups == [True]
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 10)
        assert exabgp_pid(bench.run) == pid
        assert bench.bird.established_since() == since


DYING_AGENT = """
import asyncio, os, sys
from pathlib import Path
from tests.agent.test_speaker import Recorder, Speaker
async def main():
    run, text, peer = Path(sys.argv[1]), sys.stdin.read(), sys.argv[2]
    recorder = Recorder()
    speaker = Speaker(run, text, [peer], recorder)
    task = asyncio.create_task(speaker.run())
    while not recorder.up.get(peer):
        await asyncio.sleep(0.01)
    n = 0
    while True:
        n += 1
        speaker.outbox.peer(peer).want(f"10.2.{n // 200 % 200}.{n % 200}/32", f"next-hop self med {n % 5}")
        speaker.push()
        print(n, flush=True)
        await asyncio.sleep(0)
asyncio.run(main())
"""


async def test_an_agent_killed_in_full_flow_is_replaced_without_the_session_noticing(bench: Bench) -> None:
    with python(DYING_AGENT, str(bench.run), bench.peer, feed=bench.text()) as dying:
        await eventually(lambda: len(bench.bird.routes()) > 200)
        dying.kill()
    pid, since = exabgp_pid(bench.run), bench.bird.established_since()
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.3.0.0/24", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        assert recorder.ups == [True]
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == {"10.3.0.0/24": None}, 10)
        assert not recorder.refusals
        assert exabgp_pid(bench.run) == pid
        assert bench.bird.established_since() == since


async def test_a_killed_exabgp_is_restarted_and_graceful_restart_keeps_the_routes(bench: Bench) -> None:
    async with bench.speaker() as (speaker, recorder):
        for n in range(100):
            speaker.outbox.peer(bench.peer).want(f"10.1.0.{n}/32", f"next-hop self med {n % 3}")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        expected = declared(speaker, bench.peer)
        await eventually(lambda: bench.bird.routes() == expected)
        kill_exabgp(bench.run)
        await eventually(lambda: not recorder.up[bench.peer])
        while not recorder.up[bench.peer]:
            assert bench.bird.routes() == expected  # stale, but there
            await asyncio.sleep(0.05)
        speaker.outbox.peer(bench.peer).want("10.1.0.0/32", None)
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer))
        assert speaker.restarts == 1


async def test_a_dead_api_process_is_replaced_and_nothing_is_lost(bench: Bench) -> None:
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self med 1")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        pid = exabgp_pid(bench.run)
        kill_api_process(bench.run)
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self med 2")
        speaker.outbox.peer(bench.peer).want("10.1.1.0/24", "next-hop self")
        await eventually(lambda: len(recorder.ups) == 2)
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == {"10.1.0.0/24": 2, "10.1.1.0/24": None})
        assert exabgp_pid(bench.run) == pid
        assert not recorder.downs


async def test_a_session_that_began_anew_while_nobody_listened_is_read_by_its_own_opens(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What handover.py remembers is newer than what an agent knows that lost its pipes for a while."""
    attach, may_attach = Channel.attach, asyncio.Event()
    may_attach.set()

    async def when_allowed(channel: Channel, path: Path) -> list[str]:
        await may_attach.wait()
        return await attach(channel, path)

    monkeypatch.setattr(Channel, "attach", when_allowed)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        assert hold_time(recorder) == 240
        may_attach.clear()
        assert speaker._channel is not None
        speaker._channel.close()
        speaker._lost.set()
        file = bench.bird.directory / "bird.conf"
        file.write_text(file.read_text().replace("multihop;", "multihop; hold time 100;"))
        assert "Reconfigur" in bench.bird.ask("configure")  # the session is over before BIRD says so
        await eventually(lambda: bench.bird.established_since() is not None)
        may_attach.set()
        await eventually(lambda: len(recorder.ups) == 2)
        assert hold_time(recorder) == 100


def hold_time(recorder: Recorder) -> int:
    """As the peer's latest OPEN has it."""
    return int.from_bytes(recorder.opens[-1][3:5], "big")


async def test_api_processes_that_die_while_the_peer_speaks_lose_nothing_and_the_sixth_takes_exabgp_along(
    bench: Bench,
) -> None:
    """ExaBGP starts five within a minute; then it ends, and graceful restart carries the routes."""
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self med 1")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        for death in range(1, 13):
            if speaker.restarts:
                break
            bench.bird.ask("reload out agent")
            kill_api_process(bench.run)
            await eventually(lambda death=death: len(recorder.ups) > death)  # type: ignore[misc]
            assert set(bench.bird.routes()) == {"10.1.0.0/24"}
        assert speaker.restarts == 1
        assert recorder.downs == [EXABGP_ENDED]
        speaker.outbox.peer(bench.peer).want("10.1.1.0/24", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer))


async def test_a_refused_route_is_reported_and_the_others_arrive(bench: Bench) -> None:
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop nowhere")
        speaker.outbox.peer(bench.peer).want("10.1.1.0/24", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        await eventually(lambda: bool(recorder.refusals))
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == {"10.1.1.0/24": None})


async def test_peers_come_and_go_by_reload_and_the_one_that_stays_notices_nothing(bench: Bench) -> None:
    """The mesh: ExaBGP takes other peers without a restart, verified."""

    def text(*others: str) -> str:
        sessions = [peering(bench.local, bench.peer, bench.port)]
        sessions += [
            replace(peering(bench.local, other, bench.port), name=f"other{n}")
            for n, other in enumerate(others)
        ]
        return configuration(
            sessions,
            router_id=IPv4Address("10.255.0.1"),
            helper_command=run_line(bench.run),
            passwords={},
        )

    others = [f"{bench.peer.rpartition('.')[0]}.{last}" for last in (101, 102, 103)]
    async with bench.speaker() as (speaker, recorder):
        await eventually(lambda: recorder.up.get(bench.peer, False))
        speaker.outbox.peer(bench.peer).want("10.1.0.0/26", "next-hop self")
        speaker.push()
        await eventually(lambda: "10.1.0.0/26" in bench.bird.routes())
        pid, since = exabgp_pid(bench.run), bench.bird.established_since()
        for wanted in (others[:2], others, others[2:], []):
            await speaker.reconfigure(text(*wanted), [bench.peer, *wanted])
            assert set(speaker.outbox.peers) == {bench.peer, *wanted}
            assert speaker.process.digest == speaker.process.digest_of(text(*wanted))
        assert exabgp_pid(bench.run) == pid
        speaker.outbox.peer(bench.peer).want("10.1.0.64/26", "next-hop self")
        speaker.push()
        await eventually(lambda: {"10.1.0.0/26", "10.1.0.64/26"} <= bench.bird.routes().keys())
        assert bench.bird.established_since() == since
        assert recorder.downs == []


async def test_a_reload_that_exabgp_drops_is_repeated_also_when_its_peers_stay_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It forgets one without a word while routes are pending."""
    write = Channel.write
    dropped: list[str] = []

    def drop_the_first(channel: Channel, line: str) -> None:
        drops = line == "reload" and not dropped
        dropped.extend([line] * drops)
        if drops:
            assert speaker.process.digest == speaker.process.digest_of(bench.text()), (
                "it runs with the former"
            )
        write(channel, "version" if drops else line)

    monkeypatch.setattr(Channel, "write", drop_the_first)
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/26", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        pid = exabgp_pid(bench.run)
        await speaker.reconfigure(bench.text(hold_time=30), [bench.peer])
        assert dropped == ["reload"]
        await eventually(lambda: int.from_bytes(recorder.sent[-1][3:5], "big") == 30)
        await eventually(lambda: bench.bird.routes() == {"10.1.0.0/26": None})
        assert exabgp_pid(bench.run) == pid


async def test_a_peer_that_exabgp_takes_for_another_after_a_reload_is_told_everything(bench: Bench) -> None:
    """With another router ID it is one, at the same address, and ExaBGP has forgotten what it was told."""
    async with bench.speaker() as (speaker, recorder):
        for n in range(10):
            speaker.outbox.peer(bench.peer).want(f"10.1.{n}.0/24", f"next-hop self med {n}")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        pid = exabgp_pid(bench.run)
        await speaker.reconfigure(
            bench.text().replace("router-id 10.255.0.1", "router-id 10.255.0.2"), [bench.peer]
        )
        await eventually(lambda: recorder.sent[-1][5:9] == bytes((10, 255, 0, 2)))
        assert await speaker.settle(30)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 20)
        assert exabgp_pid(bench.run) == pid


async def test_a_change_right_behind_a_restart_costs_no_route(bench: Bench) -> None:
    """RFC 4724 4.2: what a peer kept over one restart it deletes at the next, unless told again by then."""
    count = 300
    async with bench.speaker() as (speaker, recorder):
        for n in range(count):
            speaker.outbox.peer(bench.peer).want(f"10.2.{n // 256}.{n % 256}/32", f"next-hop self med {n}")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(60)
        await eventually(lambda: len(bench.bird.routes()) == count)
        os.kill(exabgp_pid(bench.run), signal.SIGKILL)
        await eventually(lambda: not bench.bird.established())
        await eventually(bench.bird.established)
        changing = asyncio.create_task(speaker.replace(bench.text(hold_time=30), [bench.peer]))
        while int.from_bytes(recorder.sent[-1][3:5], "big") != 30 or not recorder.up[bench.peer]:
            assert len(await asyncio.to_thread(bench.bird.routes)) == count
            await asyncio.sleep(0.02)
        await changing
        assert await speaker.settle(60)
        assert len(bench.bird.routes()) == count


async def test_nothing_is_settled_before_it_is_known_what_exabgp_has(bench: Bench) -> None:
    """An agent that has only just attached knows of no session yet, so of nothing left to say."""
    async with bench.speaker(stop=False) as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.2.0.1/32", "next-hop self med 1")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(60)
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.2.0.1/32", "next-hop self med 2")
        while not speaker.attached:  # noqa: ASYNC110 - the very next turn counts
            await asyncio.sleep(0)
        assert await speaker.settle(60)
        assert recorder.up == {bench.peer: True}
        await eventually(lambda: bench.bird.routes() == {"10.2.0.1/32": 2})


async def test_another_configuration_waits_for_room_on_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExaBGP is not ended before there is something to start the next one with."""
    refused: list[Path] = []

    def full(path: Path, text: str) -> None:
        refused.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        pid = exabgp_pid(bench.run)
        with monkeypatch.context() as patched:
            patched.setattr("agent.exabgp.process.write_whole", full)
            changing = asyncio.create_task(speaker.replace(bench.text(hold_time=30), [bench.peer]))
            await eventually(lambda: len(refused) > 1)
            assert recorder.downs == []
            assert is_running(pid)
        await changing
        await eventually(lambda: recorder.up[bench.peer] and recorder.sent[-1][3:5] == bytes((0, 30)))


async def test_an_exabgp_whose_file_was_lost_makes_room_for_the_next(bench: Bench) -> None:
    """The agent was killed before it had written it, or the disk was full: two would contend for the peer."""
    async with bench.speaker(stop=False) as (_, recorder):
        await eventually(is_up(recorder, bench.peer))
        lost = exabgp_pid(bench.run)
    (bench.run / "process.json").unlink()
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self")
        await eventually(lambda: not is_running(lost), 20)
        await eventually(is_up(recorder, bench.peer))
        await eventually(lambda: bench.bird.routes() == {"10.1.0.0/24": None})
        assert exabgp_pid(bench.run) != lost


@contextlib.contextmanager
def started(words: Sequence[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said its first line; killed at the end."""
    process = subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_root
async def test_room_is_made_among_our_own_and_not_in_another_container(tmp_path: Path) -> None:
    """Seen from a machine, its containers' processes are called alike; their files are others."""
    package = tmp_path / "agent" / "exabgp"
    package.mkdir(parents=True)
    for inner in (package, package.parent):
        (inner / "__init__.py").touch()
    (package / "launch.py").write_text("import time; print(flush=True); time.sleep(600)")
    run = tmp_path / "run"
    run.mkdir()
    (run / "exabgp.conf").touch()
    words = [sys.executable, "-m", "agent.exabgp.launch", "server", str(run / "exabgp.conf")]
    inside = f"mount -t tmpfs none {run} && touch {run}/exabgp.conf && exec {shlex.join(words)}"
    with (
        started(words, tmp_path) as ours,
        started(["unshare", "-m", "sh", "-c", inside], tmp_path) as another,
    ):
        process = Process(run)
        process.start("nothing that ExaBGP understands")
        await asyncio.to_thread(ours.wait, 30)
        assert is_running(another.pid)
        await process.stop()


async def test_a_stopped_exabgp_is_waited_for_and_goes_on(bench: Bench) -> None:
    """SIGSTOP for less than the hold time: nothing is lost, nothing is restarted."""
    async with bench.speaker() as (speaker, recorder):
        await eventually(lambda: recorder.up.get(bench.peer, False))
        pid = exabgp_pid(bench.run)
        os.kill(pid, signal.SIGSTOP)
        try:
            for n in range(2000):
                prefix = f"10.2.{n // 256}.{n % 256}/32"
                speaker.outbox.peer(bench.peer).want(prefix, f"next-hop self med {n % 7}")
            speaker.push()
            await asyncio.sleep(2)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await speaker.settle(30)
        await eventually(lambda: len(bench.bird.routes()) == 2000)
        assert (recorder.downs, speaker.restarts, exabgp_pid(bench.run)) == ([], 0, pid)
