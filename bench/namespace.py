"""A place of our own to measure in.

The daemons under test want to be root, own port 179, write kernel routes and keep sockets
under /run. So the whole run re-executes itself in fresh network, mount and PID namespaces:
a loopback interface and nothing else, an empty /run, and the certainty that whatever was
started is gone when the run ends, however it ends. Without root a user namespace is made
around them; a daemon that needs several users (OpenBGPD) is then reported as unavailable.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from types import FrameType

INSIDE = "CAIRN_BENCH_INSIDE"
OPEN_FILES = 65536


class NamespaceError(Exception):
    """The namespaces cannot be made; the text says what is missing."""


def enter(arguments: list[str]) -> int | None:
    """Run `python -m bench ARGUMENTS` inside; its exit status, or None if this *is* the inside.

    Whatever ends this process ends the inside as well: the kernel sees to it (`pdeathsig`, `kill-child`).
    """
    if os.getpid() == 1 and INSIDE in os.environ:
        _settle()
        return None
    missing = [tool for tool in ("unshare", "setpriv", "ip") if shutil.which(tool) is None]
    if missing:
        raise NamespaceError(f"bench needs {', '.join(missing)} (Debian packages util-linux and iproute2)")
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the inside, which cleans up
    inside = subprocess.Popen(
        [*command, sys.executable, "-m", "bench", *arguments], env={**os.environ, INSIDE: "1"}
    )
    try:
        return inside.wait()
    finally:
        inside.kill()


def _settle() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if os.geteuid() == 0 else min(OPEN_FILES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)
