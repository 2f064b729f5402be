"""The program ExaBGP runs as its API process: it hands ExaBGP's two pipes to whichever agent is alive.

ExaBGP speaks to its API process over that process's standard input and output and stops its peers when
the process stops reading. The agent must be free to crash, restart and be upgraded, so it is never that
process. This program is: small, standard library only (it is run with ``-I -S``), and long-lived. It
listens on a unix socket; the agent that connects is sent both descriptors (SCM_RIGHTS) and from then on
owns the pipes without an extra hop. When the agent's end of the socket closes, this program reads
ExaBGP's events again and drops them, so that ExaBGP never blocks, until the next agent connects. (It waits a
moment for the first, so that the agent that started ExaBGP hears it from its first word.)

Dropping is safe for routes (the next agent asks every peer for a route refresh) but not for the two
OPEN messages of a session, which are sent once. Those, and the last state of each peer, are remembered
here, whether read here or told by the agent over the socket, and given to the next agent.

What the agent receives on connecting: one message with the two descriptors (events first, then
commands), then the remembered lines, an empty line, and the bytes of an event that was read only in part.

Usage: ``python -I -S handover.py SOCKET``. It ends when ExaBGP closes its side.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import sys
import time

FIRST_WAIT = 3.0  # seconds; what ExaBGP says meanwhile fits into the pipe
PIPE_SIZE = 1 << 20  # octets; what F_SETPIPE_SZ grants everyone
NAME = b"cairn-handover "
GREETING = NAME + b"1\n"  # another number if what follows is another
_EVENTS, _COMMANDS = 0, 1
WORTH_KEEPING = re.compile(rb'"type": "(state|open)"')
_PEER = re.compile(rb'"peer": "([^"]+)"')
_DIRECTION = re.compile(rb'"direction": "(send|receive)"')


def remember(line: bytes, kept: dict[bytes, bytes]) -> None:
    """Keep the last state and the last two OPENs of each peer; a peer that goes down loses its OPENs."""
    found = WORTH_KEEPING.search(line, 0, 512)
    peer = _PEER.search(line)
    if found is None or peer is None:
        return
    kind, direction = found.group(1), _DIRECTION.search(line)
    if kind == b"state" and b'"state": "down"' in line:
        for other in (b"send", b"receive"):
            kept.pop(peer.group(1) + b" open " + other, None)
    kept[peer.group(1) + b" " + kind + (b" " + direction.group(1) if direction else b"")] = line


class Handover:
    """Owns the listening socket and, while no agent is attached, ExaBGP's pipes."""

    def __init__(self, path: str) -> None:
        directory, name = os.path.split(path)
        place = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        path = f"/proc/self/fd/{place}/{name}"  # a socket's name may have 107 octets, a directory's more
        if os.path.lexists(path):
            os.unlink(path)  # noqa: PTH108  plain os and socket start faster than pathlib
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101  as above
        self.listener.listen(4)
        self.agent: socket.socket | None = None
        self.begun = time.monotonic()
        self.awaited = True  # no agent has come yet
        self.kept: dict[bytes, bytes] = {}
        self.tail = b""  # of ExaBGP's events, after the last newline
        self.told = b""  # of the agent's own lines
        for descriptor in (_EVENTS, _COMMANDS):
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            except (OSError, AttributeError):
                continue  # a smaller pipe only means more wake-ups

    def run(self) -> None:
        while True:
            poll = select.poll()
            timeout = None
            if self.agent is None:
                # The agent that started ExaBGP is about to come: it shall miss nothing.
                waited = time.monotonic() - self.begun
                if self.awaited and waited < FIRST_WAIT:
                    timeout = (FIRST_WAIT - waited) * 1000
                else:
                    poll.register(_EVENTS, select.POLLIN)
                poll.register(_COMMANDS, 0)
                poll.register(self.listener, select.POLLIN)
            else:
                poll.register(self.agent, select.POLLIN)
                poll.register(_COMMANDS, 0)  # POLLERR: ExaBGP, the reader, is gone
            for descriptor, event in poll.poll(timeout):
                if descriptor == _COMMANDS and event & (select.POLLERR | select.POLLNVAL):
                    return
                if descriptor == _EVENTS:
                    if not self.drain():
                        return
                elif descriptor == self.listener.fileno():
                    self.attach()
                elif self.agent is not None and descriptor == self.agent.fileno():
                    self.listen_to_agent()

    def drain(self) -> bool:
        """Read and drop events; False once ExaBGP has closed its side."""
        try:
            data = os.read(_EVENTS, PIPE_SIZE)
        except BlockingIOError:
            return True
        if not data:
            return False
        *lines, self.tail = (self.tail + data).split(b"\n")
        for line in lines:
            remember(line, self.kept)
        return True

    def attach(self) -> None:
        agent, _ = self.listener.accept()
        try:
            socket.send_fds(agent, [GREETING], [_EVENTS, _COMMANDS])
            agent.sendall(b"".join(line + b"\n" for line in self.kept.values()) + b"\n" + self.tail + b"\0")
        except OSError:
            agent.close()
            return
        self.tail = self.told = b""
        self.agent = agent
        self.awaited = False

    def listen_to_agent(self) -> None:
        assert self.agent is not None
        try:
            data = self.agent.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.agent.close()
            self.agent = None
            return
        *lines, self.told = (self.told + data).split(b"\n")
        for line in lines:
            remember(line, self.kept)


if __name__ == "__main__":
    Handover(sys.argv[1]).run()
