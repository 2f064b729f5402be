"""How a peer's mistakes are named.

`ErrorAction` orders the three answers of RFC 7606 §2 to a malformed path attribute, weakest first, so that
the strongest of several is simply their maximum. `ProtocolError` is the one exception for what peers do: it
carries what a NOTIFICATION needs (RFC 4271 §4.5) but is not itself a message, so that deciding to close a
session stays with whoever owns that session. `UnsendableError` is about what we would say ourselves.
"""

from enum import IntEnum
from typing import NamedTuple


class ErrorAction(IntEnum):
    """What RFC 7606 §2 asks for, weakest first ("AFI/SAFI disable" is not used here)."""

    ATTRIBUTE_DISCARD = 0
    TREAT_AS_WITHDRAW = 1
    SESSION_RESET = 2


class ProtocolError(Exception):
    """A peer broke the protocol so that its session must end with a NOTIFICATION.

    `code` and `subcode` are those of RFC 4271 §4.5 (see `iana.ErrorCode`), `data` is the NOTIFICATION's
    data field and `reason` one line for the log.
    """

    def __init__(self, code: int, subcode: int, reason: str, data: bytes = b"") -> None:
        super().__init__(f"{reason} (NOTIFICATION {code}/{subcode})")
        self.code = int(code)
        self.subcode = int(subcode)
        self.reason = reason
        self.data = data


class UnsendableError(ValueError):
    """An attribute of more than 65,535 octets, or attributes beside which an NLRI does not fit.

    Such a route is withdrawn instead (RFC 8654 §4). `room` is how many octets of NLRI do fit.
    """

    def __init__(self, reason: str, room: int = 0) -> None:
        super().__init__(reason)
        self.room = room


class AttributeFault(NamedTuple):
    """One malformed path attribute of an UPDATE that did not end the session.

    `code` is the attribute's type code (0 where the attribute block itself is at fault), `subcode` the
    UPDATE error subcode RFC 4271 §6.3 would have used.
    """

    code: int
    action: ErrorAction
    subcode: int
    reason: str
