"""Attributes too long for some peers: they are told nothing of that route, and of all others everything."""

from ipaddress import ip_network
from typing import Any

import pytest

from bgpd.plan.policy import CompiledFilter, Operator, PrefixMatch, Rule
from bgpd.resources.scalars import Community
from bgpd.rib.path import SourceKind
from bgpd.wire.as_path import AsPath
from bgpd.wire.attributes import encode_attributes, for_old_speaker
from bgpd.wire.iana import SegmentType, WellKnownCommunity
from bgpd.wire.update import encode_updates
from reflector.member import MemberOptions
from tests.reflector.simulated import V4, SimulatedPeer, external, key, reflector, settle
from tests.reflector.test_core_reflection import P, Q, R

CLIENT, NON_CLIENT = SourceKind.CLIENT, SourceKind.NON_CLIENT
EXTENDED: dict[str, Any] = {"extended_message": True}
LONG = "10.9.0.0/16"


def sequences(octets: int, *, width: int = 4, asn: int = 64999) -> AsPath:
    """An AS_PATH of whole sequences, nearly that many octets where an AS number has `width`."""
    return ((SegmentType.AS_SEQUENCE, (asn,) * 255),) * (octets // (2 + 255 * width))


def speaks_at_length(core: Any, number: int, **more: Any) -> SimulatedPeer:
    return SimulatedPeer(core, number, capabilities=EXTENDED | more, ours=dict(EXTENDED))


@pytest.mark.parametrize(
    ("asn4", "path", "communities", "told"),
    [
        (None, sequences(28_000, width=2), 3000, {5}),  # too long once its AS numbers have four octets
        (65000, sequences(46_000, asn=4200000001), 0, {3}),  # too long once AS4_PATH stands beside AS_PATH
        (65000, sequences(46_000), 4870, {5}),  # too long once ORIGINATOR_ID and CLUSTER_LIST are there
    ],
)
def test_rfc8654_4_a_block_beyond_all_messages_keeps_nothing_else_from_anybody(
    asn4: int | None, path: AsPath, communities: int, told: set[int]
) -> None:
    core = reflector()
    a, plain = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    extended, long_old = speaks_at_length(core, 3).up(), speaks_at_length(core, 5, asn4=None).up()
    old = SimulatedPeer(core, 4, capabilities={"asn4": None}).up()
    other = SimulatedPeer(core, 6, NON_CLIENT).up()
    peers = (plain, extended, old, long_old, other, external(core, 7, 65100).up())
    source = speaks_at_length(core, 8, asn4=asn4).up()
    block = encode_attributes(
        as_path=path, next_hop=source.next_hop, local_pref=100, communities=range(communities)
    )
    if asn4 is None:
        block = for_old_speaker(block)
    a.announce(P)
    source.say(*encode_updates(V4, block, source.next_hop, [key(LONG)], 65535))
    a.announce(Q)
    settle(*peers)
    assert len(core.ribs[V4].best) == 3
    assert {peer.number for peer in peers if LONG in peer.prefixes} == told
    for peer in peers:
        assert peer.prefixes - {LONG} == {P, Q}
    for peer in peers:  # each group can be joined anew, told everything again, and drained
        peer.down()
        peer.up().turn()
        assert peer.prefixes - {LONG} == {P, Q}
    core.drain()
    settle(*peers)
    for peer in peers:
        assert peer.prefixes - {LONG} == {P, Q}
        assert WellKnownCommunity.GRACEFUL_SHUTDOWN in peer.told(P).communities


@pytest.mark.parametrize("taking", [False, True])
def test_rfc8654_4_an_nlri_that_does_not_fit_keeps_no_shorter_one_back(taking: bool) -> None:
    """Attributes that leave room for a /24 and not for a /32, whatever else is told with them and when."""
    core = reflector()
    source = speaks_at_length(core, 1).up()

    def joins(number: int) -> SimulatedPeer:
        return SimulatedPeer(core, number, options=MemberOptions(CLIENT, 2), takes_paths=taking).up()

    early = joins(2)
    base = encode_attributes(next_hop=source.next_hop, local_pref=100)
    octets = 4096 - 23 - 14 - 4 - len(base) - 4 - (4 if taking else 0)
    block = base + b"\xf0\xc8" + octets.to_bytes(2, "big") + bytes(octets)

    def say(*prefixes: str) -> None:
        items = [key(prefix) for prefix in prefixes]
        source.say(*encode_updates(V4, block, source.next_hop, items, 65535))
        settle(early)

    say(P)
    say("10.8.8.8/32")
    say(Q, "10.9.9.9/32", R)
    assert early.prefixes == {P, Q, R}
    assert joins(3).turn().prefixes == {P, Q, R}
    for group in core.groups:
        group.log.rebase()
    assert joins(4).turn().prefixes == {P, Q, R}


def adding(count: int) -> tuple[CompiledFilter, ...]:
    added = tuple(Community((65001, number)) for number in range(count))
    everything = PrefixMatch(ip_network("0.0.0.0/0"), Operator.IN, 0, 32)
    return (CompiledFilter("some", (Rule("a rule", True, everything, add_communities=added),)),)


def test_filters_that_add_more_than_an_attribute_holds_reject_the_route() -> None:
    core = reflector()
    a, b = speaks_at_length(core, 1).up(), SimulatedPeer(core, 2).up()
    filtering = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, export_filters=adding(80))).up()
    a.announce(P)
    long = encode_attributes(next_hop=a.next_hop, local_pref=100, communities=range(16_350))
    a.say(*encode_updates(V4, long, a.next_hop, [key(LONG)], 65535))
    a.announce(Q)
    settle(b, filtering)
    assert b.prefixes == filtering.prefixes == {P, Q}
    assert core.ribs[V4].best[key(LONG)].ineligible is None
    taking = MemberOptions(CLIENT, import_filters=adding(80))
    a.options = taking
    assert core.change(a.member, taking)  # type: ignore[arg-type]  # it is up
    a.say(*encode_updates(V4, long, a.next_hop, [key(LONG)], 65535))
    a.announce(R)
    settle(b)
    assert b.prefixes == {P, Q, R}
    [path] = core.ribs[V4].candidates(key(LONG))
    assert "the import filter adds too much" in (path.ineligible or "")


@pytest.mark.plain
def test_a_defect_in_one_group_costs_its_readers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    core = reflector()
    a, b, c = (
        SimulatedPeer(core, 1).up(),
        SimulatedPeer(core, 2).up(),
        SimulatedPeer(core, 3, NON_CLIENT).up(),
    )
    x = external(core, 4, 65100).up()
    settle(a, b, c, x)

    def fails(_changes: object) -> None:
        raise RuntimeError("a defect")

    assert c.member is not None
    monkeypatch.setattr(c.member.readings[V4].group, "apply", fails)
    a.announce(P)
    settle(a, b, x)
    assert b.prefixes == x.prefixes == {P}
    assert set(core.defects) == {c.name}
    joined = SimulatedPeer(core, 5, NON_CLIENT).up().turn()
    assert joined.prefixes == {P}
    c.down()
    assert not core.defects
    c.up().turn()
    assert c.prefixes == {P}
    a.announce(Q)
    settle(c, joined)
    assert c.prefixes == joined.prefixes == {P, Q}, "who left the one that failed took no other with it"
