"""ExaBGP with other peers than before: reloads, restarts, and whom they disturb."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.exabgp import speaker as speaker_module
from agent.exabgp.channel import Channel
from agent.exabgp.process import Process, run_line
from agent.exabgp.speaker import Speaker
from agent.sessions import end_leftover
from bgpd.render.exabgp import configuration
from tests.agent.bench import (
    Bench,
    Recorder,
    declared,
    is_up,
    peering,
)
from tests.agent.ground import (
    eventually,
    exabgp_pid,
    is_running,
    kill_exabgp,
    needs_bird,
    needs_root,
)

pytestmark = needs_bird


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


async def test_of_a_peer_that_is_gone_nothing_is_remembered(bench: Bench) -> None:
    """Not what was said of it, nor what ExaBGP says of it until it has other peers, be it told late."""
    other = f"{bench.peer.rpartition('.')[0]}.101"
    text = configuration(
        [peering(bench.local, other, bench.port)],
        router_id=IPv4Address("10.255.0.1"),
        helper_command=run_line(bench.run),
        passwords={},
    )
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        said = list(speaker._opens.values())
        assert len(said) == 2
        await speaker.reconfigure(text, [other])
        assert recorder.downs == ["no longer configured"]
        speaker._received(said)
        for line in said:
            Speaker._keep(speaker, line)
        kept = (speaker._opens, speaker._states, speaker._troubles._last, speaker._troubles._silent_from)
        assert bench.peer not in str(kept)
        assert not bench.bird.established()


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


async def test_the_next_agent_believes_no_reload_that_was_under_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExaBGP has read it, the agent dies before it knows, and by then the former is wanted again."""

    async def never(*_: object) -> bool:
        return await asyncio.Event().wait()

    def hold_time(recorder: Recorder) -> int:
        return int.from_bytes(recorder.sent[-1][3:5], "big") if recorder.sent else 0

    with monkeypatch.context() as patched:
        patched.setattr(Speaker, "_has_read_it", never)
        async with bench.speaker(stop=False) as (speaker, recorder):
            await eventually(is_up(recorder, bench.peer))
            dying = asyncio.create_task(speaker.reconfigure(bench.text(hold_time=30), [bench.peer]))
            await eventually(lambda: hold_time(recorder) == 30)
            dying.cancel()
            await asyncio.wait((dying,))
    async with bench.speaker() as (_, recorder):
        await eventually(lambda: hold_time(recorder) == 90)


async def test_a_configuration_no_exabgp_starts_with_does_not_hold_up_a_better_one(bench: Bench) -> None:
    """Nor where ExaBGP dies amid the reload, and each that is started ends at once."""
    async with bench.speaker() as (speaker, recorder):
        speaker.outbox.peer(bench.peer).want("10.1.0.0/26", "next-hop self")
        await eventually(is_up(recorder, bench.peer))
        bad = asyncio.create_task(speaker.reconfigure(bench.text() + "nonsense\n", [bench.peer]))
        await asyncio.sleep(0.1)
        kill_exabgp(bench.run)
        await asyncio.wait_for(bad, 60)
        await eventually(lambda: speaker.restarts > 1)
        await asyncio.wait_for(speaker.reconfigure(bench.text(hold_time=30), [bench.peer]), 60)
        await eventually(lambda: int.from_bytes(recorder.sent[-1][3:5], "big") == 30)
        await eventually(lambda: bench.bird.routes() == {"10.1.0.0/26": None})


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
        await eventually(lambda: len(recorder.ups) == 2)
        changing = asyncio.create_task(speaker.replace(bench.text(hold_time=30), [bench.peer]))
        while int.from_bytes(recorder.sent[-1][3:5], "big") != 30 or not recorder.up[bench.peer]:
            assert len(await asyncio.to_thread(bench.bird.routes)) == count
            await asyncio.sleep(0.02)
        await changing
        assert await speaker.settle(60)
        assert len(bench.bird.routes()) == count


async def test_a_change_while_no_exabgp_runs_hides_no_end_of_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaker_module, "_SHORTEST_WAIT", 2.0)
    monkeypatch.setattr(speaker_module, "_BEGINNING", 0.0)
    async with bench.speaker() as (speaker, recorder):
        await eventually(is_up(recorder, bench.peer))
        kill_exabgp(bench.run)
        await eventually(lambda: not speaker.process.running)
        await speaker.replace(bench.text(hold_time=30), [bench.peer])
        assert not speaker.process.running
        await eventually(lambda: int.from_bytes(recorder.sent[-1][3:5], "big") == 30)
        assert speaker.restarts == 1
        kill_exabgp(bench.run)
        await eventually(lambda: len(recorder.ups) == 3)
        assert speaker.restarts == 2


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


async def test_an_exabgp_whose_file_was_lost_is_ended_also_where_nobody_wants_one(bench: Bench) -> None:
    async with bench.speaker(stop=False) as (_, recorder):
        await eventually(is_up(recorder, bench.peer))
        lost = exabgp_pid(bench.run)
    (bench.run / "process.json").unlink()
    try:
        await end_leftover(bench.run)
        await eventually(lambda: not is_running(lost), 5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(lost, signal.SIGKILL)


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
