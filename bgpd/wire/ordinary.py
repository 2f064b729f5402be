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
from typing import Final

from .iana import AttributeCode

_SEQUENCE_LIMIT: Final = 24  # AS numbers in a path
_LIST_LIMIT: Final = 16  # items in a list of communities

_ORIGIN: Final = r"\x40\x01\x01"
_AS_PATH: Final = r"(?:\x40\x02|\x50\x02\0)"
_INTERNAL: Final = {AttributeCode.LOCAL_PREF, AttributeCode.ORIGINATOR_ID, AttributeCode.CLUSTER_LIST}

_Bits = Callable[[bytes], int]


def _lists(size: int, limit: int) -> str:
    """A length octet and that many octets, for one to `limit` items of `size` octets."""
    sizes = (size * count for count in range(1, limit + 1) if size * count < 256)
    return "(?:" + "|".join(f"\\x{octets:02x}.{{{octets}}}" for octets in sizes) + ")"


def _as_path(internal: bool) -> str:
    """The value of AS_PATH with its length: one AS_SEQUENCE, and empty only within an AS (RFC 4271 5.1.2)."""
    sequences = (
        f"\\x{2 + 4 * count:02x}\\x02\\x{count:02x}" + "(?!\\0\\0\\0\\0)...." * count
        for count in range(1, _SEQUENCE_LIMIT + 1)
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
        (AttributeCode.LARGE_COMMUNITIES, r"\xc0\x20", _lists(12, 8)),
    ]
    return rows if internal else [row for row in rows if row[0] not in _INTERNAL]


def _matcher(pattern: str) -> Callable[[bytes], re.Match[bytes] | None]:
    return re.compile(f"(?s:{pattern})".encode("latin-1")).fullmatch


def recogniser(*, internal: bool, loopback: bool, next_hop: bool) -> _Bits:
    """A function from a block of four-octet form to its `present` bits; 0 where it is not ordinary.

    `internal`: the session stays within the AS. `loopback`: next hops in 127.0.0.0/8 are welcome.
    `next_hop`: whether NEXT_HOP is to be there, or must not.
    """
    hosts = r"\x01-\xdf" if loopback else r"\x01-\x7e\x80-\xdf"
    required = rf"{_ORIGIN}[\0-\2]{_AS_PATH}{_as_path(internal)}"
    bits = 1 << AttributeCode.ORIGIN | 1 << AttributeCode.AS_PATH
    if next_hop:
        required += rf"\x40\x03\x04[{hosts}]..."
        bits |= 1 << AttributeCode.NEXT_HOP
    rows = _rows(internal)
    # An empty group behind each optional attribute tells whether it was there.
    match = _matcher(required + "".join(f"(?:{head}{value}()|)" for _, head, value in rows))
    codes = [1 << code for code, _, _ in rows]
    known: dict[tuple[bytes | None, ...], int] = {}

    def present(block: bytes) -> int:
        found = match(block)
        if found is None:
            return 0
        groups = found.groups()
        result = known.get(groups)
        if result is None:
            result = known[groups] = bits | sum(
                bit for bit, group in zip(codes, groups, strict=True) if group is not None
            )
        return result

    return present
