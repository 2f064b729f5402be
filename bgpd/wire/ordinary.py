r"""Recognising the attribute blocks that nearly every UPDATE carries, with one regular expression.

A block is *ordinary* when it is made of the attributes of a plain unicast route, each once, in the order
of their codes, with their usual flags and lengths, and an AS path of one sequence without AS 0. The
expression says all of that, so what it matches needs no further look and what it doesn't match is not
wrong, only not ordinary: it goes the way of `Interner`'s skimming.

An optional part is written `(?:...|)`, which takes half the time of `(?:...)?`.

What is expressed per attribute are the same rules as in `attribute_rows` (RFC 7606 7); a test holds the
two against each other.
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from .iana import AttributeCode

_SEQUENCE_LIMIT: Final = 24  # AS numbers in a path
_USUAL_SEQUENCE: Final = 8  # in the expression of one selection; to compile it costs the square of this
_LIST_LIMIT: Final = 16  # items in a list of communities

_ORIGIN: Final = r"\x40\x01\x01"
_AS_PATH: Final = r"(?:\x40\x02|\x50\x02\0)"
_AS_PATH_LENGTH: Final = 6  # where its length stands, behind ORIGIN and the code, unless it takes two octets
_LARGE_LIMIT: Final = 8  # items in a list of large communities
# Before the length of the last attribute: of its items of 12 octets none repeats another (RFC 8092 3). No
# more of them are looked at than an ordinary list has: a long block would take the square of its length.
_UP_TO: Final = f"(?:.{{12}}){{0,{_LARGE_LIMIT - 2}}}?"
_DISTINCT: Final = rf"(?!.{_UP_TO}(?P<item>.{{12}}){_UP_TO}(?P=item))"
_INTERNAL: Final = {AttributeCode.LOCAL_PREF, AttributeCode.ORIGINATOR_ID, AttributeCode.CLUSTER_LIST}

_Match: TypeAlias = Callable[[bytes], re.Match[bytes] | None]


def _lists(size: int, limit: int) -> str:
    """A length octet and that many octets, for one to `limit` items of `size` octets."""
    sizes = (size * count for count in range(1, limit + 1) if size * count < 256)
    return "(?:" + "|".join(f"\\x{octets:02x}.{{{octets}}}" for octets in sizes) + ")"


def _as_path(internal: bool, limit: int) -> str:
    """The value of AS_PATH with its length: one AS_SEQUENCE, and empty only within an AS (RFC 4271 5.1.2)."""
    sequences = (
        f"\\x{2 + 4 * count:02x}\\x02\\x{count:02x}" + "(?!\\0\\0\\0\\0)...." * count
        for count in range(1, limit + 1)
    )
    return "(?:" + "|".join([*(["\\0"] if internal else []), *sequences]) + ")"


_Row = tuple[AttributeCode, str, str]  # the code; its flags, code and length if fixed; its value


def _rows(internal: bool) -> list[_Row]:
    """The attributes that may follow the mandatory ones, in order."""
    rows = [
        (AttributeCode.MULTI_EXIT_DISC, r"\x80\x04\x04", "...."),
        (AttributeCode.LOCAL_PREF, r"\x40\x05\x04", "...."),
        (AttributeCode.ATOMIC_AGGREGATE, r"\x40\x06\0", ""),
        (AttributeCode.AGGREGATOR, r"[\xc0\xe0]\x07\x08", r"(?!\0\0\0\0)........"),
        (AttributeCode.COMMUNITIES, r"(?:[\xc0\xe0]\x08|[\xd0\xf0]\x08\0)", _lists(4, _LIST_LIMIT)),
        (AttributeCode.ORIGINATOR_ID, r"\x80\x09\x04", "...."),
        (AttributeCode.CLUSTER_LIST, r"\x80\x0a", _lists(4, 8)),
        (AttributeCode.EXTENDED_COMMUNITIES, r"\xc0\x10", _lists(8, 8)),
        (AttributeCode.LARGE_COMMUNITIES, r"\xc0\x20", _DISTINCT + _lists(12, _LARGE_LIMIT)),
    ]
    return rows if internal else [row for row in rows if row[0] not in _INTERNAL]


def _mandatory(internal: bool, loopback: bool, next_hop: bool, limit: int) -> str:
    """ORIGIN, an AS_PATH of up to `limit` numbers and, if it is to be there, NEXT_HOP."""
    hosts = r"\x01-\xdf\xf0-\xfe" if loopback else r"\x01-\x7e\x80-\xdf\xf0-\xfe"
    at_first = rf"{_ORIGIN}[\0-\2]{_AS_PATH}{_as_path(internal, limit)}"
    return at_first + (rf"\x40\x03\x04[{hosts}]..." if next_hop else "")


def _matcher(pattern: str) -> _Match:
    return re.compile(f"(?s:{pattern})".encode("latin-1")).fullmatch


class _Selection:
    """Which of the optional attributes a block has; `match`, once there is one, wants exactly these."""

    __slots__ = ("bits", "match", "rows", "seen")

    def __init__(self, rows: list[_Row], bits: int) -> None:
        self.rows = rows
        self.bits = bits
        self.seen = 0
        self.match: _Match | None = None


class Recogniser:
    """Tells the `present` bits of ordinary blocks of four-octet form.

    A selection of attributes that has come `WORTHWHILE` times gets an expression of its own, without options,
    which takes half the time. How many octets follow the AS path tells which one is worth trying first. Only
    `SELECTIONS` of them get one, for to compile it takes as long as to recognise a thousand blocks.
    """

    WORTHWHILE: Final = 256
    SELECTIONS: Final = 8

    __slots__ = ("_any", "_expected", "_left", "_mandatory", "_rows", "_selections", "_usual")

    def __init__(self, *, internal: bool, loopback: bool, next_hop: bool) -> None:
        """`internal`: the session stays within the AS. `loopback`: next hops in 127.0.0.0/8 are welcome.
        `next_hop`: whether NEXT_HOP is to be there, or must not.
        """
        self._usual = _mandatory(internal, loopback, next_hop, _USUAL_SEQUENCE)
        self._mandatory = 1 << AttributeCode.ORIGIN | 1 << AttributeCode.AS_PATH
        if next_hop:
            self._mandatory |= 1 << AttributeCode.NEXT_HOP
        self._rows = _rows(internal)
        # An empty group before each optional attribute tells whether it was there.
        options = "".join(f"(?:(){head}{value}|)" for _, head, value in self._rows)
        self._any = _matcher(_mandatory(internal, loopback, next_hop, _SEQUENCE_LIMIT) + options)
        self._selections: dict[tuple[bytes | None, ...], _Selection] = {}
        self._expected: dict[int, _Selection] = {}  # by the octets behind the AS path, up to a constant
        self._left = self.SELECTIONS

    def present(self, block: bytes) -> int:
        """The bits of a block; 0 where it is not ordinary."""
        size = len(block)
        if size <= _AS_PATH_LENGTH:
            return 0
        size -= block[_AS_PATH_LENGTH]
        expected = self._expected.get(size)
        if expected is not None and expected.match is not None and expected.match(block) is not None:
            return expected.bits
        found = self._any(block)
        if found is None:
            return 0
        groups = found.groups()
        selection = self._selections.get(groups)
        if selection is None:
            rows = [row for row, group in zip(self._rows, groups, strict=False) if group is not None]
            bits = self._mandatory | sum(1 << code for code, _, _ in rows)
            selection = self._selections[groups] = _Selection(rows, bits)
        if selection.match is not None:
            self._expected[size] = selection
        else:
            self._count(selection)
        return selection.bits

    def _count(self, selection: _Selection) -> None:
        selection.seen += 1
        if selection.seen == self.WORTHWHILE and self._left:
            self._left -= 1
            pattern = "".join(head + value for _, head, value in selection.rows)
            selection.match = _matcher(self._usual + pattern)
