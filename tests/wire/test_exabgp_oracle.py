"""ExaBGP's codec, written by others, as a second opinion on ours: each reads what the other writes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import exabgp.configuration.static.mpls  # noqa: F401 - only then does it look into SRv6 services
import pytest
from exabgp.bgp.message.action import Action
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.capability.negotiated import Negotiated as TheirNegotiated
from exabgp.bgp.message.update import Update as TheirUpdate
from exabgp.logger.option import option
from exabgp.protocol.family import AFI, SAFI
from hypothesis import given
from hypothesis import strategies as st

from bgpd.wire.as_path import AsPath
from bgpd.wire.attributes import AttributeSet, encode_attributes, for_old_speaker
from bgpd.wire.iana import SegmentType
from bgpd.wire.nlri import IPV4_UNICAST, Family, nlri_of, prefix_of
from bgpd.wire.update import encode_updates, encode_withdrawals
from tests.wire.samples import (
    BOTH,
    MANDATORY,
    NEXT_HOP6,
    PREFIX,
    announced,
    attribute,
    body,
    decoder,
    withdrawn,
)
from tests.wire.test_as_path import flat
from tests.wire.test_nlri import prefixes


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """ExaBGP's parser logs, and fails where no logger was set up."""
    before, option.logger = option.logger, logging.getLogger("exabgp-oracle")
    yield
    option.logger = before


def their_session(asn4: bool) -> TheirNegotiated:
    session = TheirNegotiated({"capability": {"aigp": True}})
    session.asn4 = asn4
    session.families = [(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)]
    session.local_as = session.peer_as = 65000
    return session


@dataclass
class Theirs:
    """What ExaBGP understood."""

    announced: set[str]
    withdrawn: set[str]
    next_hops: set[str]
    attributes: dict[int, str]


def read_by_them(message: bytes, session: TheirNegotiated) -> tuple[Theirs, TheirUpdate]:
    update = TheirUpdate.unpack_message(message[19:], Direction.IN, session)
    announced = [nlri for nlri in update.nlris if nlri.action == Action.ANNOUNCE]
    gone = [nlri for nlri in update.nlris if nlri.action == Action.WITHDRAW]
    theirs = Theirs(
        {str(nlri).split()[0] for nlri in announced},
        {str(nlri).split()[0] for nlri in gone},
        {str(nlri.nexthop) for nlri in announced},
        {int(code): str(value) for code, value in update.attributes.items()},
    )
    return theirs, update


asns = st.integers(1, 2**32 - 1)
as_paths = st.lists(asns, min_size=1, max_size=6).map(
    lambda found: ((SegmentType.AS_SEQUENCE, tuple(found)),)
)
families = st.sampled_from(BOTH)


def nlri_for(family: Family) -> st.SearchStrategy[list[bytes]]:
    """Prefixes that nobody could take for special ones: their first two octets are fixed."""
    first = b"\xc6\x33" if family == IPV4_UNICAST else b"\x20\x01"
    usual = prefixes(family).filter(lambda prefix: prefix.prefixlen > 16).map(nlri_of)
    return st.lists(usual.map(lambda item: item[:1] + first + item[3:]), min_size=1, max_size=5, unique=True)


@given(
    st.data(),
    families,
    as_paths,
    st.none() | st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 2**32 - 1), max_size=4),
)
def test_they_read_what_we_write_and_we_what_they_write(
    data: st.DataObject, family: Family, as_path: AsPath, med: int | None, communities: list[int]
) -> None:
    next_hop = b"\x0a\0\0\2" if family == IPV4_UNICAST else NEXT_HOP6
    nlri = data.draw(nlri_for(family))
    raw = encode_attributes(
        as_path=as_path, next_hop=next_hop, med=med, local_pref=100, communities=sorted(set(communities))
    )
    session = their_session(asn4=True)
    [message] = encode_updates(family, raw, next_hop, nlri)
    theirs, update = read_by_them(message, session)
    expected = {str(prefix_of(item, family)) for item in nlri}
    assert theirs.announced == expected
    assert theirs.withdrawn == set()
    assert theirs.next_hops == {"10.0.0.2" if family == IPV4_UNICAST else "2001:db8::1"}
    assert [int(word) for word in theirs.attributes[2].strip("() ").split()] == list(as_path[0][1])
    assert theirs.attributes.get(4) == (None if med is None else str(med))

    back: list[bytes] = []
    for written in update.messages(session):
        ours = decoder(internal=True).decode(written[19:])
        assert list(ours.errors) == []
        back += [item for found, item in announced(ours) if found == family]
        for reach in ours.reach:
            assert reach.attributes.as_path == as_path
            assert reach.attributes.med == med
            assert reach.attributes.local_pref == 100
            assert set(reach.attributes.communities) == set(communities)
            assert reach.attributes.next_hop == next_hop
    assert sorted(back) == sorted(nlri)


@given(st.data(), families)
def test_they_read_our_withdrawals(data: st.DataObject, family: Family) -> None:
    nlri = data.draw(nlri_for(family))
    [message] = encode_withdrawals(family, nlri)
    theirs, _update = read_by_them(message, their_session(asn4=True))
    assert theirs.withdrawn == {str(prefix_of(item, family)) for item in nlri}
    assert theirs.announced == set()
    assert len(withdrawn(decoder().decode(message[19:]))) == len(nlri)


@given(as_paths)
def test_rfc6793_4_2_both_reconstruct_the_same_path_on_a_two_octet_session(as_path: AsPath) -> None:
    raw = encode_attributes(as_path=as_path, next_hop=b"\x0a\0\0\2", local_pref=100)
    [message] = encode_updates(IPV4_UNICAST, for_old_speaker(raw), b"\x0a\0\0\2", [b"\x18\xc6\x33\x64"])
    theirs, _update = read_by_them(message, their_session(asn4=False))
    ours: AttributeSet = decoder(internal=True, asn4=False).decode(message[19:]).reach[0].attributes
    assert flat(ours.as_path) == list(as_path)
    assert [int(word) for word in theirs.attributes[2].strip("() ").split()] == list(as_path[0][1])


def tlvs(kinds: list[int], value: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Up to two TLVs of the Prefix-SID attribute; now and then an octet is missing or too many."""
    some = st.tuples(st.sampled_from(kinds), value).map(
        lambda found: bytes(found[:1]) + len(found[1]).to_bytes(2, "big") + found[1]
    )
    whole = st.lists(some, max_size=2).map(b"".join)
    return st.one_of(
        whole, whole, whole.map(lambda octets: octets[:-1]), whole.map(lambda octets: octets + b"?")
    )


details = tlvs([1, 1, 2], st.sampled_from([bytes(6), bytes(6), b"", bytes(5)]))
sids = tlvs([1, 1, 2], st.builds(bytes.__add__, st.sampled_from([bytes(21), bytes(21), bytes(9)]), details))
services = tlvs([5, 6], st.builds(bytes.__add__, st.sampled_from([b"\0", b"\0", b""]), sids))


@given(services)
def test_what_passes_of_a_prefix_sid_ends_no_session_of_theirs(value: bytes) -> None:
    """One that did, told by a reflector, would end the sessions of all its clients."""
    block = MANDATORY + attribute(0xC0, 40, value)
    for reach in decoder(internal=True).decode(body(block, PREFIX)).reach:
        attributes = reach.attributes
        [message] = encode_updates(IPV4_UNICAST, attributes.raw, attributes.next_hop, reach.nlri)
        theirs, _update = read_by_them(message, their_session(asn4=True))
        assert theirs.announced == {str(prefix_of(item, IPV4_UNICAST)) for item in reach.nlri}
