"""A byte stream, however split, becomes the same messages; a bad header is refused at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire.errors import ProtocolError
from bgpd.wire.framing import Framer
from bgpd.wire.messages import KEEPALIVE, MARKER, message


def header(type: int, length: int) -> bytes:
    return MARKER + length.to_bytes(2, "big") + bytes((type,))


def refused(data: bytes, max_length: int = 4096) -> tuple[int, int, bytes]:
    framer = Framer(max_length)
    framer.feed(data)
    with pytest.raises(ProtocolError) as caught:
        list(framer)
    with pytest.raises(ProtocolError):
        list(framer)  # the stream stays broken
    return caught.value.code, caught.value.subcode, caught.value.data


@given(st.lists(st.binary(min_size=4, max_size=60), max_size=8), st.data())
def test_any_split_of_the_stream_gives_the_same_messages(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(message(2, body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer = Framer()
    found: list[tuple[int, bytes]] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        framer.feed(stream[start:stop])
        found += framer
    assert found == [(2, body) for body in bodies]
    assert framer.pending == 0


def test_messages_behind_one_not_taken_stay() -> None:
    framer = Framer()
    framer.feed(KEEPALIVE + message(2, bytes(4)))
    assert next(iter(framer)) == (4, b"")
    framer.feed(KEEPALIVE)
    assert list(framer) == [(2, bytes(4)), (4, b"")]


@pytest.mark.parametrize("at", range(16))
def test_rfc4271_6_1_marker_not_all_ones(at: int) -> None:
    bad = bytearray(KEEPALIVE)
    bad[at] = 0xFE
    assert refused(bytes(bad))[:2] == (1, 1)
    assert refused(bytes(bad[: at + 1]))[:2] == (1, 1)  # known before the header is complete


@pytest.mark.parametrize(
    ("type", "length"),
    [(1, 28), (2, 22), (3, 20), (4, 18), (4, 20), (5, 22), (1, 18), (2, 0), (2, 4097), (2, 65535), (9, 18)],
)
def test_rfc4271_6_1_bad_message_length(type: int, length: int) -> None:
    assert refused(header(type, length)) == (1, 2, length.to_bytes(2, "big"))


@pytest.mark.parametrize("type", [0, 6, 9, 255])
def test_rfc4271_6_1_bad_message_type(type: int) -> None:
    assert refused(header(type, 19)) == (1, 3, bytes((type,)))


@pytest.mark.parametrize("type", [2, 3, 5])
def test_rfc8654_4_long_messages_only_where_negotiated(type: int) -> None:
    long = message(type, bytes(4078))
    assert refused(long) == (1, 2, (4097).to_bytes(2, "big"))
    framer = Framer()
    framer.max_length = 65535
    framer.feed(long)
    assert list(framer) == [(type, bytes(4078))]


@pytest.mark.parametrize(("type", "length"), [(1, 4097), (4, 4097), (4, 20)])
def test_rfc8654_4_open_and_keepalive_never_grow(type: int, length: int) -> None:
    assert refused(header(type, length), max_length=65535) == (1, 2, length.to_bytes(2, "big"))


def test_rfc4271_4_1_half_a_header_is_waited_for() -> None:
    framer = Framer()
    framer.feed(KEEPALIVE + MARKER)
    assert list(framer) == [(4, b"")]
    assert framer.pending == 16
