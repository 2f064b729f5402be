"""One stream of log lines for a whole service: JSON for machines, colours for people, secrets for nobody.

structlog's loggers and the standard library's (aiohttp, grpc, aiomqtt, our own stdlib loggers) end in the
same formatter. JSON is written unless the stream is a terminal. The level changes at run time: by
`set_level` (POST /api/v1/log-level) or by signals (`level_by_signal`). An event is a short fixed text; what
varies goes into keywords, and a keyword that is named like a secret is replaced, at any depth, as are
`password=...` and `//user:password@` inside texts of libraries.
"""

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

REDACTED = "[redacted]"
LEVELS = ("debug", "info", "warning", "error", "critical")

_SECRET_NAME = re.compile(
    r"passw|secret|token|authorization|credential|private_?key|cookie|^auth$", re.IGNORECASE
)
_SECRET_TEXT = re.compile(
    r"(?P<name>(?:passw(?:or)?d|secret|token|authorization)[\"']?\s*[:=]\s*(?:bearer\s+)?|md5-password\s+)"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;]+)",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<start>://[^\s/:@]+:)[^\s/@]+(?=@)")
_QUIET = ("asyncio", "aiohttp.access", "grpc", "grpc._cython.cygrpc", "aiomqtt", "mqtt")


def configure_logging(level: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for this process; to be called once by a `__main__`. Raises ValueError for a bad level.

    `json` None decides by whether `stream` (standard error) is a terminal.
    """
    target = stream if stream is not None else sys.stderr
    as_json = json if json is not None else not target.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),  # a line may tell of a moment ago
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks become text before secrets are taken out, and a terminal's has no local variables either.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    final: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer() if as_json else console,
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared], processors=final
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    set_level(level)


def set_level(level: str) -> None:
    """Log `level` and worse from now on. Libraries' chatter is kept to warnings unless level is "debug"."""
    if level.lower() not in LEVELS:
        raise ValueError(f"{level!r} is no log level; say one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(number if number == logging.DEBUG else max(number, logging.WARNING))


def level_by_signal(loop: asyncio.AbstractEventLoop, usual: Callable[[], str]) -> None:
    """From now on SIGRTMIN+22 makes the log detailed and SIGRTMIN+23 as `usual`, as systemd itself has it."""
    loop.add_signal_handler(signal.SIGRTMIN + 22, _switch, lambda: "debug")
    loop.add_signal_handler(signal.SIGRTMIN + 23, _switch, usual)


def _switch(to: Callable[[], str]) -> None:
    wanted = to()
    set_level(wanted)
    logging.getLogger(__name__).log(logging.getLogger().level, "log level is now %s", wanted)


def level() -> str:
    """The level in force."""
    return logging.getLevelName(logging.getLogger().level).lower()


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 - structlog's shape
    """The structlog processor that takes secrets out."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name) and value not in (None, "", False):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    if not (value is None or isinstance(value, bool | int | float)):
        text = _SECRET_TEXT.sub(lambda found: f"{found['name']}{REDACTED}", str(value))
        return _URL_PASSWORD.sub(lambda found: f"{found['start']}{REDACTED}", text)
    return value
