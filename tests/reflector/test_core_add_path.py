"""Several paths of a prefix (RFC 7911), to a peer and from it."""

from dataclasses import replace

import pytest

from bgpd.rib import decision
from bgpd.rib.path import Cost, Path, SourceKind
from bgpd.wire.attributes import encode_attributes
from bgpd.wire.capabilities import AddPath
from bgpd.wire.iana import RefreshSubtype
from bgpd.wire.update import encode_updates
from reflector.member import MemberOptions
from tests.reflector.simulated import (
    BOTH,
    V4,
    V6,
    SimulatedPeer,
    adds_path,
    graceful,
    key,
    reflector,
    settle,
)

CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
P, Q, R = "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
P6 = "2001:db8:1::/48"


def test_rfc7911_every_path_of_a_prefix_and_withdraw_exactly_one() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1, sends_paths=True).up()
    b = SimulatedPeer(core, 2).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    plain = SimulatedPeer(core, 4).up()
    for path_id in (1, 2, 3):
        a.announce(P, path_id=path_id, med=path_id)
    b.announce(P, med=9)
    settle(c, plain)
    assert sorted(path.med or 0 for path in c.paths(P)) == [1, 2, 3]
    assert plain.told(P).med == 1
    a.withdraw(P, path_id=2)
    settle(c, plain)
    assert sorted(path.med or 0 for path in c.paths(P)) == [1, 3, 9]
    a.down()
    settle(c, plain)
    assert [path.med for path in c.paths(P)] == [9]
    assert plain.told(P).med == 9


def test_only_families_with_path_identifiers_are_limited_in_paths() -> None:
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=2)
    a = SimulatedPeer(core, 1, options=options, capabilities={"add_path": adds_path(AddPath.SEND, V4)})
    a.ours["add_path"] = adds_path(AddPath.RECEIVE)
    alike = {"2001:db8:1::/48", "2001:eb8:1::/48", "2001:fb8:1::/48"}  # but for their first octets
    block = encode_attributes(local_pref=100)
    a.up().say(*encode_updates(V6, block, a.next_hop6, [key(prefix) for prefix in alike]))
    b = SimulatedPeer(core, 2).up()
    settle(b)
    assert b.prefixes == alike
    assert not core.paths_refused


def test_thousands_of_paths_of_one_prefix_are_not_put_in_order_for_the_sake_of_two() -> None:
    core = reflector()
    a = SimulatedPeer(core, 1, options=MemberOptions(CLIENT, path_limit=4000), sends_paths=True).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=2), takes_paths=True).up()
    for path_id in range(1, 3000):
        a.announce(P, path_id=path_id, med=path_id % 1500)
    calls = 0
    real = decision.best

    def counted(paths: list[Path], cost: Cost | None = None) -> Path | None:
        nonlocal calls
        calls += 1
        return real(paths, cost)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision, "best", counted)
        settle(c)
    assert [path.med for path in c.paths(P)] == [0, 1]
    assert calls < 10


def test_path_identifiers_do_not_add_up() -> None:
    core = reflector()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    for number in range(60):
        a = SimulatedPeer(core, 1, sends_paths=True).up()
        for path_id in range(number * 10, number * 10 + 10):
            a.announce(P, path_id=path_id)
            settle(c)
            a.withdraw(P, path_id=path_id)
        a.announce(P, path_id=7)
        settle(c)
        assert len(c.paths(P)) == 1
        a.down()
        settle(c)
        assert not c.prefixes
    assert len(core.groups._identifiers[V4]) == 0
    assert len(core.groups._identifiers[V4]._uses) < 10


def test_prefixes_in_a_row_with_the_same_paths_are_each_told_for_themselves() -> None:
    core = reflector()
    a, b = SimulatedPeer(core, 1).up(), SimulatedPeer(core, 2).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()

    def told() -> list[list[int]]:
        settle(c)
        return [sorted(path.med or 0 for path in c.paths(prefix)) for prefix in (P, Q, R)]

    a.announce(P, Q, R, med=1)
    b.announce(P, Q, R, med=2)
    assert told() == [[1, 2], [1, 2], [1, 2]]
    b.withdraw(Q)
    a.announce(P, R, med=3)
    assert told() == [[2, 3], [1], [2, 3]]
    a.down()
    assert told() == [[2], [], [2]]
    b.withdraw(P, R)
    assert told() == [[], [], []]
    assert len(core.groups._identifiers[V4]) == 0


def test_groups_share_identifiers_also_where_the_first_began_with_nothing_to_tell() -> None:
    """A peer that comes under another policy is told the difference: an identifier means the same in both."""
    core = reflector()
    options = MemberOptions(CLIENT, add_path_limit=2)
    c = SimulatedPeer(core, 3, options=options, takes_paths=True).up()
    b = SimulatedPeer(core, 2).up()
    settle(c)
    b.announce(P)
    settle(c)
    c.announce(P, local_pref=200)
    settle(c)
    assert c.member is not None
    core.change(c.member, replace(options, add_path_limit=3))
    settle(c)
    assert len(c.paths(P)) == 1
    b.withdraw(P)
    settle(c)
    assert not c.prefixes


