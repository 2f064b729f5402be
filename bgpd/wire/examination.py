"""A whole block of path attributes judged: what of it stands, what falls, and how badly.

This is the careful reading that the interner (`attributes`) asks for when it has not seen a block before
and a quick reading finds anything out of the ordinary. It never raises on account of one attribute's value:
faults are collected, and the strongest decides (RFC 7606 §3 (h)). Errors that make the NLRI unreadable
raise `ProtocolError` at once.

RFCs: 7606 §3 to §5 and §7, 4271 §5 and §6.3, 4760 §3 and §7, 8950 §3 (next hops), 6793 §4.2 and §6. The
outcome is canonical: AS numbers have four octets, AS4_PATH and AS4_AGGREGATOR are merged in, unknown
transitive attributes have Partial set, unknown non-transitive ones are gone (RFC 4271 §9), as are
duplicates, of attributes and of large communities (RFC 8092 §3).
"""

from typing import Final

from . import as_path
from .attribute_rows import ROWS, Context, Row
from .errors import AttributeFault, ErrorAction, ProtocolError, UnsendableError
from .iana import AS_TRANS, AttributeCode, AttributeFlag, ErrorCode, UpdateSubcode

_OPTIONAL: Final = int(AttributeFlag.OPTIONAL)
_TRANSITIVE: Final = int(AttributeFlag.TRANSITIVE)
_PARTIAL: Final = int(AttributeFlag.PARTIAL)
_EXTENDED: Final = int(AttributeFlag.EXTENDED_LENGTH)
_NLRI_CODES: Final = (AttributeCode.MP_REACH_NLRI, AttributeCode.MP_UNREACH_NLRI)
LONGEST_VALUE: Final = 0xFFFF
_AS4_CODES: Final = (AttributeCode.AS4_PATH, AttributeCode.AS4_AGGREGATOR)


def encode_attribute(code: int, flags: int, value: bytes) -> bytes:
    """One attribute; the extended length is used where the value needs it. Raises UnsendableError."""
    if len(value) > 255:
        if len(value) > LONGEST_VALUE:
            raise UnsendableError(f"a value of {len(value)} octets in attribute {code}")
        return bytes((flags | _EXTENDED, code)) + len(value).to_bytes(2, "big") + value
    return bytes((flags & ~_EXTENDED, code, len(value))) + value


def reset(subcode: UpdateSubcode, reason: str, data: bytes = b"") -> ProtocolError:
    """The error that ends a session over an UPDATE."""
    return ProtocolError(ErrorCode.UPDATE_MESSAGE, subcode, reason, data)


