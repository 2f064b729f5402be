"""What runs beside a service may fail; then the log says so, and nothing else happens."""

import asyncio

from structlog.testing import capture_logs

from bgpd.telemetry.aside import aside


async def test_a_part_that_fails_is_named_once() -> None:
    async def fail() -> None:
        raise ValueError("no such thing")

    with capture_logs() as said:
        part = aside(fail(), "report")
        await asyncio.wait([part])
        await asyncio.sleep(0)
    assert [(each["part"], str(each["exc_info"])) for each in said] == [("report", "no such thing")]


async def test_a_part_that_is_stopped_or_ends_is_no_failure() -> None:
    with capture_logs() as said:
        parts = [aside(asyncio.sleep(1000), "watchdog"), aside(asyncio.sleep(0), "short")]
        await asyncio.sleep(0.01)
        parts[0].cancel()
        await asyncio.wait(parts)
        await asyncio.sleep(0)
    assert said == []
