"""Decode, store, ask for everything, encode again: whatever arrives, nothing but a protocol error, and no
harm done.

Several crashes of other speakers came after parsing, when a route already accepted was encoded, compared or
printed; so each route that survives decoding goes the whole way here. The inputs are valid UPDATEs damaged
a little (which gets deeper than noise) and noise. `CAIRN_FUZZ_EXAMPLES` sets how many; the default is
bounded for every run of the tests.
"""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgpd.wire.attribute_rows import ROWS
from bgpd.wire.attributes import AttributeSet, for_old_speaker, rewrite
from bgpd.wire.errors import ProtocolError
from bgpd.wire.framing import Framer
from bgpd.wire.iana import AttributeCode
from bgpd.wire.messages import Message, decode, encode, message
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, prefix_of
from bgpd.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals
from tests.wire.samples import (
    MANDATORY,
    NEXT_HOP6,
    PREFIX,
    PREFIX6,
    body,
    decoder,
    mp_reach,
    mp_unreach,
    outcome,
)

EXAMPLES = int(os.environ.get("CAIRN_FUZZ_EXAMPLES", "400"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = {
    1: ["00", "02"],
    2: ["", "0201 0000fde9", "0202 00000001 fa56ea00 0101 00000007", "0301 0000fde9", "0201fde9"],
    3: ["0a000001", "7f000001"],
    4: ["00000005"],
    5: ["00000064"],
    6: [""],
    7: ["0000fde9 0a000001", "fde9 0a000001"],
    8: ["ffffff01 fde80001"],
    9: ["0a000002"],
    10: ["0a000003 0a000004"],
    16: ["0002fde800000001"],
    17: ["0201 fa56ea00"],
    18: ["fa56ea00 0a000001"],
    22: ["0006000000 0a000001"],
    23: ["00080008 0102aabb 80000101 00070000"],
    25: ["0002" + "00" * 18],
    26: ["01000b" + "00" * 8],
    29: ["04000001ff"],
    32: ["0000fde80000000100000002"],
    35: ["0000fde9"],
    39: ["000101040a000002 00010000"],
    40: ["010007" + "00" * 7],
    99: ["", "deadbeef"],
}


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Attributes, mostly right: right flags and values, then here and there not."""
    parts = []
    mandatory = [1, 2, 3] if draw(st.booleans()) else []
    for code in mandatory + draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=6)):
        flags = ROWS[code].flags if code in ROWS else 0xC0
        flags ^= draw(st.sampled_from([0, 0, 0, 0, 0, 0x20, 0x40, 0x80, 0x0F]))
        value = bytes.fromhex(draw(st.sampled_from(VALUES[code])))
        if draw(st.integers(0, 9)) == 0:
            value = draw(st.binary(max_size=30))
        length = (len(value) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, -1, 200]))) % 256
        if draw(st.integers(0, 4)) == 0:
            parts.append(bytes((flags | 0x10, code, 0, length)) + value)
        else:
            parts.append(bytes((flags, code, length)) + value)
    nlri = draw(st.sampled_from([b"", PREFIX6, PREFIX6 + b"\x08\x20", b"\x81", b"\x10\xff\x02"]))
    if draw(st.booleans()):
        next_hop = draw(st.sampled_from([NEXT_HOP6, NEXT_HOP6 * 2, b"\x0a\0\0\1", bytes(16), b""]))
        family = draw(st.sampled_from([IPV6_UNICAST, IPV4_UNICAST]))
        parts.insert(draw(st.integers(0, len(parts))), mp_reach(nlri, next_hop, family))
    if draw(st.integers(0, 3)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), mp_unreach(nlri))
    return b"".join(parts)


@st.composite
def updates(draw: st.DrawFn) -> bytes:
    """Bodies of UPDATEs, some with an octet or two gone wrong afterwards."""
    fields = st.sampled_from(
        [b"", PREFIX, PREFIX + b"\x0d\x0a\xff", b"\0", b"\x08\xe0", b"\0\0\0\1" + PREFIX, b"\x21"]
    )
    data = bytearray(body(draw(blocks()), draw(fields), draw(fields)))
    for at, octet in draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=2)):
        data[at % len(data)] = octet
    return bytes(data[: draw(st.sampled_from([len(data)] * 6 + [len(data) // 2, len(data) - 1]))])


decoders = st.builds(
    decoder, st.booleans(), asn4=st.booleans(), add_path=st.booleans(), extended_next_hop=st.booleans()
)


def everything_of(attributes: AttributeSet) -> tuple[object, ...]:
    """Every typed view of a set."""
    names = [name for name in dir(AttributeSet) if not name.startswith("_")]
    return tuple(value for value in (getattr(attributes, name) for name in names) if not callable(value))


def whole_way(update: Update, add_path: bool) -> None:
    """Take what an UPDATE left standing through every later step."""
    assert repr(update)
    for unreach in update.unreach:
        assert unreach.nlri
        assert encode_withdrawals(unreach.family, unreach.nlri)
    for reach in update.reach:
        attributes, family = reach.attributes, reach.family
        assert reach.raw == b"".join(reach.nlri)
        assert everything_of(attributes)
        for item in reach.nlri:
            assert prefix_of(item[4 if add_path else 0 :], family).prefixlen == item[4 if add_path else 0]
        assert attributes.contains_as(65001) is (attributes.count_as(65001) > 0)
        reflected = attributes.reflected(b"\1\1\1\1", b"\2\2\2\2")
        external = rewrite(reflected, dict.fromkeys((5, 9, 10, 26, 40)))
        next_speaker = decoder(internal=True, extended_next_hop=True)
        plain = [item[4 if add_path else 0 :] for item in reach.nlri]
        for raw in (attributes.raw, reflected, external):
            for whole in encode_updates(family, raw, attributes.next_hop, plain):
                again = decoded(next_speaker, whole)
                assert not again.errors
                assert again.reach[0].attributes.raw == raw
                assert again.reach[0].attributes.next_hop == attributes.next_hop
        old = decoder(internal=True, asn4=False, extended_next_hop=True)
        for whole in encode_updates(family, for_old_speaker(attributes.raw), attributes.next_hop, plain):
            told = decoded(old, whole)
            assert not told.errors
            assert told.reach[0].attributes.compared.as_path_length == attributes.compared.as_path_length


def decoded(one: UpdateDecoder, whole: bytes) -> Update:
    framer = Framer()
    framer.feed(whole)
    [(_type, data)] = framer
    return one.decode(data)


@fuzz
@given(decoders, updates())
def test_damaged_updates(one: UpdateDecoder, data: bytes) -> None:
    first, second = outcome(one.decode, data), outcome(one.decode, data)
    if isinstance(first, ProtocolError):
        assert first.code == 3
        assert isinstance(second, ProtocolError)
        return
    assert isinstance(second, Update)
    assert [tuple(reach) for reach in first.reach] == [tuple(reach) for reach in second.reach]
    assert list(first.errors) == list(second.errors)
    whole_way(first, one._ipv4_add_path)


@fuzz
@given(decoders, st.binary(max_size=80))
def test_noise_as_update(one: UpdateDecoder, data: bytes) -> None:
    found = outcome(one.decode, data)
    if not isinstance(found, ProtocolError):
        whole_way(found, one._ipv4_add_path)


@fuzz
@given(decoders, st.binary(max_size=80))
def test_noise_as_attributes(one: UpdateDecoder, data: bytes) -> None:
    found = outcome(one.decode, body(MANDATORY + data, PREFIX))
    if not isinstance(found, ProtocolError):
        whole_way(found, one._ipv4_add_path)


@fuzz
@given(
    st.lists(st.binary(max_size=40) | updates().map(lambda data: message(2, data)), max_size=6),
    st.integers(1, 50),
)
def test_noise_as_stream(chunks: list[bytes], size: int) -> None:
    """However it is cut: the same messages, then the same error."""
    stream = b"".join(chunks)
    assert framed([stream]) == framed([stream[at : at + size] for at in range(0, len(stream), size)])


def framed(chunks: list[bytes]) -> tuple[list[tuple[int, bytes]], str]:
    framer = Framer()
    found: list[tuple[int, bytes]] = []
    for chunk in chunks:
        framer.feed(chunk)
        try:
            for item in framer:
                found.append(item)  # noqa: PERF402  (extend would lose what precedes an error)
        except ProtocolError as error:
            return found, str(error)
    return found, ""


@fuzz
@given(st.sampled_from([1, 3, 4, 5]), st.binary(max_size=120))
def test_noise_as_other_messages(type: int, data: bytes) -> None:
    check(outcome(decode, type, data), type)


@fuzz
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 5, 6, 9, 64, 65, 69, 70, 71, 73, 75]), st.binary(max_size=24)),
        max_size=6,
    )
)
def test_noise_as_capabilities(found: list[tuple[int, bytes]]) -> None:
    octets = b"".join(bytes((code, len(value))) + value for code, value in found)
    fixed = bytes.fromhex("04 fde9 005a 0a090909")
    check(outcome(decode, 1, fixed + bytes((2 + len(octets), 2, len(octets))) + octets), 1)


def check(found: Message | ProtocolError, type: int) -> None:
    if isinstance(found, ProtocolError):
        assert 1 <= found.code <= 7
        assert repr(found)
    else:
        assert repr(found)
        assert decode(type, encode(found)[19:]) == found


def test_every_attribute_code_is_fuzzed() -> None:
    assert set(ROWS) <= set(VALUES)
    assert AttributeCode.MP_REACH_NLRI not in VALUES
