"""An UPDATE with attributes at fault that ended no session: what an operator must be able to see of it.

RFC 7606 §8 asks for a line in the log with the NLRI and the whole message. A peer may send thousands in a
second, so a line is written once in a while (`EVERY`), of one of them.
"""

from collections.abc import Sequence, Set
from typing import Final, NamedTuple

from .errors import AttributeFault, ErrorAction
from .iana import MessageType
from .messages import message
from .nlri import Family, prefix_of

EVERY: Final = 60.0  # seconds between two lines of one session
PREFIXES: Final = 100  # named in one line; the message has them all
_OUTCOME: Final = {
    ErrorAction.ATTRIBUTE_DISCARD: "attribute discarded",
    ErrorAction.TREAT_AS_WITHDRAW: "treated as withdrawn",
}


class Malformed(NamedTuple):
    """Its body, what was wrong with it, and the NLRI, those of `add_path` with path identifiers."""

    body: bytes
    faults: Sequence[AttributeFault]
    nlri: Sequence[tuple[Family, list[bytes]]]
    add_path: Set[Family]

    @property
    def reason(self) -> str:
        """What was wrong, and what was done about it, for one line."""
        outcome = max(fault.action for fault in self.faults)
        return "; ".join(fault.reason for fault in self.faults) + f" ({_OUTCOME[outcome]})"

    @property
    def facts(self) -> dict[str, str | list[str]]:
        """For the log: the reason, the first `PREFIXES` prefixes, the whole message in hexadecimal."""
        prefixes = [
            f"{prefix_of(item[4:], family)} path {int.from_bytes(item[:4], 'big')}"
            if family in self.add_path
            else str(prefix_of(item, family))
            for family, items in self.nlri
            for item in items[:PREFIXES]
        ]
        whole = message(MessageType.UPDATE, self.body)
        return {"reason": self.reason, "prefixes": prefixes[:PREFIXES], "message": whole.hex()}
