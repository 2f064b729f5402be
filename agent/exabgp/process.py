"""One ExaBGP process and its run directory: started by one agent, adopted by the next.

The directory holds everything needed to find the process again::

    exabgp.conf   what it was configured with      process.json  its pid, start time, release, and the digest
    socket        where handover.py listens                      of its configuration
    exabgp.log    its words (warnings and worse)

ExaBGP runs in a session of its own, so that neither the agent's death nor its terminal takes it along. Nor
does another agent's place: one that is installed elsewhere adopts it with the program it runs, and only an
ExaBGP of another release than its own is replaced.
A process is recognised by pid *and* start time; a pid file that outlived its process is never believed.
Its end is noticed through a pidfd, which works for a child and for an adopted process alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pwd
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog

from agent.exabgp import handover, launch
from bgpd.notes import read_note, unusable, write_whole

log = structlog.get_logger("agent.exabgp")
_DESCRIPTION = re.compile(r"^ *description .*$", re.MULTILINE)
_RUN = re.compile(r"^ *run .*$", re.MULTILINE)
RELEASE = importlib.metadata.version("exabgp")
# Of the environment, and not what may be a password; by the last, a lab finds what is its own.
_PASSED_ON = re.compile("PATH|HOME|LANG|LC_.*|LD_LIBRARY_PATH|TZ|PYTHON.*|CAIRN_LAB.*")
_LAUNCHED = ("-m", launch.__name__, "server")
_WRITE_AGAIN = 1.0  # seconds
_LOG_LIMIT = 4 << 20  # octets; a longer log is begun anew
_FILES = ("process.json", "exabgp.conf", "exabgp.log", "socket")


class ExaBGPError(Exception):
    """ExaBGP could not be started or reached; the text says where to look."""


def run_line(directory: Path) -> str:
    """What the configuration's ``process { run …; }`` must say for an ExaBGP of this directory."""
    return shlex.join([sys.executable, "-I", "-S", handover.__file__, str(directory / "socket")])


def on_the_wire(configuration: str) -> str:
    """What of a configuration a peer can notice: neither descriptions nor where our own program is."""
    return _RUN.sub("", _DESCRIPTION.sub("", configuration))


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


