"""A real ExaBGP, fed at full speed, against what a real BIRD has in the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from pathlib import Path
from random import Random

import pytest

from agent.exabgp import handover
from agent.exabgp import speaker as speaker_module
from agent.exabgp.channel import Channel
from agent.exabgp.events import EXABGP_ENDED
from agent.exabgp.speaker import Speaker
from bgpd.wire.iana import MessageType
from tests.agent.bench import (
    Bench,
    Recorder,
    declared,
    is_up,
    random_change,
)
from tests.agent.ground import (
    eventually,
    exabgp_pid,
    kill_api_process,
    kill_exabgp,
    needs_bird,
    python,
)

pytestmark = needs_bird


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
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 60)


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
            await eventually(lambda before=before: len(recorder.downs) > before)  # type: ignore[misc]  # a default fixes it
            for _ in range(300):
                random_change(speaker, bench.peer, random)
                speaker.push()
            await eventually(is_up(recorder, bench.peer))
            assert round_ < 6
        assert await speaker.settle(60)
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 60)


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
        await eventually(lambda: bench.bird.routes() == declared(speaker, bench.peer), 60)
        assert exabgp_pid(bench.run) == pid
        assert bench.bird.established_since() == since


@pytest.mark.parametrize("release", [None, "4.2.22"])
async def test_an_agent_that_is_installed_elsewhere_adopts_an_exabgp_of_its_release(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str | None
) -> None:
    """And replaces another. The first note is as agents wrote it that knew of no release."""
    async with bench.speaker(stop=False) as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
    pid, since, note = exabgp_pid(bench.run), bench.bird.established_since(), bench.run / "process.json"
    known = json.loads(note.read_text())
    del known["release"]
    note.write_text(json.dumps(known | ({"release": release} if release else {})))
    monkeypatch.setattr(handover, "__file__", shutil.copy(handover.__file__, tmp_path))
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.9/32", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
        await eventually(lambda: set(bench.bird.routes()) == {"10.1.0.9/32"})
        assert (exabgp_pid(bench.run) == pid) == (release is None)
        assert (bench.bird.established_since() == since) == (release is None)


DYING_AGENT = """
import asyncio, os, sys
from pathlib import Path
from tests.agent.bench import Recorder, Speaker
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


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("turns", range(4))
async def test_an_agent_that_ends_while_it_is_given_the_pipes_leaves_none_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    greet, ending = Channel._greet, asyncio.Event()

    async def greeted(channel: Channel, connection: socket.socket) -> list[str]:
        kept = await greet(channel, connection)
        ending.set()
        return kept

    async with bench.speaker(stop=False) as (_, recorder):
        await eventually(is_up(recorder, bench.peer))
    before = descriptors()
    monkeypatch.setattr(Channel, "_greet", greeted)
    async with bench.speaker(stop=False):
        await ending.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert descriptors() == before


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
        await eventually(lambda: bench.bird.routes() == {"10.3.0.0/24": None}, 60)
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

    async def when_allowed(channel: Channel, path: Path, patience: float) -> list[str]:
        await may_attach.wait()
        return await attach(channel, path, patience)

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


BUSY_AGENT = """
import asyncio, sys, time
from pathlib import Path
from tests.agent.bench import Recorder, Speaker
async def main():
    recorder = Recorder()
    speaker = Speaker(Path(sys.argv[1]), sys.stdin.read(), [sys.argv[2]], recorder)
    task = asyncio.create_task(speaker.run())
    while not recorder.up.get(sys.argv[2]):
        await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    print("up", flush=True)
    time.sleep(600)
asyncio.run(main())
"""


async def test_a_session_that_began_anew_before_an_agent_too_busy_was_killed_is_read_by_its_own_opens(
    bench: Bench, tmp_path: Path
) -> None:
    """Its thread had taken the OPENs out of the pipe, for a loop that never came to them."""
    said = tmp_path / "said"
    with python(BUSY_AGENT, str(bench.run), bench.peer, feed=bench.text(), output=said) as busy:
        await eventually(lambda: said.read_text().endswith("up\n"))
        file = bench.bird.directory / "bird.conf"
        file.write_text(file.read_text().replace("multihop;", "multihop; hold time 100;"))
        assert "Reconfigur" in bench.bird.ask("configure")  # the session is over before BIRD says so
        await eventually(lambda: bench.bird.established_since() is not None)
        await asyncio.sleep(1)
        busy.kill()
    async with bench.speaker() as (_, recorder):
        await eventually(is_up(recorder, bench.peer))
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
            await eventually(lambda death=death: len(recorder.ups) > death)  # type: ignore[misc]  # a default fixes it
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


async def test_a_log_of_many_complaints_is_begun_anew_while_exabgp_runs(bench: Bench) -> None:
    async with bench.speaker() as (_, recorder):
        await eventually(is_up(recorder, bench.peer))
        words = bench.run / "exabgp.log"
        with words.open("ab") as appending:
            appending.write(b"-" * (5 << 20))
        await eventually(lambda: words.stat().st_size == 0)
        bench.bird.stop()
        await eventually(lambda: bool(words.read_bytes().strip(b"\0")))
        assert words.read_bytes()[:1] != b"\0"  # no hole where the old words were


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


async def test_an_exabgp_found_frozen_is_ended_before_its_peers_hold_timers_expire(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NOTIFICATION of theirs would take the routes along."""
    text = bench.text(hold_time=18)
    monkeypatch.setattr(bench, "text", lambda: text)
    async with bench.speaker(stop=False) as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        assert await speaker.settle(30)
    os.kill(exabgp_pid(bench.run), signal.SIGSTOP)
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/24", "next-hop self")
        await eventually(lambda: speaker.restarts == 1)
        await eventually(is_up(recorder, bench.peer))
        assert "10.1.0.0/24" in bench.bird.routes()
    assert "Hold timer expired" not in (bench.bird.directory / "bird.log").read_text()


async def test_an_exabgp_that_is_slow_to_start_is_given_more_time_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_module, "_SHORTEST_START", 0.05)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        assert speaker.restarts
        assert "no API process answers" in speaker.last_error
        assert speaker._start_patience == 0.05