class Examination:
    """The verdict on one block.

    `pieces` are the accepted attributes by code, in the order received, encoded canonically; `mp_reach` and
    `mp_unreach` are the values of those attributes, None where absent; `faults` is everything found wrong.
    """

    __slots__ = ("_as4", "_seen", "context", "faults", "mp_reach", "mp_unreach", "pieces")

    def __init__(self, block: bytes, context: Context) -> None:
        self.context = context
        self.pieces: dict[int, bytes] = {}
        self.faults: list[AttributeFault] = []
        self.mp_reach: bytes | None = None
        self.mp_unreach: bytes | None = None
        self._seen: set[int] = set()
        self._as4: dict[int, bytes] = {}
        self._read(block)
        if not context.asn4:
            self._widen()

    @property
    def action(self) -> ErrorAction | None:
        """The strongest severity found."""
        return max((fault.action for fault in self.faults), default=None)

    @property
    def withdraws_only(self) -> bool:
        """Whether there is nothing but MP_UNREACH_NLRI, and that whole (RFC 7606 §5.2)."""
        overrun = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
        whole = all(fault.subcode != overrun for fault in self.faults)
        return whole and self._seen == {AttributeCode.MP_UNREACH_NLRI}

    def require(self, *codes: AttributeCode) -> None:
        """Note each of these well-known attributes that is absent (RFC 7606 §3 (d)).

        One that was present and malformed is at fault already.
        """
        for code in codes:
            if code not in self._seen:
                self._fault(
                    code,
                    ErrorAction.TREAT_AS_WITHDRAW,
                    UpdateSubcode.MISSING_WELL_KNOWN_ATTRIBUTE,
                    f"{code.name} is missing",
                )

    def note(self, code: int, action: ErrorAction, subcode: int, reason: str) -> None:
        """Add a fault that only the caller could find."""
        self._fault(code, action, subcode, reason)

    def ignore_next_hop(self) -> None:
        """Forget NEXT_HOP, right or wrong: MP_REACH_NLRI alone says where to (RFC 4760 §3).

        One that overruns the block remains at fault: attributes behind it may be missing.
        """
        self.pieces.pop(AttributeCode.NEXT_HOP, None)
        overrun = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
        self.faults = [
            fault for fault in self.faults if fault.code != AttributeCode.NEXT_HOP or fault.subcode == overrun
        ]

    def _fault(self, code: int, action: ErrorAction, subcode: int, reason: str) -> None:
        self.faults.append(AttributeFault(code, action, subcode, reason))

    def _read(self, block: bytes) -> None:
        """Walk the block. An attribute that overruns it ends the walk (RFC 7606 §4)."""
        position, end = 0, len(block)
        while position < end:
            header = 4 if block[position] & _EXTENDED else 3
            start = position + header
            stop = start + int.from_bytes(block[position + 2 : start], "big")
            if start > end or stop > end:
                self._fault(
                    block[position + 1] if position + 1 < end else 0,
                    ErrorAction.TREAT_AS_WITHDRAW,
                    UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
                    "an attribute overruns the attribute block",
                )
                return
            self._attribute(block[position], block[position + 1], block[start:stop], block[position:stop])
            position = stop

    def _attribute(self, flags: int, code: int, value: bytes, piece: bytes) -> None:
        if code in _NLRI_CODES:
            self._nlri_attribute(flags, code, value, piece)
            return
        if code in self._seen:
            return  # RFC 7606 §3 (g): the first one counts
        self._seen.add(code)
        row = ROWS.get(code)
        if row is None:
            self._unknown(flags, code, value, piece)
        elif self._stands(row, flags, value):
            once = row.without_repeats(value)
            if code in _AS4_CODES:
                self._as4[code] = value
            elif len(once) < len(value):
                self.pieces[code] = encode_attribute(code, flags & 0xF0, once)
            else:
                self.pieces[code] = piece if not flags & 0x0F else bytes((flags & 0xF0,)) + piece[1:]

    def _nlri_attribute(self, flags: int, code: int, value: bytes, piece: bytes) -> None:
        if code in self._seen:
            name = AttributeCode(code).name
            raise reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, f"{name} appears twice", piece)
        self._seen.add(code)
        if flags & (_OPTIONAL | _TRANSITIVE | _PARTIAL) != _OPTIONAL:
            self._fault(
                code,
                ErrorAction.TREAT_AS_WITHDRAW,
                UpdateSubcode.ATTRIBUTE_FLAGS,
                f"{AttributeCode(code).name} with flags {flags:#04x}",
            )
        if code == AttributeCode.MP_REACH_NLRI:
            self.mp_reach = value
        else:
            self.mp_unreach = value

    def _unknown(self, flags: int, code: int, value: bytes, piece: bytes) -> None:
        if code == 0:
            subcode = UpdateSubcode.MALFORMED_ATTRIBUTE_LIST
            self._fault(code, ErrorAction.TREAT_AS_WITHDRAW, subcode, "attribute type 0")
        elif not flags & _OPTIONAL:
            raise reset(
                UpdateSubcode.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
                f"attribute {code} claims to be well-known, but is not",
                piece,
            )
        elif flags & _TRANSITIVE:
            self.pieces[code] = encode_attribute(code, flags & 0xF0 | _PARTIAL, value)

    def _stands(self, row: Row, flags: int, value: bytes) -> bool:
        """Judge one known attribute: flags first, then whether it may come from this side, then its value."""
        wrong = (flags ^ row.flags) & (_OPTIONAL | _TRANSITIVE)
        if wrong or (flags & _PARTIAL and row.flags != _OPTIONAL | _TRANSITIVE):
            self._fault(
                row.code, row.bad_flags, UpdateSubcode.ATTRIBUTE_FLAGS, f"{row.name} with flags {flags:#04x}"
            )
            return False
        if row.internal_only and not self.context.internal:
            self._fault(
                row.code,
                ErrorAction.ATTRIBUTE_DISCARD,
                UpdateSubcode.OPTIONAL_ATTRIBUTE,
                f"{row.name} from an external peer",
            )
            return False
        fault = row.check(value, self.context)
        if fault is None:
            return True
        action = row.malformed if fault.action is None else fault.action
        self._fault(row.code, action, fault.subcode, f"{row.name}: {fault.reason}")
        return False

    def _widen(self) -> None:
        """Turn what an old speaker sent into four-octet form (RFC 6793 §4.2.3).

        A path that only two-octet numbers let fit into an attribute is beyond us: its routes are withdrawn.
        """
        as4_counts = True
        aggregator = self.pieces.get(AttributeCode.AGGREGATOR)
        if aggregator is not None:
            flags, value = aggregator[0], aggregator[-6:]
            if int.from_bytes(value[:2], "big") != AS_TRANS:
                # Beside AS4_AGGREGATOR: an old speaker aggregated anew, and what the AS4 ones say is past.
                as4_counts = AttributeCode.AS4_AGGREGATOR not in self._as4
                value = b"\0\0" + value
            else:
                value = self._as4.get(AttributeCode.AS4_AGGREGATOR, b"\0\0" + value)
            self.pieces[AttributeCode.AGGREGATOR] = encode_attribute(AttributeCode.AGGREGATOR, flags, value)
        piece = self.pieces.get(AttributeCode.AS_PATH)
        if piece is None:
            return
        path = as_path.decode(piece[4 if piece[0] & _EXTENDED else 3 :], width=2)
        as4_path = self._as4.get(AttributeCode.AS4_PATH)
        if as4_path is not None and as4_counts:
            path = as_path.reconstruct(path, as_path.decode(as4_path))
        value = as_path.encode(path)
        if len(value) > LONGEST_VALUE:
            reason = f"AS_PATH: {len(value)} octets once its AS numbers have four"
            action, subcode = ErrorAction.TREAT_AS_WITHDRAW, UpdateSubcode.MALFORMED_AS_PATH
            self._fault(AttributeCode.AS_PATH, action, subcode, reason)
            return
        self.pieces[AttributeCode.AS_PATH] = encode_attribute(AttributeCode.AS_PATH, _TRANSITIVE, value)
