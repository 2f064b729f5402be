"""What a log line looks like, and what never stands in one."""

import asyncio
import io
import json
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from bgpd.telemetry.logging import configure_logging, level, level_by_signal, set_level


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, number = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(number)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_off_a_terminal_for_us_and_for_libraries() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    structlog.get_logger("agent").info("session up", peer="rr1", asn=64512)
    logging.getLogger("some.library").warning("odd %s", "thing", extra={"size": 3})
    ours, theirs = lines(stream)
    assert (ours["event"], ours["peer"], ours["asn"], ours["level"]) == ("session up", "rr1", 64512, "info")
    assert (theirs["event"], theirs["logger"], theirs["size"]) == ("odd thing", "some.library", 3)
    assert ours["timestamp"].endswith("Z")


def test_a_line_may_tell_of_a_moment_ago() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    structlog.get_logger("reflector").info("session up", timestamp="2026-11-20T12:00:00.000Z")
    assert [line["timestamp"] for line in lines(stream)] == ["2026-11-20T12:00:00.000Z"]


def test_console_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logging("info", stream=stream)
    structlog.get_logger("agent").info("session up", peer="rr1", password="hunter2")
    assert "session up" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_no_traceback_and_no_value_shows_a_secret(terminal: bool) -> None:
    stream = io.StringIO()
    configure_logging("info", json=not terminal, stream=stream)
    log = structlog.get_logger("agent")
    held = "hun" + "ter2"  # what a traceback with local variables would show
    try:
        raise ValueError(f"password: {held}")
    except ValueError as error:
        log.exception("a part of the service has failed")
        logging.getLogger("aiohttp.server").exception("error handling request")
        log.warning("refused", why=error, seen={f"token={held}"}, octets=f"secret={held}".encode())
    log.warning('line 3: md5-password "%s";', held)
    log.warning("options", options=f"Options(password='{held} and {held}')")
    assert "Traceback" in stream.getvalue()
    assert held not in stream.getvalue()


def test_level_changes_at_run_time() -> None:
    stream = io.StringIO()
    configure_logging("warning", stream=stream)
    log = structlog.get_logger("agent")
    log.info("quiet")
    set_level("debug")
    assert level() == "debug"
    log.debug("loud")
    logging.getLogger("aiohttp.access").debug("loud too")
    set_level("info")
    logging.getLogger("aiohttp.access").info("chatter")
    log.debug("quiet again")
    assert [line["event"] for line in lines(stream)] == ["loud", "loud too"]
    with pytest.raises(ValueError, match="say one of debug"):
        set_level("noisy")


async def test_signals_make_the_log_detailed_and_as_before() -> None:
    stream = io.StringIO()
    configure_logging("warning", stream=stream)
    loop = asyncio.get_running_loop()
    level_by_signal(loop, lambda: "warning")
    try:
        for offset, wanted in ((22, "debug"), (23, "warning")):
            os.kill(os.getpid(), signal.SIGRTMIN + offset)
            while level() != wanted:  # noqa: ASYNC110 - a signal sets no event
                await asyncio.sleep(0.01)
    finally:
        for offset in (22, 23):
            loop.remove_signal_handler(signal.SIGRTMIN + offset)
    told = [line["event"] for line in lines(stream)]
    assert told == ["log level is now debug", "log level is now warning"]


def test_secrets_are_redacted_everywhere() -> None:
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    log = structlog.get_logger("agent")
    log.info(
        "peer configured",
        md5_password="hunter2",
        options={"token": "hunter2", "nested": [{"clientSecret": "hunter2"}], "port": 179},
        url="mqtt://cairn:hunter2@broker",
        Authorization="Bearer hunter2",
    )
    logging.getLogger("lib").error("connect failed: password=hunter2, Authorization: Bearer hunter2")
    try:
        raise ValueError("token=hunter2")
    except ValueError:
        log.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["options"]["port"] == 179
    assert lines(stream)[0]["url"] == "mqtt://cairn:[redacted]@broker"
