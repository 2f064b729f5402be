"""UPDATE: sorted into reachable and unreachable, and packed again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire.attributes import encode_attributes
from bgpd.wire.errors import ProtocolError, UnsendableError
from bgpd.wire.framing import Framer
from bgpd.wire.iana import MessageType
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of, split
from bgpd.wire.update import (
    Update,
    UpdateDecoder,
    encode_end_of_rib,
    encode_updates,
    encode_withdrawals,
)
from tests.wire.samples import (
    AS_PATH,
    MANDATORY,
    NEXT_HOP,
    NEXT_HOP6,
    ORIGIN,
    PREFIX,
    PREFIX6,
    announced,
    attribute,
    body,
    decoder,
    mp_reach,
    mp_unreach,
    withdrawn,
)
from tests.wire.test_nlri import prefixes

OTHER = bytes.fromhex("18c63365")


def received(one: UpdateDecoder, stream: list[bytes], max_length: int = 4096) -> list[Update]:
    """Decode whole messages, checking that each is as long as its header says and no longer than allowed."""
    framer = Framer(max_length)
    framer.feed(b"".join(stream))
    bodies = list(framer)
    assert framer.pending == 0
    assert all(type == MessageType.UPDATE for type, _body in bodies)
    assert len(bodies) == len(stream)
    return [one.decode(data) for _type, data in bodies]


@st.composite
def fields(draw: st.DrawFn, family: Family, add_path: bool) -> list[bytes]:
    identifiers = st.binary(min_size=4, max_size=4) if add_path else st.just(b"")
    network = prefixes(family).filter(lambda prefix: not prefix.is_multicast and prefix.prefixlen > 16)
    items = st.tuples(identifiers, network.map(nlri_of)).map(b"".join)
    return draw(st.lists(items, min_size=1, max_size=30, unique=True))


SAFE = {IPV4_UNICAST: bytes((10,)), IPV6_UNICAST: bytes((0x20,))}


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
@pytest.mark.parametrize("add_path", [False, True])
@pytest.mark.parametrize("next_hop", [NEXT_HOP[3:], NEXT_HOP6, NEXT_HOP6 + NEXT_HOP6])
@given(st.data())
def test_decode_inverts_encode(family: Family, add_path: bool, next_hop: bytes, data: st.DataObject) -> None:
    if family == IPV6_UNICAST and len(next_hop) == 4:
        return
    head = 4 if add_path else 0
    drawn = data.draw(fields(family, add_path))
    nlri = list({item[: head + 1] + SAFE[family] + item[head + 2 :]: None for item in drawn})  # no martians
    max_length = data.draw(st.sampled_from([120, 200, 4096]))
    attributes = encode_attributes(next_hop=next_hop, local_pref=100)
    one = decoder(internal=True, add_path=add_path, extended_next_hop=True)
    updates = received(one, encode_updates(family, attributes, next_hop, nlri, max_length), max_length)
    assert [item for update in updates for item in announced(update)] == [(family, item) for item in nlri]
    for update in updates:
        [reach] = update.reach
        assert reach.raw == b"".join(reach.nlri)
        assert reach.attributes.next_hop == next_hop
        assert reach.attributes.raw == attributes
        assert (list(update.unreach), list(update.errors), update.end_of_rib) == ([], [], None)
    gone = received(one, encode_withdrawals(family, nlri, max_length), max_length)
    assert [item for update in gone for item in withdrawn(update)] == [(family, item) for item in nlri]
    assert all(update.end_of_rib is None for update in gone)


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
@pytest.mark.parametrize("max_length", [4096, 65535])
def test_rfc4271_4_3_messages_are_filled_as_far_as_they_go(family: Family, max_length: int) -> None:
    size = 4 if family == IPV4_UNICAST else 9
    nlri = [bytes((8 * size - 8, 0x20)) + n.to_bytes(size - 2, "big") for n in range(20000)]
    next_hop = NEXT_HOP[3:] if family == IPV4_UNICAST else NEXT_HOP6
    for messages in (
        encode_updates(family, MANDATORY, next_hop, nlri, max_length),
        encode_withdrawals(family, nlri, max_length),
    ):
        assert all(max_length - size < len(message) <= max_length for message in messages[:-1])
        assert len(messages) > 1


def test_rfc7606_5_1_mp_reach_is_sent_first_and_next_hop_not_beside_it() -> None:
    [message] = encode_updates(IPV6_UNICAST, MANDATORY, NEXT_HOP6, [PREFIX6])
    assert message[23:25] == b"\x90\x0e"
    assert message.endswith(ORIGIN + AS_PATH)


def test_rfc4271_5_1_3_next_hop_is_the_one_asked_for() -> None:
    [message] = encode_updates(IPV4_UNICAST, MANDATORY, bytes((10, 9, 9, 9)), [PREFIX])
    assert message[23:] == ORIGIN + AS_PATH + attribute(0x40, 3, bytes((10, 9, 9, 9))) + PREFIX
    [message] = encode_updates(IPV4_UNICAST, ORIGIN + AS_PATH, bytes((10, 9, 9, 9)), [PREFIX])
    assert message[23:] == ORIGIN + AS_PATH + attribute(0x40, 3, bytes((10, 9, 9, 9))) + PREFIX


def test_nothing_to_say_is_no_message() -> None:
    assert encode_updates(IPV4_UNICAST, MANDATORY, NEXT_HOP[3:], []) == []
    assert encode_updates(IPV6_UNICAST, MANDATORY, NEXT_HOP6, []) == []
    assert encode_withdrawals(IPV4_UNICAST, []) == []
    assert encode_withdrawals(IPV6_UNICAST, []) == []


@pytest.mark.parametrize(
    ("family", "next_hop", "nlri"), [(IPV4_UNICAST, NEXT_HOP[3:], PREFIX), (IPV6_UNICAST, NEXT_HOP6, PREFIX6)]
)
def test_rfc8654_4_attributes_that_leave_no_room_cannot_be_sent(
    family: Family, next_hop: bytes, nlri: bytes
) -> None:
    long = MANDATORY + b"\xd0\x08" + (4048).to_bytes(2, "big") + bytes(4048)
    with pytest.raises(UnsendableError):
        encode_updates(family, long, next_hop, [nlri, nlri])
    [message] = encode_updates(family, long, next_hop, [nlri], 65535)
    assert len(message) > 4096
    for octets in (65535 - len(MANDATORY) - 4, 65535):  # the block is as long as can be said, and longer
        with pytest.raises(UnsendableError):
            encode_updates(
                family,
                MANDATORY + b"\xd0\x08" + octets.to_bytes(2, "big") + bytes(octets),
                next_hop,
                [nlri],
                65535,
            )


def test_an_attribute_longer_than_its_length_can_say_cannot_be_sent() -> None:
    longest = (1,) * (0xFFFF // 4)
    assert len(encode_attributes(communities=longest)) > 0xFFFF
    with pytest.raises(UnsendableError):
        encode_attributes(communities=(1, *longest))


@pytest.mark.parametrize("family", [IPV4_UNICAST, IPV6_UNICAST])
def test_rfc4724_2_end_of_rib(family: Family) -> None:
    [update] = received(decoder(), [encode_end_of_rib(family)])
    assert (*map(list, update[:2]), update.end_of_rib, list(update.errors)) == ([], [], family, [])


def test_rfc4724_2_end_of_rib_forms() -> None:
    assert encode_end_of_rib(IPV4_UNICAST)[16:] == bytes.fromhex("001702 0000 0000")
    assert encode_end_of_rib(IPV6_UNICAST)[16:] == bytes.fromhex("001d02 0000 0006 800f03 000201")
    extended = bytes.fromhex("900f0003 000201")
    assert decoder().decode(body(extended)).end_of_rib == IPV6_UNICAST
    assert decoder().decode(body(mp_unreach(b"", IPV4_UNICAST))).end_of_rib == IPV4_UNICAST


@pytest.mark.parametrize(
    "data",
    [
        body(mp_unreach(b"") + ORIGIN),
        body(mp_unreach(b""), withdrawn=PREFIX),
        body(ORIGIN + AS_PATH),
        body(mp_unreach(b"", Family(1, 133))),
        body(mp_unreach(b"\x08\xff")),
        body(mp_unreach(b"\0")),
        body(withdrawn=b"\x08\xe0"),
    ],
)
def test_rfc4724_2_what_is_no_end_of_rib(data: bytes) -> None:
    assert decoder().decode(data).end_of_rib is None


def test_rfc4724_2_end_of_rib_of_a_family_not_negotiated_is_ignored() -> None:
    assert decoder(families=(IPV6_UNICAST,)).decode(body()).end_of_rib is None


def test_rfc4760_4_default_route_withdrawn() -> None:
    assert withdrawn(decoder().decode(body(mp_unreach(b"\0")))) == [(IPV6_UNICAST, b"\0")]
    assert withdrawn(decoder().decode(body(withdrawn=b"\0"))) == [(IPV4_UNICAST, b"\0")]


def test_rfc4271_4_3_same_prefix_withdrawn_and_announced_is_announced() -> None:
    update = decoder().decode(body(MANDATORY, PREFIX, PREFIX + OTHER))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert withdrawn(update) == [(IPV4_UNICAST, OTHER)]


def test_rfc4271_4_3_same_prefix_by_different_host_bits() -> None:
    update = decoder().decode(body(MANDATORY, bytes.fromhex("0dc0ff"), bytes.fromhex("0dc0f8")))
    assert announced(update) == [(IPV4_UNICAST, bytes.fromhex("0dc0f8"))]
    assert withdrawn(update) == []
    assert update.reach[0].raw == bytes.fromhex("0dc0f8")


def test_rfc4760_3_same_prefix_in_mp_unreach_and_mp_reach_is_announced() -> None:
    update = decoder().decode(body(mp_reach() + mp_unreach() + ORIGIN + AS_PATH))
    assert announced(update) == [(IPV6_UNICAST, PREFIX6)]
    assert withdrawn(update) == []


def test_rfc7911_3_another_path_of_the_prefix_stays_withdrawn() -> None:
    one, two = b"\0\0\0\1" + PREFIX, b"\0\0\0\2" + PREFIX
    update = decoder(add_path=True).decode(body(MANDATORY, one, one + two))
    assert announced(update) == [(IPV4_UNICAST, one)]
    assert withdrawn(update) == [(IPV4_UNICAST, two)]


def test_rfc7911_3_nlri_without_identifiers_on_an_add_path_session_reset() -> None:
    with pytest.raises(ProtocolError) as caught:
        decoder(add_path=True).decode(body(MANDATORY, bytes.fromhex("18c633")))
    assert (caught.value.code, caught.value.subcode) == (3, 10)


def test_rfc4271_6_3_martian_prefixes_are_ignored() -> None:
    martians = bytes.fromhex("08e0 087f 20ffffffff")
    assert decoder().decode(body(MANDATORY, martians)).reach == []
    update = decoder().decode(body(MANDATORY, martians + PREFIX, martians))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert update.reach[0].raw == PREFIX
    assert withdrawn(update) == []
    mixed = decoder().decode(body(mp_reach(b"\x10\xff\x02" + PREFIX6) + ORIGIN + AS_PATH))
    assert announced(mixed) == [(IPV6_UNICAST, PREFIX6)]


def test_rfc7911_3_martian_prefixes_are_ignored_behind_identifiers() -> None:
    one = b"\xe0\0\0\1" + PREFIX
    update = decoder(add_path=True).decode(body(MANDATORY, b"\0\0\0\1\x08\x7f" + one))
    assert announced(update) == [(IPV4_UNICAST, one)]


def test_default_routes_are_no_martians() -> None:
    assert announced(decoder().decode(body(MANDATORY, b"\0"))) == [(IPV4_UNICAST, b"\0")]
    assert announced(decoder().decode(body(mp_reach(b"\0") + ORIGIN + AS_PATH))) == [(IPV6_UNICAST, b"\0")]


def test_both_families_in_one_update() -> None:
    update = decoder().decode(body(mp_reach() + MANDATORY, PREFIX, OTHER))
    assert announced(update) == [(IPV4_UNICAST, PREFIX), (IPV6_UNICAST, PREFIX6)]
    assert withdrawn(update) == [(IPV4_UNICAST, OTHER)]
    assert [reach.attributes.raw for reach in update.reach] == [MANDATORY, ORIGIN + AS_PATH]
    assert [reach.attributes.next_hop for reach in update.reach] == [NEXT_HOP[3:], NEXT_HOP6]


@pytest.mark.parametrize("next_hop", [NEXT_HOP6, NEXT_HOP6 * 2])
def test_rfc8950_3_ipv4_with_ipv6_next_hop_only_where_negotiated(next_hop: bytes) -> None:
    data = body(mp_reach(PREFIX, next_hop, IPV4_UNICAST) + ORIGIN + AS_PATH)
    assert announced(decoder(extended_next_hop=True).decode(data)) == [(IPV4_UNICAST, PREFIX)]
    update = decoder().decode(data)
    assert announced(update) == []
    assert withdrawn(update) == [(IPV4_UNICAST, PREFIX)]
    assert [(fault.code, fault.subcode) for fault in update.errors] == [(14, 8)]


@pytest.mark.parametrize("block", [MANDATORY, MANDATORY + attribute(0x80, 253, b"\1"), b""])
def test_withdrawals_may_carry_attributes_or_none(block: bytes) -> None:
    update = decoder().decode(body(block, withdrawn=PREFIX))
    assert withdrawn(update) == [(IPV4_UNICAST, PREFIX)]
    assert announced(update) == []


@given(st.binary(max_size=60), st.booleans())
def test_split_and_decoder_agree_on_nlri(field: bytes, add_path: bool) -> None:
    one = decoder(add_path=add_path)
    try:
        items = split(field, IPV4_UNICAST, add_path)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            one.decode(body(MANDATORY, field))
    else:
        found = [item for _family, item in announced(one.decode(body(MANDATORY, field)))] if field else []
        assert set(found) <= set(items)
