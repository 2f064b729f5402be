"""One TCP connection of the reflector: octets between a socket and a session.

Reading: what has arrived goes to the session, at most `read_octets` per turn of the loop, so that a
client that floods takes turns with the others. Writing: control messages first, then whatever the
member's cursors give, in one system call per run of shared buffers; a partly taken buffer is finished
before anything else, so control messages only ever stand between whole messages.

A socket that takes no more is waited for by the loop and costs nothing meanwhile: its cursor stands
still, and the log sees to the rest.
"""

import asyncio
import socket
from collections.abc import Callable

from bgpd.rib.export_log import Buffer, Cursor
from bgpd.session.session import Session
from reflector.core import Reflector
from reflector.member import Member

VECTOR = 512  # buffers per system call; Linux takes 1,024
CHUNK_OCTETS = 1 << 18  # how much is asked of the log at a time
TURN_OCTETS = 1 << 20  # how much one peer is written per turn


class Link:
    """A socket, its session, and (once Established) the member it speaks for."""

    __slots__ = (
        "_blocked",
        "_finish",
        "_inbox",
        "_loop",
        "_lost",
        "_partial",
        "_pending",
        "_reflector",
        "_resume",
        "closed",
        "fd",
        "member",
        "remote",
        "session",
        "sock",
        "wrote",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        session: Session,
        reflector: Reflector,
        remote: str,
        *,
        inbox: Callable[["Link", bytes], None],
        lost: Callable[["Link", str], None],
        resume: Callable[["Link"], None],
    ) -> None:
        """`inbox` takes what arrived, `lost` is told when TCP is gone, `resume` has `write` called soon."""
        self._loop = loop
        self._reflector = reflector
        self._inbox = inbox
        self._lost = lost
        self._resume = resume
        self._pending: list[Buffer] = []
        self._partial = False  # the first pending buffer was begun
        self._blocked = False
        self._finish = False
        self.sock = sock
        self.fd = sock.fileno()
        self.session = session
        self.member: Member | None = None
        self.remote = remote
        self.closed = False
        self.wrote = False  # since the session was last told (RFC 9687)

    def start(self, readable: Callable[["Link"], None]) -> None:
        """Have `readable` called whenever something has arrived."""
        self._loop.add_reader(self.fd, readable, self)

    def read(self, octets: int = CHUNK_OCTETS) -> bool:
        """Hand over what has arrived; whether there was anything."""
        if self.closed or self._finish:
            return False
        try:
            data = self.sock.recv(octets)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lost(self, error.strerror or str(error))
            return False
        if not data:
            self._lost(self, "the peer closed the TCP connection")
            return False
        self._inbox(self, data)
        return True

    def push(self) -> None:
        """Send what a flush has brought: nearly always one batch, the same bytes for every peer."""
        if self._blocked or self.closed:
            return
        member = self.member
        if member is None or self._pending:
            self.write()
            return
        deferring = self._reflector.deferral.until is not None
        ahead: Cursor | None = None
        for reading in member.readings.values():
            if reading.busy or not (deferring or reading.eor_at is None):
                self.write()
                return
            if reading.cursor.behind:
                if ahead is not None:
                    self.write()
                    return
                ahead = reading.cursor
        if ahead is None:
            return
        # Taken only now: what is taken has to be sent.
        news = ahead.take_news()
        if news is None:
            self.write()
            return
        try:
            sent = self.sock.send(news)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lost(self, error.strerror or str(error))
            return
        self.wrote = True
        if sent < len(news):
            self._pending, self._partial = [memoryview(news)[sent:]], sent > 0
            self._block()

    def write(self) -> None:
        """Send until there is nothing left, TCP takes no more, or the turn is over."""
        if self._blocked or self.closed:
            return
        budget = TURN_OCTETS
        while budget > 0:
            pending = self._pending
            if not pending:
                pending = self._next()
                if not pending:
                    if self._finish:
                        self.close()
                    return
                self._pending = pending
            try:
                sent = (
                    self.sock.send(pending[0]) if len(pending) == 1 else self.sock.sendmsg(pending[:VECTOR])
                )
            except (BlockingIOError, InterruptedError):
                self._block()
                return
            except OSError as error:
                self._lost(self, error.strerror or str(error))
                return
            budget -= sent
            self.wrote = True
            self._advance(sent)
        if self._pending or self.session.closed or (self.member is not None and self.member.behind):
            self._resume(self)

    def _next(self) -> list[Buffer]:
        control = self.session.data_to_send()
        news: list[Buffer] = []
        if self.member is not None and not self._finish:
            news = self._reflector.take(self.member, CHUNK_OCTETS)
        return [control, *news] if control else news

    def _advance(self, sent: int) -> None:
        pending = self._pending
        self._partial = False
        if len(pending) == 1 and sent == len(pending[0]):
            self._pending = []
            return
        for index, buffer in enumerate(pending):
            size = len(buffer)
            if sent < size:
                rest = pending[index:]
                if sent:
                    rest[0] = memoryview(buffer)[sent:]
                    self._partial = True
                self._pending = rest
                return
            sent -= size
        self._pending = []

    def _block(self) -> None:
        self._blocked = True
        self._loop.add_writer(self.fd, self._unblock)

    def _unblock(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self.fd)
        self._resume(self)

    def finish(self) -> None:
        """Send what the session still has to say, then close; nothing more is read or taken."""
        if self.closed or self._finish:
            return
        self._finish = True
        self._loop.remove_reader(self.fd)
        # What was begun is completed, so that the last words stand at a message boundary; no more is owed.
        self._pending = self._pending[:1] if self._partial else []
        self.write()
        if self._blocked:
            self.close()

    def close(self) -> None:
        """Let go of the socket. Whatever TCP has taken is still delivered."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self.fd)
        if self._blocked:
            self._loop.remove_writer(self.fd)
        self._pending = []
        self.sock.close()
