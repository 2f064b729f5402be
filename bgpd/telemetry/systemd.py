"""Telling systemd how we are: `Type=notify` over its plain datagram socket; no library needed.

Outside of systemd (NOTIFY_SOCKET unset) everything here does nothing. The watchdog is fed only while the
service says it works, so a service that hangs, or whose parts do, is restarted.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

_log = logging.getLogger(__name__)


class SystemdNotifier:
    """Speaks to the service manager named by `environ`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        watched_pid = environ.get("WATCHDOG_PID")
        ours = watched_pid in (None, "", str(os.getpid()))
        usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog = int(usec) / 1e6 if ours and usec.isdecimal() else 0.0

    def ready(self, status: str = "") -> None:
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """Say that a reload begins; `ready` says that it is over (`Type=notify-reload`)."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", *_status(status))

    def status(self, status: str) -> None:
        """The line that `systemctl status` shows."""
        self._send(*_status(status))

    async def feed_watchdog(self, working: Callable[[], tuple[bool, str]]) -> None:
        """Run until cancelled (at once if there is no watchdog): feed it twice per period while it works."""
        if not self._watchdog or not self._address:
            return
        looked = False
        while True:
            ok, reason = working()
            if ok:
                self._send("WATCHDOG=1")
            elif looked:  # at the first look a service has just begun
                _log.error("watchdog not fed: %s", reason)
            looked = True
            await asyncio.sleep(self._watchdog / 2)

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
                client.setblocking(False)
                client.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warning("systemd not notified: %s", error)


def _status(text: str) -> list[str]:
    return [f"STATUS={text.replace(chr(10), ' ')}"] if text else []
