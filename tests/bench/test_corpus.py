"""A recorded UPDATE becomes what its border router would send inside."""

from bench.reflector.corpus import FIRST_NEXT_HOP, convert

MARKER = b"\xff" * 16


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes((flags, code, len(value))) + value


def update(attributes: bytes, nlri: bytes) -> str:
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + nlri
    return (MARKER + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body).hex()


def path(*asns: int) -> bytes:
    return attribute(0x40, 2, bytes((2, len(asns))) + b"".join(a.to_bytes(4, "big") for a in asns))


ORIGIN = attribute(0x40, 1, b"\0")
NEXT_HOP = attribute(0x40, 3, bytes((4, 69, 1, 1)))
PREFIX = bytes((24, 8, 8, 8))


def test_next_hop_is_the_senders_and_local_preference_is_added() -> None:
    streams = convert(
        [
            ["7", "701", "a", update(ORIGIN + path(701, 3356) + NEXT_HOP, PREFIX)],
            ["9", "3", "b", update(ORIGIN + path(3) + NEXT_HOP, PREFIX)],
        ]
    )
    assert len(streams.senders) == 2
    for number, stream in enumerate(streams.senders):
        assert attribute(0x40, 3, (FIRST_NEXT_HOP + number).to_bytes(4, "big")) in stream
        assert attribute(0x40, 5, (100).to_bytes(4, "big")) in stream
        assert NEXT_HOP not in stream
        assert stream.endswith(PREFIX)
        assert int.from_bytes(stream[16:18], "big") == len(stream)
    assert streams.asns == {701, 3356, 3}
    assert streams.encode() == b"".join(len(s).to_bytes(4, "big") + s for s in streams.senders)


def test_other_attributes_stay_verbatim_in_ascending_order() -> None:
    community = attribute(0xC0, 8, bytes((0, 1, 0, 2)))
    med = attribute(0x80, 4, bytes(4))
    (stream,) = convert(
        [["1", "1", "a", update(community + med + ORIGIN + path(1) + NEXT_HOP, PREFIX)]]
    ).senders
    codes = [1, 2, 3, 4, 5, 8]
    place, seen = 23, []
    while place < len(stream) - len(PREFIX):
        seen.append(stream[place + 1])
        place += 3 + stream[place + 2]
    assert seen == codes
    assert community in stream
    assert med in stream


def test_rows_nobody_must_accept_are_left_out() -> None:
    streams = convert(
        [
            ["1", "1", "a", update(ORIGIN + path(1, 0, 5) + NEXT_HOP, PREFIX)],
            ["1", "1", "a", update(ORIGIN + path(1) + NEXT_HOP, b"\0")],
            ["1", "1", "a", update(ORIGIN + path(1) + NEXT_HOP, bytes((8, 10)) + PREFIX)],
        ]
    )
    assert streams.left_out == 2
    assert streams.updates == 1
    assert streams.senders[0].endswith(path(1)[-4:] + streams.senders[0][-18:]) or streams.senders[
        0
    ].endswith(PREFIX)
    assert bytes((8, 10)) + PREFIX not in streams.senders[0]


def test_the_clusters_asn_is_absent_from_every_path() -> None:
    streams = convert([["1", "1", "a", update(ORIGIN + path(64999, 64998) + NEXT_HOP, PREFIX)]])
    assert streams.spare_asn() == 64997
