"""ExaBGP's own turns of commands, run without an event loop: same order, same limit, same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from exabgp.reactor import asynchronous

from agent.exabgp.launch import WithoutLoop
from agent.exabgp.process import Process
from tests.agent.ground import eventually


class Quiet:
    """Stands for ExaBGP's log, which wants to be set up."""

    def __getattr__(self, _: str) -> object:
        return lambda *_: None


def steps(name: str, count: int, done: list[str]) -> Iterator[bool]:
    for number in range(count):
        done.append(f"{name}{number}")
        yield True


def turned() -> tuple[list[str], list[bool]]:
    done: list[str] = []
    turns = asynchronous.ASYNC()
    for name, count in (("a", 30), ("b", 1), ("c", 40)):
        turns.schedule("agent", name, steps(name, count, done))
    return done, [turns.run() for _ in range(3)]


def test_commands_are_done_as_exabgp_does_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynchronous, "log", Quiet())
    own = turned()
    assert (len(own[0]), own[1]) == (71, [True, False, False])
    monkeypatch.setattr(asynchronous, "asyncio", WithoutLoop())
    assert turned() == own


def test_a_command_that_awaits_something_is_an_error_and_does_not_hang() -> None:
    with pytest.raises(RuntimeError, match="awaits"):
        WithoutLoop.run(asyncio.sleep(0))


async def test_nothing_is_run_from_the_folder_the_agent_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("agent", "exabgp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"open({str(tmp_path / 'obeyed')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    process = Process(tmp_path / "run")
    process.start("nothing that ExaBGP understands")
    async with asyncio.timeout(30):
        await process.ended.wait()
    assert not (tmp_path / "obeyed").exists()
    assert "configuration" in process.last_words(), "ExaBGP itself has spoken"


def environment_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_exabgp_is_told_no_password_of_the_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"ETCD_PASSWORD", "CAIRN_SECRET_TOR_PASSWORD", "BROKER", "NOTIFY_SOCKET", "exabgp.tcp.port"}
    for name in given:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    process = Process(tmp_path / "run")
    process.start("nothing that ExaBGP understands")
    async with asyncio.timeout(30):
        await eventually(lambda: any(environment_of(process.pid)))  # it is about to become another program
        environment = environment_of(process.pid)
        await process.ended.wait()
    assert not any(b"s3cret" in each for each in environment)
    assert {b"PYTHONHASHSEED=1", b"exabgp.api.ack=true"} <= set(environment)