def test_an_identifier_stays_with_its_path_when_that_moves_to_another_prefix_within_a_turn() -> None:
    """The one is told first that it goes; the other must not be told under what is nobody's by then."""
    core = reflector()
    a = SimulatedPeer(core, 1, sends_paths=True).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=3), takes_paths=True).up()
    a.announce(P, path_id=1)
    settle(c)
    before = {item[:4] for item in c.view[V4]}
    a.withdraw(P, path_id=1)
    a.announce(Q, path_id=1)
    a.announce(R, path_id=2)
    settle(c)
    assert len(c.paths(Q)) == len(c.paths(R)) == 1
    assert not c.paths(P)
    assert len({item[:4] for item in c.view[V4]}) == 2
    assert before < {item[:4] for item in c.view[V4]}
    a.withdraw(Q, path_id=1)
    a.withdraw(R, path_id=2)
    settle(c)
    assert not c.prefixes
    assert len(core.groups._identifiers[V4]) == 0


def test_rfc7911_3_identifiers_we_send_are_our_own_and_stay_with_their_path() -> None:
    """Two peers use the same one for one prefix: whoever hears of both is told two, and which one is gone."""
    core = reflector()
    a, b = SimulatedPeer(core, 1, sends_paths=True).up(), SimulatedPeer(core, 2, sends_paths=True).up()
    c = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=4), takes_paths=True).up()
    a.announce(P, path_id=7, med=1)
    b.announce(P, path_id=7, med=2)
    settle(c)

    def told() -> dict[int | None, bytes]:
        return {each.attributes.med: item[:4] for item, each in c.view[V4].items()}

    before = told()
    assert set(before) == {1, 2}
    assert before[1] != before[2]
    b.announce(P, path_id=7, med=3)
    settle(c)
    assert told() == {1: before[1], 3: before[2]}, "the same path with other attributes"
    a.withdraw(P, path_id=7)
    settle(c)
    assert told() == {3: before[2]}


def test_of_one_prefix_a_peer_has_so_many_paths_and_no_more() -> None:
    """Known ones may change, other prefixes come; once there is room the peer is to be asked again."""
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=3)
    a = SimulatedPeer(core, 1, options=options, sends_paths=True).up()
    other = SimulatedPeer(core, 2, options=options, sends_paths=True).up()
    b = SimulatedPeer(core, 3, options=MemberOptions(CLIENT, add_path_limit=64), takes_paths=True).up()
    next_hop = a.next_hop
    flood = [number.to_bytes(4, "big") + key(P) for number in range(10_000)]
    a.say(*encode_updates(V4, encode_attributes(next_hop=next_hop, local_pref=100), next_hop, flood, 4096))
    for path_id in range(3):
        other.announce(P, path_id=path_id)
    settle(b)
    assert len(core.ribs[V4].candidates(key(P))) == len(b.paths(P)) == 6
    assert core.paths_refused == 9_997
    assert a.member is not None
    assert not a.member.wanted_again
    a.announce(P, path_id=2, med=5)
    a.announce(Q, path_id=9_000)
    settle(b)
    assert [told.med for told in b.paths(P)].count(5) == 1
    assert Q in b.prefixes
    a.withdraw(P, path_id=0)
    assert a.member.wanted_again == {V4}
    a.announce(P, P6, path_id=77)
    a.announce(P, path_id=78)
    settle(b)
    assert len(b.paths(P)) == 6
    assert core.paths_refused == 9_998


def test_paths_of_before_a_restart_do_not_count() -> None:
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=2)
    a = SimulatedPeer(core, 1, options=options, sends_paths=True)
    a.capabilities["graceful_restart"] = a.ours["graceful_restart"] = graceful()
    a.up()
    for path_id in (1, 2):
        a.announce(P, path_id=path_id)
    a.down(1.0, BOTH)
    a.up(2.0)
    for path_id in (3, 4, 5):
        a.announce(P, path_id=path_id)
    a.end_of_rib()
    assert {path.path_id for path in core.ribs[V4].candidates(key(P))} == {3, 4}
    assert core.paths_refused == 1


def test_no_refresh_and_no_restart_gets_a_peer_more_paths_than_it_may_have() -> None:
    """Those of before a restart count when it says them again; those of before a refresh always do."""
    core = reflector()
    options = MemberOptions(CLIENT, path_limit=2)
    a = SimulatedPeer(
        core, 1, options=options, capabilities={"graceful_restart": graceful()}, sends_paths=True
    )
    a.ours["graceful_restart"] = graceful()
    a.up()
    a.end_of_rib()
    said, kept = [1, 2], {1, 2}
    for path_id in said:
        a.announce(P, path_id=path_id, med=path_id)
    for number in range(6):
        said = [10 * number + 10, 10 * number + 11, *said]
        if number % 2:
            a.down(retain=BOTH)
            a.up()
            kept = set(said[:2])
        else:
            a.refresh(RefreshSubtype.BEGIN)  # and no end of it
        for path_id in said:
            a.announce(P, path_id=path_id, med=path_id)
        if number % 2:
            a.end_of_rib()
        core.flush()
        assert {path.path_id for path in core.ribs[V4].candidates(key(P))} == kept


def test_what_a_refresh_did_not_confirm_makes_room_for_what_was_not_taken_in() -> None:
    """The peer is asked again, as after a withdrawal; once, for the answer finds everything as it is."""
    core = reflector()
    a = SimulatedPeer(core, 1, options=MemberOptions(CLIENT, path_limit=2), sends_paths=True).up()
    assert a.member is not None
    for path_id in (1, 2):
        a.announce(P, path_id=path_id)
    for again in (True, False):
        a.refresh(RefreshSubtype.BEGIN)
        for path_id in (3, 4, 5):
            a.announce(P, path_id=path_id)
        a.refresh(RefreshSubtype.END)
        assert a.member.wanted_again == ({V4} if again else set())
        assert len(core.ribs[V4].candidates(key(P))) == (0 if again else 2)
        a.member.wanted_again.clear()
        if again:
            for path_id in (3, 4, 5):
                a.announce(P, path_id=path_id)
