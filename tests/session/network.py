"""A network of two peers: every delivery, connection and clock tick is a choice of the test's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bgpd.session.events import Closed
from bgpd.session.fsm import State
from bgpd.session.peer import ConnectCancelled, ConnectRequested, Peer, SessionEvent
from bgpd.session.session import Session
from bgpd.wire.messages import Notification, encode

from .speakers import NOW

Step = Callable[[], None]


@dataclass(eq=False)
class End:
    """One side's end of a wire."""

    peer: Peer
    session: Session | None = None
    joined: bool = False  # the application has the connection (accepted, or told that it is up)
    inbox: bytes = b""
    closed: bool = False
    eof_seen: bool = False


@dataclass(eq=False)
class Wire:
    """A TCP connection: `ends[0]` opened it."""

    attempt: int
    ends: tuple[End, End]

    def other(self, end: End) -> End:
        return self.ends[1] if end is self.ends[0] else self.ends[0]


@dataclass
class Network:
    """Two peers. `steps()` lists what could happen next; the test picks."""

    peers: tuple[Peer, Peer]
    now: float = NOW
    wires: list[Wire] = field(default_factory=list)

    def enable(self) -> None:
        for peer in self.peers:
            peer.enable(self.now)
            self.settle(peer)

    def settle(self, peer: Peer) -> None:
        """Do what the owner of a peer does after each call."""
        for event in peer.events():
            match event:
                case ConnectRequested(attempt):
                    remote = self.peers[1] if peer is self.peers[0] else self.peers[0]
                    self.wires.append(Wire(attempt, (End(peer), End(remote))))
                case ConnectCancelled(attempt):
                    for wire in self.wires:
                        if wire.ends[0].peer is peer and wire.attempt == attempt and not wire.ends[0].joined:
                            wire.ends[0].joined = wire.ends[0].closed = True
                case SessionEvent(session, Closed()):
                    wire, end = self.find(session)
                    self.flush(wire, end)
                    end.closed = True
        for wire in self.wires:
            for end in wire.ends:
                if end.peer is peer and end.session is not None and not end.closed:
                    self.flush(wire, end)

    def find(self, session: Session) -> tuple[Wire, End]:
        return next((wire, end) for wire in self.wires for end in wire.ends if end.session is session)

    def flush(self, wire: Wire, end: End) -> None:
        assert end.session is not None
        data = end.session.data_to_send()
        if data:
            wire.other(end).inbox += data
            end.session.sent(self.now)

    def steps(self, chunk: int = 1 << 16) -> list[Step]:
        """Everything that can happen without the clock moving."""
        found: list[Step] = []
        for wire in self.wires:
            for end in wire.ends:
                if not end.joined and not end.closed:
                    found.append(partial(self.join, wire, end))
                elif end.session is not None and not end.closed:
                    if end.inbox:
                        found.append(partial(self.deliver, end, chunk))
                    elif wire.other(end).closed:
                        found.append(partial(self.cut, end))
        return found

    def join(self, wire: Wire, end: End) -> None:
        end.joined = True
        if end is wire.ends[0]:
            session = end.peer.connected(wire.attempt, self.now)
            if session is None:
                end.closed = True
        else:
            answer = end.peer.accepted(self.now)
            if isinstance(answer, Notification):
                wire.ends[0].inbox += encode(answer)
                end.closed = True
                session = None
            else:
                session = answer
        end.session = session
        self.settle(end.peer)

    def deliver(self, end: End, chunk: int) -> None:
        assert end.session is not None
        data, end.inbox = end.inbox[:chunk], end.inbox[chunk:]
        end.peer.receive_data(end.session, data, self.now)
        self.settle(end.peer)

    def cut(self, end: End) -> None:
        """End of file, or a reset, reaches this end."""
        assert end.session is not None
        end.peer.connection_lost(end.session, self.now)
        end.closed = True
        self.settle(end.peer)

    def tick(self) -> bool:
        """Let the clock reach the next timer of anyone; False if there is none."""
        due = min((t for peer in self.peers if (t := peer.next_timer()) is not None), default=None)
        if due is None:
            return False
        self.now = max(self.now, due)
        for peer in self.peers:
            peer.handle_timer(self.now)
            self.settle(peer)
        return True

    def rest(self, limit: int = 10_000) -> None:
        """Let everything under way arrive, first come first served."""
        for _ in range(limit):
            steps = self.steps()
            if not steps:
                return
            steps[0]()
        raise AssertionError("the two never come to rest")

    def living(self) -> list[Wire]:
        return [wire for wire in self.wires if not all(end.closed for end in wire.ends)]

    def assert_exactly_one(self) -> None:
        """Both are Established, on the same connection, and there is no other."""
        (wire,) = self.living()
        for end in wire.ends:
            assert end.session is not None
            assert end.peer.session is end.session
            assert end.session.state is State.ESTABLISHED
            assert end.peer.sessions == (end.session,)
