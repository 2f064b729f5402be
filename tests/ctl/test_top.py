"""`cairn top` beside a service with thousands of sessions."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time

from bgpd.telemetry.http import HttpOptions, StatusServer
from ctl.commands.top import Look, Rates
from tests.ctl.cairn import cairn, clean_environment
from tests.telemetry.big import Big
from tests.telemetry.source import Source, peer


async def test_those_in_trouble_come_first() -> None:
    server = StatusServer(Big(3000, 1000, time.time()), HttpOptions())
    await server.start()
    try:
        done = await asyncio.to_thread(
            cairn, "top", "--once", "--api", server.url, environment={"LINES": "30"}
        )
    finally:
        await server.stop()
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "reflector rr-1" in lines[1]
    assert "2995/3000" in lines[1]
    assert "hold timer expired" in lines[4]
    assert 10 < len(lines) < 40
    assert not any("Established" in line for line in lines[4:9])


def test_rates_are_those_between_the_last_two_looks_that_differ() -> None:
    def look(at: float, count: float) -> Look:
        return Look("agent n1", totals={"updates_received": count}, at=at)

    rates = Rates()
    for at, count, rate in ((60, 100, None), (60, 100, None), (120, 700, 10), (120, 700, 10), (180, 760, 1)):
        rates.see([look(at, count)])
        assert rates.of(look(at, count), "updates_received") == rate
    rates.see([look(240, 5)])  # it was restarted
    assert rates.of(look(240, 5), "updates_received") == 0


async def test_what_a_peer_says_is_no_markup_and_whole_where_there_is_no_edge() -> None:
    reason = "[/bold] and [red] " + "for a long time " * 20
    source = Source()
    source.peer_list = [peer("rr1", "IDLE", last_reason=reason)]
    server = StatusServer(source, HttpOptions())
    await server.start()
    try:
        done = await asyncio.to_thread(cairn, "top", "--once", "--api", server.url)
    finally:
        await server.stop()
    assert (done.code, reason.rstrip() in done.out) == (0, True), done


async def test_full_screen_until_ctrl_c() -> None:
    server = StatusServer(Big(10, 10, time.time()), HttpOptions())
    await server.start()
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
            [sys.executable, "-m", "ctl", "top", "--every", "0.2", "--api", server.url],
            stdout=theirs,
            stderr=theirs,
            env={**clean_environment(), "TERM": "xterm", "LINES": "24", "COLUMNS": "140"},
        )
        os.close(theirs)
        seen = b""
        async with asyncio.timeout(60):
            while seen.count(b"tor-rack-1") < 3:
                seen += await asyncio.to_thread(os.read, ours, 65536)
        assert b"\x1b[?1049h" in seen  # the alternate screen
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(_drain, ours)
        assert await asyncio.to_thread(process.wait, 20) in (0, 130, -signal.SIGINT)
    finally:
        os.close(ours)
        await server.stop()


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # the other end is closed
        return