class Process:
    """The ExaBGP of one run directory."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.socket = directory / "socket"
        self.pid = 0
        self.digest = ""
        self.release = RELEASE
        self.remembered = True
        self.doubtful = False  # one that may have another configuration is good enough: it is to be reloaded
        self.stopping = False  # asked to end: what it says of its sessions is our doing
        self._environment = environment or {}
        self._left = ""  # the configuration that a former agent left
        self._pidfd = -1
        self.ended = asyncio.Event()

    @property
    def running(self) -> bool:
        return self.pid > 0 and not self.ended.is_set()

    @staticmethod
    def digest_of(configuration: str) -> str:
        """The same for configurations that differ in descriptions alone: those do not touch the wire."""
        return hashlib.sha256(_DESCRIPTION.sub("", configuration).encode()).hexdigest()

    def write_configuration(self, configuration: str) -> None:
        """Replace exabgp.conf in one step. It may hold passwords: readable by its owner only."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.directory / "exabgp.conf", configuration)

    async def write_when_possible(self, configuration: str) -> None:
        """As soon as the disk has room for it; until then all stays as it is."""
        said = ""
        while True:
            try:
                self.write_configuration(configuration)
                return
            except OSError as error:
                if said != (said := str(error)):
                    place = self.directory.name
                    log.error("exabgp keeps its old configuration for now", process=place, reason=said)
                await asyncio.sleep(_WRITE_AGAIN)

    def configuration_left(self) -> str:
        """What the ExaBGP that a former agent left here was last to be configured with (its ``digest`` says
        whether it is known to be, see `adopt`); empty if there is none of our release. Nothing is watched
        afterwards.
        """
        try:
            return self._left if self.adopt() and self.release == RELEASE else ""
        finally:
            self.close()

    def remember(self, configuration: str | None = None) -> None:
        """Write process.json, for the next agent; what cannot be written is said once, and to be repeated.

        ``configuration``: what ExaBGP runs with from now on.
        """
        if configuration is not None:
            self.digest = self.digest_of(configuration)
        start = _start_ticks(self.pid)
        known = {"pid": self.pid, "start": start, "digest": self.digest, "release": self.release}
        try:
            write_whole(self.directory / "process.json", json.dumps(known))
        except OSError as error:
            if self.remembered:
                place = self.directory.name
                log.error("the next agent would not find this exabgp", process=place, reason=str(error))
            self.remembered = False
        else:
            self.remembered = True

    def tend(self) -> None:
        """Now and then: what could not be written is, and a log of many complaints does not fill the disk."""
        if not self.remembered:
            self.remember()
        words = self.directory / "exabgp.log"
        with contextlib.suppress(OSError):
            if words.stat().st_size > _LOG_LIMIT:
                os.truncate(words, 0)

    def adopt(self) -> bool:
        """Take over a process a former agent started here, if it lives.

        Its digest says how it was set up; empty where that agent ended between writing another configuration
        and knowing that ExaBGP has it: then it may have either.
        """
        try:
            known = read_note(self.directory / "process.json")
            pid, start, digest = int(known["pid"]), int(known["start"]), str(known["digest"])
            self.release = str(known.get("release", RELEASE))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unusable(self.directory / "process.json", error)
            return False
        if _start_ticks(pid) != start:
            return False
        self._watch(pid)
        self.digest = self._left = ""
        with contextlib.suppress(OSError, ValueError):
            self._left = (self.directory / "exabgp.conf").read_text()
            self.digest = digest if digest == self.digest_of(self._left) else ""
        return self.running

    def fits(self, configuration: str) -> bool:
        """Whether the process adopted can go on where this is wanted."""
        if self.release != RELEASE:
            return False
        same = on_the_wire(self._left) == on_the_wire(configuration)
        return same if self.digest else self.doubtful

    def start(self, configuration: str) -> None:
        self.write_configuration(configuration)
        self.release = RELEASE
        self.make_room()
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        log = self.directory / "exabgp.log"
        # The settings that make ExaBGP ours: no pipes of its command line, acknowledgements, and an end
        # when the API process is lost for good rather than peers stopped one by one.
        environment = {key: value for key, value in os.environ.items() if _PASSED_ON.fullmatch(key)} | {
            "exabgp.daemon.user": pwd.getpwuid(os.geteuid()).pw_name,
            "exabgp.daemon.drop": "false",
            "exabgp.api.cli": "false",
            "exabgp.api.ack": "true",
            "exabgp.api.terminate": "true",
            "exabgp.api.chunk": "5000",
            "exabgp.reactor.speed": "5",  # looks around every 50 ms; what arrives on a descriptor wakes it
            "exabgp.log.level": "WARNING",
            "exabgp.log.destination": "stdout",
            "exabgp.log.short": "true",
            "PYTHONSAFEPATH": "1",  # no code from the folder we were started in
            **self._environment,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *_LAUNCHED, str(self.directory / "exabgp.conf")],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._watch(pid)
        self.remember(configuration)

    def make_room(self) -> None:
        """End what was started here and is not in process.json: its agent did not come to write that."""
        for pid in self._strays():
            log.warning("an ExaBGP nobody knew of is ended", process=self.directory.name, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _strays(self) -> Iterator[int]:
        """By their command line; a container's may have the same, but their file is another."""
        path = self.directory / "exabgp.conf"
        words = [word.encode() for word in (*_LAUNCHED, str(path))]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().split(b"\0")[1:-1] != words:
                    continue
                if path.samefile(process / "root" / path.absolute().relative_to("/")):
                    yield int(process.name)

    def _watch(self, pid: int) -> None:
        self.close()
        self.ended.clear()
        self.stopping = False
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.ended.set()
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        self.close()
        with contextlib.suppress(ChildProcessError):  # another agent's child
            os.waitpid(self.pid, 0)
        self.ended.set()

    def send(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, patience: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``patience`` seconds."""
        if not self.running:
            return
        self.stopping = True
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self.ended.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.ended.wait()

    def clear(self) -> None:
        """Leave nothing of an ExaBGP that is over: peers come and go for years, and a file has a password.

        What else is in the directory is not ours and stays. Raises OSError.
        """
        for name in _FILES:
            for path in (self.directory / name, self.directory / f"{name}.new"):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()

    def last_words(self) -> str:
        """The end of ExaBGP's log, for an error message."""
        try:
            lines = (self.directory / "exabgp.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return " / ".join(line.strip() for line in lines[-4:] if line.strip())

    def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
