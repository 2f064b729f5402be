"""A byte stream cut into messages (RFC 4271 §4.1, §6.1; RFC 8654).

`feed` whatever arrived, however split; iterate to get each complete message as (type, body without header).
The framer checks what can be known before a message is complete, so that a wrong length is refused at its
header and never waited for. An error ends the stream: iterating again raises it again.

RFC 8654 §4: only UPDATE, NOTIFICATION and ROUTE-REFRESH may be longer than 4,096 octets, and only if we have
offered to take them; `max_length` is assigned by the session once both OPENs are known.
"""

from collections.abc import Iterator
from typing import Final

from .errors import ProtocolError
from .iana import ErrorCode, HeaderSubcode, MessageType
from .messages import HEADER_LENGTH, MARKER

STANDARD_MAX_LENGTH: Final = 4096

# type -> (shortest, longest or 0 for "as negotiated")
_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    MessageType.OPEN: (29, STANDARD_MAX_LENGTH),
    MessageType.UPDATE: (23, 0),
    MessageType.NOTIFICATION: (21, 0),
    MessageType.KEEPALIVE: (19, 19),
    MessageType.ROUTE_REFRESH: (23, 0),
}


class Framer:
    """Cuts one direction of one connection into messages. Memory: what was fed and not yet iterated."""

    __slots__ = ("_buffer", "_position", "max_length")

    def __init__(self, max_length: int = STANDARD_MAX_LENGTH) -> None:
        self.max_length = max_length
        self._buffer = b""
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Append octets received."""
        self._buffer = self._buffer[self._position :] + data
        self._position = 0

    @property
    def pending(self) -> int:
        """Octets fed that no message was made of yet."""
        return len(self._buffer) - self._position

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Every complete message, once. Raises ProtocolError 1/1, 1/2 or 1/3 at the first bad header.

        `max_length` and the buffer may change between two messages.
        """
        while True:
            buffer, start = self._buffer, self._position
            if len(buffer) - start < HEADER_LENGTH:
                if not MARKER.startswith(buffer[start : start + 16]):
                    raise _not_synchronized()
                return
            if buffer[start : start + 16] != MARKER:
                raise _not_synchronized()
            length = buffer[start + 16] << 8 | buffer[start + 17]
            type = buffer[start + 18]
            if type != 2 or length < 23 or length > self.max_length:
                self._check(type, length)
            end = start + length
            if end > len(buffer):
                return
            self._position = end
            yield type, buffer[start + 19 : end]

    def _check(self, type: int, length: int) -> None:
        """Refuse a header whose length or type is wrong; the length first, as RFC 4271 §6.1 has it."""
        shortest, longest = _LENGTHS.get(type, (HEADER_LENGTH, 0))
        if not shortest <= length <= (longest or self.max_length):
            raise ProtocolError(
                ErrorCode.MESSAGE_HEADER,
                HeaderSubcode.BAD_MESSAGE_LENGTH,
                f"message of type {type} and length {length}",
                length.to_bytes(2, "big"),
            )
        if type not in _LENGTHS:
            raise ProtocolError(
                ErrorCode.MESSAGE_HEADER,
                HeaderSubcode.BAD_MESSAGE_TYPE,
                f"message type {type}",
                bytes((type,)),
            )


def _not_synchronized() -> ProtocolError:
    return ProtocolError(
        ErrorCode.MESSAGE_HEADER, HeaderSubcode.CONNECTION_NOT_SYNCHRONIZED, "the marker is not all ones"
    )
