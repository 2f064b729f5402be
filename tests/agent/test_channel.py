"""The pipes change hands: what handover.py remembers, what arrives around an attachment, who dies when."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.exabgp import handover
from agent.exabgp.channel import Channel
from agent.exabgp.process import ExaBGPError
from tests.agent.ground import eventually, short_directory


def open_line(peer: int) -> str:
    words = f'"peer": "10.{peer // 256}.{peer % 256}.1" }}, "direction": "receive", "body": "{"00" * 60}"'
    return f'{{ "exabgp": "5", "type": "open", "neighbor": {{ "address": {{ {words} }} }}'


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def unread(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class FakeExaBGP:
    """A handover.py with its pipes held as ExaBGP holds them."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", handover.__file__, str(self.socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def say(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait(30)


@pytest.fixture
def exabgp() -> Iterator[FakeExaBGP]:
    with short_directory() as directory:
        made = FakeExaBGP(directory)
        try:
            yield made
        finally:
            made.close()


class Reader:
    """A channel and what came of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = asyncio.Event()
        self.channel = Channel(self.lines.extend, self.ended.set)

    async def heard(self, lines: list[str]) -> None:
        """Wait for as many lines; these it must be."""
        await eventually(lambda: len(self.lines) >= len(lines))
        assert self.lines == lines


async def test_what_is_remembered_comes_before_what_is_said(exabgp: FakeExaBGP) -> None:
    """An OPEN of the past behind the word that its session is up would leave that session unreadable."""
    first = Reader()
    await first.channel.attach(exabgp.socket)
    first.channel.begin()
    first.channel.remember(open_line(1))
    first.channel.close()
    second = Reader()
    assert await second.channel.attach(exabgp.socket) == [open_line(1)]
    exabgp.say("up")
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert second.lines == []
    second.channel.begin()
    await eventually(lambda: second.lines == ["up"])
    second.channel.close()


def test_of_a_session_that_is_down_no_open_is_remembered() -> None:
    """Else the next agent read the next session by the last one's."""

    def state(word: str) -> bytes:
        line = open_line(1).replace('"open"', '"state"')
        return line.replace('"direction"', f'"state": "{word}", "x"').encode()

    kept: dict[bytes, bytes] = {}
    received = [open_line(peer).encode() for peer in (1, 1, 2, 2)]
    opens = [line.replace(b"receive", b"send") if n % 2 else line for n, line in enumerate(received)]
    for line in (*opens, state("connected"), b"no event", b'"type": "open", of nobody'):
        handover.remember(line, kept)
    assert list(kept.values()) == [*opens, state("connected")]
    handover.remember(state("down"), kept)
    assert set(kept.values()) == {*opens[2:], state("down")}


async def test_a_word_that_was_half_said_between_two_agents_is_read_whole_and_once(
    exabgp: FakeExaBGP,
) -> None:
    first = Reader()
    await first.channel.attach(exabgp.socket)
    assert exabgp.socket.stat().st_mode & 0o777 == 0o600
    first.channel.close()
    exabgp.say("nobody hears this")
    assert exabgp.process.stdin is not None
    exabgp.process.stdin.write(b"ha")
    exabgp.process.stdin.flush()
    pipe = exabgp.process.stdin.fileno()
    await eventually(lambda: unread(pipe) == 0)
    for words, read in ((("lf", "whole"), ["half", "whole"]), (("next",), ["next"])):
        reader = Reader()
        assert await reader.channel.attach(exabgp.socket) == []
        reader.channel.begin()
        exabgp.say(*words)
        await reader.heard(read)
        reader.channel.close()


async def test_a_connection_that_stays_silent_is_not_waited_for_to_the_end(tmp_path: Path) -> None:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen()
        channel = Channel(lambda _: None, lambda: None)
        attaching = asyncio.ensure_future(channel.attach(directory / "socket", 60.0))
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        silent, _ = await loop.sock_accept(listener)
        served, _ = await asyncio.wait_for(loop.sock_accept(listener), 30)
        with (tmp_path / "events").open("w+b") as events, (tmp_path / "commands").open("w+b") as commands:
            socket.send_fds(served, [handover.GREETING], [events.fileno(), commands.fileno()])
        served.sendall(b"\n\0")
        assert await attaching == []
        channel.close()
        silent.close()
        served.close()


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize("turns", range(8))
async def test_an_attempt_that_is_given_up_is_over_whatever_happens_to_it(greeted: bool, turns: int) -> None:
    """One that goes on takes the pipes of the next ExaBGP, and nobody reads them."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen()
        listener.setblocking(False)
        channel = Channel(lambda _: None, lambda: None)
        attaching = asyncio.ensure_future(channel.attach(directory / "socket", 60.0))
        served, _ = await asyncio.get_running_loop().sock_accept(listener)
        with served:
            await asyncio.sleep(0.01)
            if greeted:
                socket.send_fds(served, [handover.GREETING], [listener.fileno(), listener.fileno()])
                served.sendall(b"\n\0")
        for _ in range(turns):
            await asyncio.sleep(0)
        if attaching.cancel():
            await asyncio.wait((attaching,))
            assert attaching.cancelled()
        else:
            assert greeted
        channel.close()


async def test_an_api_process_of_another_version_is_not_tried_again() -> None:
    """Nor is its ExaBGP left unheard until patience ends: it is replaced."""
    channel = Channel(lambda lines: None, lambda: None)
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen()
        task = asyncio.create_task(channel.attach(directory / "socket", patience=3600))
        served, _ = await asyncio.to_thread(listener.accept)
        with served:
            socket.send_fds(served, [handover.NAME + b"10\n"], [listener.fileno(), listener.fileno()])
            async with asyncio.timeout(30):
                with pytest.raises(ExaBGPError, match="another version"):
                    await task


async def test_the_pipes_go_to_no_program_that_the_agent_starts(exabgp: FakeExaBGP) -> None:
    """An ExaBGP that had another's would keep that from seeing that nobody reads or writes any more."""
    channel = Channel(lambda _: None, lambda: None)
    await channel.attach(exabgp.socket)
    channel.begin()
    assert held_by_a_child().isdisjoint(held(os.getpid(), channel._events, channel._commands))
    channel.close()


def held(process: int, *descriptors: int) -> set[Path]:
    """What descriptors of a process are of: all, or these."""
    directory = Path(f"/proc/{process}/fd")
    chosen = [directory / str(each) for each in descriptors] or directory.iterdir()
    found = set()
    for link in chosen:
        with contextlib.suppress(FileNotFoundError):  # of a program that is still being started
            found.add(link.readlink())
    return found


def held_by_a_child() -> set[Path]:
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        return held(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def test_all_is_remembered_however_much_at_once(exabgp: FakeExaBGP) -> None:
    """The sessions of a large mesh come up together, and handover.py may have no processor just then."""
    first, lines = Reader(), [open_line(peer) for peer in range(1000)]
    await first.channel.attach(exabgp.socket)
    first.channel.begin()
    os.kill(exabgp.process.pid, signal.SIGSTOP)
    for line in lines:
        first.channel.remember(line)
    os.kill(exabgp.process.pid, signal.SIGCONT)
    await eventually(lambda: not first.channel.remembering)
    first.channel.close()
    second = Reader()
    assert await second.channel.attach(exabgp.socket) == lines
    second.channel.close()


async def test_a_handover_that_dies_takes_nothing_along(exabgp: FakeExaBGP) -> None:
    """ExaBGP goes on speaking until it has looked after its API process, and each word arrives."""
    reader = Reader()
    await reader.channel.attach(exabgp.socket)
    reader.channel.begin()
    exabgp.say(*map(str, range(5000)))
    exabgp.process.kill()
    exabgp.process.wait()
    assert exabgp.process.stdout is not None
    await asyncio.to_thread(exabgp.process.stdout.read)  # its end: the agent has let go of the commands
    exabgp.say(*map(str, range(5000, 6000)))
    assert not reader.ended.is_set()
    exabgp.close()
    await asyncio.wait_for(reader.ended.wait(), 60)
    assert reader.lines == [str(number) for number in range(6000)]


async def test_exabgp_is_heard_while_the_loop_is_busy(exabgp: FakeExaBGP) -> None:
    """What it says is more than its pipe holds; blocked, it would miss its hold timers."""
    reader, lines = Reader(), [f"{number:099}" for number in range(50_000)]
    await reader.channel.attach(exabgp.socket)
    reader.channel.begin()
    exabgp.say("first")
    await eventually(lambda: reader.lines == ["first"])
    speaking = threading.Thread(target=exabgp.say, args=lines)
    speaking.start()
    speaking.join(30)  # the loop does nothing else meanwhile
    assert not speaking.is_alive()
    assert reader.lines == ["first"]
    await eventually(lambda: reader.lines == ["first", *lines])
    reader.channel.close()


async def test_commands_that_exabgp_does_not_read_yet_hold_nobody_up(exabgp: FakeExaBGP) -> None:
    reader, lines = Reader(), [f"{number:099}\n" for number in range(30_000)]
    await reader.channel.attach(exabgp.socket)
    reader.channel.begin()
    assert not os.get_blocking(reader.channel._commands)
    for line in lines:
        reader.channel.write(line[:-1])
    assert exabgp.process.stdout is not None
    assert await asyncio.to_thread(exabgp.process.stdout.read, 100 * len(lines)) == "".join(lines).encode()
    reader.channel.close()


async def test_an_exabgp_that_cannot_be_attached_to_leaves_nothing_open() -> None:
    """Without an API process, with one of another version, and with one that hangs up half way."""
    loop = asyncio.get_running_loop()
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        before = open_descriptors()
        with pytest.raises(ExaBGPError, match="no API process answers"):
            await Channel(lambda _: None, lambda: None).attach(directory / "socket", 0.1)
        assert open_descriptors() == before
        listener.bind(str(directory / "socket"))
        listener.listen()
        listener.setblocking(False)
        for greeting in (handover.GREETING, handover.NAME + b"10\n"):
            attaching = asyncio.ensure_future(
                Channel(lambda _: None, lambda: None).attach(directory / "socket", 0.0)
            )
            served, _ = await loop.sock_accept(listener)
            with served:
                socket.send_fds(served, [greeting], [listener.fileno(), listener.fileno()])
            with pytest.raises(ExaBGPError):
                await attaching
            assert open_descriptors() == before
