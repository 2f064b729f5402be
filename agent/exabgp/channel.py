"""ExaBGP's two pipes in the agent's hands.

ExaBGP blocks, and misses its hold timers, when nobody reads its events: no plan, dump or garbage collection
of the agent may hold it up. So the loop reads them when it has the time, and a thread when they have been
lying there since it last looked. Commands are written without ever blocking; what a full pipe refuses waits
here.

The unix socket to handover.py stays open: its end tells handover.py to read again, and over it OPENs and
states are passed on as soon as they are read, in the loop or by the thread, for the agent's successor.

If handover.py dies, ExaBGP has to notice (it does when nobody holds the other end of its commands) before it
starts another, and speaks on meanwhile. So the commands are let go at once and the events read to their end:
nothing is missed, and ExaBGP never finds its pipe broken, which it answers by ending a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from agent.exabgp import handover
from agent.exabgp.process import ExaBGPError

_READ = 1 << 20
_LOOK_EVERY = 0.2  # seconds between two looks of the thread
_GREETING = 3.0  # seconds for one connection to be answered; then the next is tried


class Channel:
    """The pipes of one attachment. ``received`` gets lists of lines, ``lost`` is called once at its end."""

    def __init__(self, received: Callable[[list[str]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._events = self._commands = -1
        self._wake_read = self._wake_write = -1
        self._thread: threading.Thread | None = None
        self._reads = 0
        self._ended = False
        self._outgoing = bytearray()
        self._remembering = bytearray()
        self._tail = b""
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._open = False

    async def attach(self, path: Path, patience: float = 15.0) -> list[str]:
        """Get the pipes from handover.py at ``path``; the lines it remembered for us. `begin` then reads."""
        began = self._loop.time()
        deadline = began + patience
        directory = -1
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                await self._loop.sock_connect(connection, f"/proc/self/fd/{directory}/{path.name}")
                left = max(0.1, deadline - self._loop.time())
                async with asyncio.timeout(min(_GREETING, left)):
                    return await self._greet(connection)
            except (asyncio.CancelledError, ExaBGPError):
                connection.close()
                raise
            except (OSError, TimeoutError) as error:
                connection.close()
                if self._loop.time() > deadline:
                    raise ExaBGPError(
                        f"{path}: no API process answers ({type(error).__name__} {error})"
                    ) from None
                await asyncio.sleep(max(0.02, min(0.2, (self._loop.time() - began) / 10)))
            finally:
                if directory >= 0:
                    os.close(directory)
                    directory = -1

    async def _greet(self, connection: socket.socket) -> list[str]:
        await self._readable(connection)
        greeting, descriptors, _, _ = socket.recv_fds(connection, len(handover.GREETING), 2)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # as all others are: no ExaBGP has another's pipes
        if greeting != handover.GREETING or len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)
            if greeting.startswith(handover.NAME):
                raise ExaBGPError("its API process is of another version")
            raise OSError("unexpected greeting")
        rest = b""
        try:
            while not rest.endswith(b"\0"):
                data = await self._loop.sock_recv(connection, 65536)
                if not data:
                    raise OSError("the API process hung up")
                rest += data
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        kept, _, self._tail = rest[:-1].rpartition(b"\n\n") if b"\n\n" in rest else (b"", b"", rest[1:-1])
        self._events, self._commands = descriptors
        os.set_blocking(self._events, False)
        os.set_blocking(self._commands, False)
        self._socket = connection
        self._open = True
        self._wake_read, self._wake_write = os.pipe()
        return kept.decode("ascii", "replace").splitlines()

    def begin(self) -> None:
        """Hear what ExaBGP says from now on."""
        assert self._socket is not None
        self._loop.add_reader(self._socket, self._handover_gone)
        self._loop.add_reader(self._events, self._readable_now)
        self._thread = threading.Thread(target=self._stand_in, name="exabgp-events", daemon=True)
        self._thread.start()

    async def _readable(self, connection: socket.socket) -> None:
        ready = asyncio.Event()
        self._loop.add_reader(connection, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(connection)

    def _read(self) -> None:
        """Take what there is, in the loop or in the thread: one after the other, so that order is kept."""
        with self._lock:
            try:
                data = os.read(self._events, _READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            *lines, self._tail = (self._tail + data).split(b"\n")
            self._lines += lines
            for line in lines:
                if handover.WORTH_KEEPING.search(line, 0, 512):
                    self._remembering += line + b"\n"
            self._pass_on()
            self._reads += 1
            self._ended = self._ended or not data

    def _readable_now(self) -> None:
        self._read()
        self._deliver()

    def _stand_in(self) -> None:
        """The thread: read for a loop that does not come to it, until told to stop."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        waiting = select.poll()
        waiting.register(self._events, select.POLLIN)
        before = -1
        while not poll.poll(_LOOK_EVERY * 1000):
            with self._lock:
                self._pass_on()
            reads = self._reads
            if reads == before and waiting.poll(0):
                self._read()
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    return  # the loop is closed: the agent is ending
            before = reads

    def _deliver(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if self._remembering:
            self._tell()
        if lines and self._open:
            self._received([line.decode("ascii", "replace") for line in lines])
        if self._ended:
            self._hung_up()

    def write(self, line: str) -> None:
        """Queue one command line."""
        if self._commands < 0:
            return
        waiting = bool(self._outgoing)
        self._outgoing += line.encode("ascii") + b"\n"
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        try:
            written = os.write(self._commands, self._outgoing)
            del self._outgoing[:written]
        except BlockingIOError:
            pass
        except OSError:
            self._handover_gone()
            return
        if self._outgoing:
            self._loop.add_writer(self._commands, self._flush)
        else:
            self._loop.remove_writer(self._commands)

    def remember(self, line: str) -> None:
        """Have handover.py keep this line for the next agent: one that was not read here."""
        with self._lock:
            self._remembering += line.encode("ascii", "replace") + b"\n"
        self._tell()

    @property
    def remembering(self) -> bool:
        """Whether handover.py has still to be told something."""
        return bool(self._remembering)

    def _tell(self) -> None:
        with self._lock:
            self._pass_on()
        if self._socket is None:
            return
        if self._remembering:
            self._loop.add_writer(self._socket, self._tell)
        else:
            self._loop.remove_writer(self._socket)

    def _pass_on(self) -> None:
        """What handover.py takes at once; the lock is held."""
        if self._remembering and self._socket is not None:
            with contextlib.suppress(OSError):
                del self._remembering[: self._socket.send(self._remembering)]

    def _handover_gone(self) -> None:
        """Let go of all but the events: those ExaBGP ends itself."""
        assert self._socket is not None
        for stream in (self._socket, self._commands):
            self._loop.remove_writer(stream)
        self._loop.remove_reader(self._socket)
        with self._lock:
            self._socket.close()
            self._socket = None
        os.close(self._commands)
        self._commands = -1

    def _hung_up(self) -> None:
        if self._open:
            self.close()
            self._lost()

    def close(self) -> None:
        """Give the pipes back: handover.py reads again as soon as the socket is closed."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._events)
        os.write(self._wake_write, b"\0")
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._handover_gone()
        for descriptor in (self._events, self._wake_read, self._wake_write):
            os.close(descriptor)
