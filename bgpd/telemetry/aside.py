"""Work beside a service's main work: where it fails, the service stays and says what is missing."""

import asyncio
from collections.abc import Coroutine

import structlog

log = structlog.get_logger("service")


def aside(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Start `work`; should it end by an exception, that is logged, once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("a part of the service has failed", part=task.get_name(), exc_info=error)
