"""AS_PATH values: their syntax, their typed form, and four-octet AS numbers among two-octet speakers.

A typed AS path is a tuple of (segment type, AS numbers). On the wire an AS number has two or four octets,
as the session negotiated (RFC 6793 §3); everywhere else in this project it has four.

RFCs: 4271 §4.3 and §9.1.2.2, 5065 §5.3 (confederation segments count for nothing), 6793 §4.2 and §6, 7607
(AS 0).
"""

from typing import Final

from .iana import AS_TRANS, SegmentType

Segment = tuple[SegmentType, tuple[int, ...]]
AsPath = tuple[Segment, ...]

_SEGMENT_TYPES: Final = {int(segment): segment for segment in SegmentType}
_CONFEDERATION: Final = frozenset({SegmentType.AS_CONFED_SEQUENCE, SegmentType.AS_CONFED_SET})
_AS_ZERO: Final = bytes(4)
AS_ZERO_FOUND: Final = "the AS number 0"


def fits(value: bytes, width: int = 4) -> bool:
    """Whether non-empty segments, of whatever type, fill the value exactly."""
    position, end = 0, len(value)
    while position + 2 <= end and value[position + 1]:
        position += 2 + value[position + 1] * width
    return position == end


def fault_of(value: bytes, width: int = 4, confederation: bool = True) -> str | None:
    """What is wrong with an AS_PATH value of `width` octets per AS number; None if nothing is.

    `confederation` says whether confederation segments are allowed.
    """
    position, end = 0, len(value)
    while position < end:
        if position + 2 > end:
            return "one octet is left where a segment header should be"
        kind, count = value[position], value[position + 1]
        if kind not in _SEGMENT_TYPES:
            return f"segment type {kind}"
        if count == 0:
            return "a segment without AS numbers"
        stop = position + 2 + count * width
        if stop > end:
            return f"a segment of {count} AS numbers overruns the attribute"
        if kind > 2 and not confederation:
            return "a confederation segment from outside the confederation"
        numbers = value[position + 2 : stop]
        zero = _AS_ZERO[:width]
        if zero in numbers and any(
            numbers[start : start + width] == zero for start in range(0, len(numbers), width)
        ):
            return AS_ZERO_FOUND
        position = stop
    return None


def decode(value: bytes, width: int = 4) -> AsPath:
    """The typed form of a valid value."""
    segments = []
    position = 0
    while position < len(value):
        start, stop = position + 2, position + 2 + value[position + 1] * width
        numbers = tuple(int.from_bytes(value[at : at + width], "big") for at in range(start, stop, width))
        segments.append((_SEGMENT_TYPES[value[position]], numbers))
        position = stop
    return tuple(segments)


def encode(path: AsPath, width: int = 4) -> bytes:
    """The value of a path. A segment of more than 255 AS numbers becomes several; with `width` 2, AS
    numbers that do not fit become AS_TRANS.
    """
    parts = []
    for kind, numbers in path:
        for start in range(0, len(numbers), 255):
            some = numbers[start : start + 255]
            parts.append(bytes((kind, len(some))))
            if width == 2:
                some = tuple(number if number <= 0xFFFF else AS_TRANS for number in some)
            parts.extend(number.to_bytes(width, "big") for number in some)
    return b"".join(parts)


def length_of(path: AsPath) -> int:
    """The length the decision process compares: a set counts one, confederation segments nothing."""
    length = 0
    for kind, numbers in path:
        if kind == SegmentType.AS_SEQUENCE:
            length += len(numbers)
        elif kind == SegmentType.AS_SET:
            length += 1
    return length


def without_confederation(path: AsPath) -> AsPath:
    """The path as AS4_PATH may carry it (RFC 6793 §3)."""
    return tuple(segment for segment in path if segment[0] not in _CONFEDERATION)


def reconstruct(path: AsPath, as4_path: AsPath) -> AsPath:
    """The true path from the AS_PATH and AS4_PATH of an old speaker (RFC 6793 §4.2.3).

    AS4_PATH covers the path's tail. Where it is longer than the whole path it cannot be trusted, and the
    AS_PATH stands alone; otherwise the head it does not cover is taken from AS_PATH.
    """
    as4_path = without_confederation(as4_path)
    missing = length_of(path) - length_of(as4_path)
    if not as4_path or missing < 0:
        return path
    head: list[Segment] = []
    for kind, numbers in path:
        if kind in _CONFEDERATION:  # leading, or next to a segment taken whole
            head.append((kind, numbers))
        elif missing <= 0:
            break
        elif kind == SegmentType.AS_SEQUENCE and missing < len(numbers):
            head.append((kind, numbers[:missing]))
            break
        else:
            head.append((kind, numbers))
            missing -= len(numbers) if kind == SegmentType.AS_SEQUENCE else 1
    return _joined(head, as4_path)


def _joined(head: list[Segment], tail: AsPath) -> AsPath:
    """Head and tail, with two sequences that meet made one."""
    if head and tail and head[-1][0] == tail[0][0] == SegmentType.AS_SEQUENCE:
        return (*head[:-1], (SegmentType.AS_SEQUENCE, head[-1][1] + tail[0][1]), *tail[1:])
    return (*head, *tail)
