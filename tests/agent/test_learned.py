"""What peers said, and how long it is kept: graceful restart, refresh, fail static."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from agent.exabgp.events import EXABGP_ENDED
from agent.retention import Retention
from bgpd.plan.model import Peering
from bgpd.wire.iana import MessageType, RefreshSubtype, WellKnownCommunity
from bgpd.wire.nlri import IPV4_UNICAST, nlri_of
from tests.agent.telling import ASN, A, B, C, Cluster, P, Q, R, fail_static, peering, synced, unheard


def test_routes_come_and_go() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    assert not synced(cluster)
    cluster.announce(P, A, B)
    cluster.end(P)
    assert synced(cluster)
    assert cluster.routes == {A, B}
    cluster.withdraw(P, A)
    assert cluster.routes == {B}


def test_rfc7606_8_an_update_at_fault_is_told_of_once_in_a_minute() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    origin_7 = bytes.fromhex("400101074002004003040a00000940050400000064")
    body = b"\0\0" + len(origin_7).to_bytes(2, "big") + origin_7 + nlri_of(ip_network(A))
    told = [cluster.learned.message(P, MessageType.UPDATE, body, now) for now in (0.0, 59.0, 60.0)]
    cluster.announce(P, B)
    assert [found is not None for found in told] == [True, False, True]
    assert told[0] is not None
    assert told[0].facts["prefixes"] == [A]
    assert cluster.learned.peers[P].malformed == 3


@pytest.mark.parametrize(("peer", "taken"), [(P, False), ("127.0.0.2", True)])
def test_rfc4271_6_3_only_a_speaker_of_this_machine_has_next_hops_on_it(peer: str, taken: bool) -> None:
    cluster = Cluster(peering(peer))
    cluster.up(peer)
    cluster.announce(peer, A)
    cluster.announce(peer, A, next_hop="127.0.0.1")
    cluster.announce(peer, B, next_hop="127.0.0.1")
    assert cluster.routes == ({A, B} if taken else set())


def test_a_restarting_peers_routes_stay_until_its_end_of_rib_rfc4724_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, B)
    cluster.end(P)
    cluster.down(P)
    cluster.pass_time(60)
    assert cluster.routes == {A, B}
    cluster.up(P)
    cluster.announce(P, A)
    assert cluster.routes == {A, B}
    cluster.end(P)
    assert cluster.routes == {A}


def test_a_peer_that_does_not_come_back_in_time_loses_its_routes() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P)
    cluster.pass_time(119)
    assert cluster.routes == {A}
    cluster.pass_time(2)
    assert cluster.routes == set()


def test_without_graceful_restart_routes_go_with_the_session() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=None)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P)
    assert cluster.routes == set()


@pytest.mark.parametrize("reason", ["notification received (6,2)", "notification sent (6,9)"])
def test_a_notification_ends_graceful_restart_rfc4724_4(reason: str) -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P, reason)
    assert cluster.routes == set()


def test_a_session_that_we_close_without_a_word_is_restarted_gracefully() -> None:
    """In ExaBGP's words, which have "notification" in them."""
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A)
    cluster.down(P, "graceful restarted negotiated, closing without sending any notification")
    assert cluster.routes == {A}


def test_a_peer_that_lost_its_forwarding_state_loses_only_routes_through_itself() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, next_hop=P)
    cluster.announce(P, B, next_hop="10.0.0.77")
    cluster.down(P)
    assert cluster.routes == {A, B}
    cluster.up(P, kept=False)
    assert cluster.routes == {B}
    cluster.end(P)
    assert cluster.routes == set()


@pytest.mark.parametrize("restart", [120, None])
def test_our_own_exabgp_ending_takes_no_route_of_a_peer_that_never_restarted_rfc4724_4_1(
    restart: int | None,
) -> None:
    """FRR as a mere helper sends no forwarding bit: it has lost nothing, we have."""
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=restart)
    cluster.up(Q)
    cluster.announce(P, A, next_hop=P)
    cluster.announce(P, B, next_hop="10.0.0.77")
    cluster.down(P, "ExaBGP ended")
    assert cluster.routes == {A, B}
    cluster.up(P, restart=restart, kept=False)
    assert cluster.routes == {A, B}
    cluster.announce(P, A, next_hop=P)
    cluster.end(P)
    assert cluster.routes == {A}

    cluster.down(P, "ExaBGP ended")
    cluster.pass_time(119)
    assert cluster.routes == {A}
    cluster.pass_time(2)
    assert cluster.routes == set()


def test_an_end_of_rib_that_never_comes_is_not_waited_for_for_ever() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.end(Q)
    cluster.announce(P, A, B)
    cluster.down(P)
    cluster.up(P)
    cluster.announce(P, A)
    cluster.pass_time(29)
    assert not synced(cluster)
    assert cluster.routes == {A, B}
    cluster.pass_time(2)
    assert synced(cluster)
    assert cluster.routes == {A}


def test_fail_static_without_any_session_everything_stays_however_long() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, restart=None)
    cluster.up(Q)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(Q, A, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.down(Q, "notification received (6,2)")
    assert fail_static(cluster)
    cluster.pass_time(100_000)
    assert cluster.routes == {A, B}


def test_fail_static_does_not_keep_routes_through_the_lost_peer_itself() -> None:
    cluster = Cluster(peering(P, 65100))
    cluster.up(P, 65100, restart=None)
    cluster.announce(P, A, next_hop=P, path=(65100,))
    cluster.announce(P, B, next_hop="10.0.0.77", path=(65100,))
    cluster.down(P)
    assert cluster.routes == {B}


def test_fail_static_ends_when_a_session_returns_and_its_word_counts() -> None:
    cluster = Cluster(peering(P), peering(Q))
    for address in (P, Q):
        cluster.up(address)
        cluster.announce(address, A, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.down(Q)
    cluster.pass_time(1000)
    cluster.up(P)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.end(P)
    assert cluster.routes == {A, B}  # Q may yet return
    cluster.pass_time(121)
    assert cluster.routes == {A}


def test_fail_static_reflectors_lost_while_a_router_still_talks() -> None:
    """A top-of-rack router knows nothing of what the reflectors said."""
    cluster = Cluster(peering(P), peering(Q), peering(R, 65100))
    for address, asn in ((P, ASN), (Q, ASN), (R, 65100)):
        cluster.up(address, asn)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(R, B, next_hop=R, path=(65100,))
    cluster.down(P)
    cluster.down(Q)
    cluster.pass_time(100_000)
    assert fail_static(cluster)
    assert cluster.routes == {A, B}
    cluster.withdraw(R, B)
    assert cluster.routes == {A}
    cluster.down(R)
    cluster.up(R, 65100)
    cluster.end(R)
    cluster.pass_time(1000)
    assert cluster.routes == {A}  # a router's return does not end the reflectors' absence
    cluster.up(Q)
    cluster.end(Q)
    cluster.pass_time(121)
    assert not fail_static(cluster)
    assert cluster.routes == set()


def test_routers_lost_while_reflectors_talk_have_their_restart_time_only() -> None:
    cluster = Cluster(peering(P), peering(R, 65100))
    cluster.up(P)
    cluster.up(R, 65100)
    cluster.announce(R, A, next_hop="10.0.0.77", path=(65100,))
    cluster.down(R)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_when_reflectors_lost_expire_the_restart_time_decides() -> None:
    cluster = Cluster(peering(P), keep=False)
    cluster.up(P)
    cluster.announce(P, A)
    cluster.down(P)
    assert not fail_static(cluster)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_when_reflectors_lost_may_be_declared_afterwards() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    cluster.announce(P, A)
    cluster.down(P)
    cluster.pass_time(10_000)
    cluster.learned.bounds = dataclasses.replace(cluster.learned.bounds, keep_when_lost=False)
    cluster.pass_time(1)
    assert cluster.routes == {A}
    cluster.pass_time(121)
    assert cluster.routes == set()


def test_long_lived_stale_routes_are_the_last_choice_and_go_in_the_end_rfc9494_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, long_lived=3600)
    cluster.up(Q)
    cluster.announce(P, A, B, next_hop="10.0.0.77")
    cluster.announce(P, C, communities=(WellKnownCommunity.NO_LLGR,))
    cluster.down(P)
    cluster.pass_time(121)
    assert cluster.routes == {A, B}
    cluster.announce(Q, A, next_hop="10.0.0.99", path=(1, 2, 3))
    assert cluster.routes == {A, B}
    a = nlri_of(ip_network(A))
    assert cluster.learned.next_hops(IPV4_UNICAST, a) == (IPv4Address("10.0.0.99").packed,)
    assert cluster.learned.next_timer() == 120 + 3600
    cluster.pass_time(3600)
    assert cluster.routes == {A}


def test_long_lived_stale_routes_are_ordinary_again_when_repeated_rfc9494_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, long_lived=3600)
    cluster.up(Q)
    cluster.announce(P, A, B)
    cluster.down(P)
    cluster.pass_time(121)
    cluster.up(P, long_lived=3600)
    cluster.announce(P, A)
    cluster.end(P)
    assert cluster.routes == {A}
    [path] = cluster.learned.ribs[IPV4_UNICAST].candidates(nlri_of(ip_network(A)))
    assert not path.long_lived_stale
    cluster.pass_time(10_000)
    assert cluster.routes == {A}


def test_a_loss_before_end_of_rib_begins_no_other_long_lived_time_rfc9494_4_2() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P, long_lived=300)
    cluster.up(Q)
    cluster.announce(P, A, B)
    cluster.end(P)
    cluster.down(P)
    cluster.pass_time(121)
    for _ in range(2):
        cluster.up(P, long_lived=300)
        cluster.announce(P, A)
        cluster.pass_time(10)
        cluster.down(P)
        assert cluster.routes == {A, B}
        cluster.pass_time(121)
    assert cluster.routes == {A, B}
    assert cluster.learned.next_timer() == 120 + 300
    cluster.pass_time(420 - cluster.now)
    assert not cluster.routes


def restarted(before: Cluster, *peerings: Peering, directory: Path, seconds: float = 0) -> Cluster:
    """The next agent, so many seconds after the last word of the former."""
    Retention(directory / "retained.json").note(before.learned.retained())
    cluster = Cluster(*peerings)
    cluster.now = before.now + seconds
    cluster.learned.recall(Retention(directory / "retained.json").recall(), cluster.now)
    return cluster


def recalling_for(cluster: Cluster, most: int = 100_000) -> int:
    """After how many seconds nobody of a former life is waited for any more, up to ``most``."""
    begun = cluster.now
    while cluster.learned.recalling and cluster.now < begun + most:
        cluster.pass_time(1)
    return round(cluster.now - begun)


def test_what_is_left_of_a_peers_time_is_left_to_it_by_the_next_agent(tmp_path: Path) -> None:
    peers = peering(P), peering(Q)
    cluster = Cluster(*peers)
    cluster.up(P, long_lived=3600)
    cluster.up(Q, restart=None)
    unseen = restarted(cluster, *peers, directory=tmp_path, seconds=50)
    unseen.up(Q)
    unseen.end(Q)
    assert recalling_for(unseen) == 120 + 3600
    cluster.down(P)
    cluster.pass_time(100)
    for twice in (False, True):
        again = restarted(cluster, *peers, directory=tmp_path, seconds=5)
        again = restarted(again, *peers, directory=tmp_path) if twice else again
        again.up(Q)
        again.end(Q)
        assert recalling_for(again) == 3620 - 5
    cluster.pass_time(100)
    again = restarted(cluster, *peers, directory=tmp_path)
    again.up(Q)
    again.end(Q)
    again.up(P)
    assert again.learned.recalling
    again.end(P)
    assert not again.learned.recalling


def test_without_a_promise_the_next_agent_waits_for_nobody(tmp_path: Path) -> None:
    peers = peering(P), peering(Q), peering(R)
    cluster = Cluster(*peers)
    cluster.up(P, restart=None)
    cluster.up(Q)
    cluster.up(R)
    cluster.down(R, "notification received (6,2)")
    cluster.learned.tick(cluster.now)
    again = restarted(cluster, peering(P), peering(R), directory=tmp_path)
    assert not again.learned.recalling


def test_without_reflectors_the_next_agent_knows_when_all_time_is_over_where_that_decides(
    tmp_path: Path,
) -> None:
    for keep in (False, True):
        cluster = Cluster(peering(P), peering(Q), keep=keep)
        cluster.up(P)
        cluster.up(Q, restart=None)
        again = restarted(cluster, peering(P), peering(Q), directory=tmp_path)
        again.learned.bounds = cluster.learned.bounds
        again.pass_time(119)
        assert unheard(again)
        again.pass_time(1)
        assert unheard(again) == keep
    unknown = Cluster(peering(P), keep=False)
    unknown.pass_time(5000)
    assert unheard(unknown), "nobody ever said how long"


def test_all_reflectors_lost_over_a_restart_one_that_returns_gives_the_others_time(tmp_path: Path) -> None:
    peers = peering(P), peering(Q)
    cluster = Cluster(*peers)
    cluster.up(P)
    cluster.up(Q)
    cluster.down(P)
    cluster.down(Q)
    cluster.pass_time(5000)
    again = restarted(cluster, *peers, directory=tmp_path, seconds=5000)
    again.pass_time(1)
    again.up(Q)
    again.end(Q)
    assert recalling_for(again) == 120


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"peers": {"P": 1}}'])
def test_a_note_that_cannot_be_read_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "retained.json").write_text(text)
    assert Retention(tmp_path / "retained.json").recall() == {}


def test_nor_does_one_that_was_whole_in_another_boot(tmp_path: Path) -> None:
    cluster, path = Cluster(peering(P)), tmp_path / "retained.json"
    cluster.up(P)
    Retention(path).note(cluster.learned.retained())
    assert Retention(path).recall()
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot": "another"}))
    assert Retention(path).recall() == {}


def test_a_note_that_cannot_be_written_leaves_the_former_one(tmp_path: Path) -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    retention = Retention(tmp_path / "retained.json")
    retention.note(cluster.learned.retained())
    before = retention.recall()
    (tmp_path / "retained.json.new").mkdir()  # no draft can be made
    cluster.down(P)
    retention.note(cluster.learned.retained())
    assert retention.recall() == before
    (tmp_path / "retained.json.new").rmdir()
    retention.note(cluster.learned.retained())
    assert retention.recall() == cluster.learned.retained()


def test_a_node_known_dead_loses_its_stale_routes_at_once_and_only_those() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.up(Q)
    cluster.announce(P, A, next_hop="10.0.0.77")
    cluster.announce(Q, B, next_hop="10.0.0.77")
    cluster.down(P)
    cluster.learned.dead([IPv4Address("10.0.0.77").packed])
    assert cluster.routes == {B}  # Q lives, and vouches for it


def test_a_session_adopted_is_asked_again_and_what_is_not_repeated_goes() -> None:
    cluster = Cluster(peering(P))
    cluster.up(P)
    cluster.announce(P, A, B)
    cluster.end(P)
    cluster.up(P, adopted=True)
    assert not synced(cluster)
    cluster.refresh(P, 1)
    cluster.announce(P, A)
    cluster.refresh(P, 2)
    assert synced(cluster)
    assert cluster.routes == {A}


def test_an_end_of_what_was_begun_before_we_came_is_no_end_rfc7313_4() -> None:
    """The peer was telling its table, or answering a refresh, when the last agent died."""
    cluster = Cluster(peering(P))
    for ended in (partial(cluster.end, P), partial(cluster.refresh, P, RefreshSubtype.END)):
        cluster.up(P, adopted=True)
        cluster.announce(P, B)
        ended()
        assert not synced(cluster)
        cluster.refresh(P, RefreshSubtype.BEGIN)
        cluster.announce(P, A, B)
        assert not synced(cluster)
        cluster.refresh(P, RefreshSubtype.END)
        assert synced(cluster)
        assert cluster.routes == {A, B}
    cluster.up(P, adopted=True)
    cluster.end(P)
    assert synced(cluster), "it has nothing to repeat"
    assert cluster.routes == set()


def test_a_large_table_is_waited_for_as_long_as_it_keeps_coming() -> None:
    """A peer that cannot say where it ends has told all once it is quiet; one that can, when it says so."""
    cluster = Cluster(peering("10.0.0.2"))
    cluster.up("10.0.0.2", adopted=True, refresh=False)
    for n in range(7):
        cluster.announce("10.0.0.2", f"10.1.{n}.0/24")
        cluster.pass_time(4.0)
        assert not synced(cluster)
    cluster.pass_time(4.0)
    assert synced(cluster), "syncWait is the end of it"
    cluster.up("10.0.0.2", adopted=True, refresh=False)
    cluster.announce("10.0.0.2", "10.1.0.0/24")
    cluster.pass_time(6.0)
    assert synced(cluster)
    assert cluster.routes == {"10.1.0.0/24"}
    cluster.up("10.0.0.2", adopted=True)
    cluster.refresh("10.0.0.2", RefreshSubtype.BEGIN)
    cluster.pass_time(20.0)
    assert not synced(cluster)
    cluster.refresh("10.0.0.2", RefreshSubtype.END)
    assert synced(cluster)


def test_who_is_left_can_tell_everything_or_not() -> None:
    """A router of another AS knows nothing of what the reflectors told, and they know all it did."""
    for keep in (True, False):
        cluster = Cluster(peering("10.0.0.2"), peering("10.0.0.3"), peering("10.0.0.9", 65100), keep=keep)
        assert unheard(cluster)
        cluster.up("10.0.0.9", 65100)
        assert unheard(cluster) == keep
        cluster.up("10.0.0.2")
        assert not unheard(cluster)
        cluster.down("10.0.0.9")
        assert not unheard(cluster)
    assert not unheard(Cluster())


def test_a_peer_no_longer_planned_takes_its_routes_along() -> None:
    cluster = Cluster(peering(P), peering(Q))
    cluster.up(P)
    cluster.announce(P, A)
    cluster.learned.configure([peering(Q)])
    assert cluster.routes == set()


def test_after_our_own_restart_who_comes_first_shortens_nobody_elses_time_rfc4724_4_1() -> None:
    """All sessions went with our ExaBGP; one may take longer to connect again than it would need itself."""
    cluster = Cluster(peering(P, graceful_restart=120), peering(Q, graceful_restart=120))
    for address, prefix in ((P, A), (Q, B)):
        cluster.up(address, restart=4)
        cluster.announce(address, prefix)
        cluster.end(address)
    cluster.down(P, EXABGP_ENDED)
    cluster.down(Q, EXABGP_ENDED)
    cluster.up(P, restart=4)
    cluster.announce(P, A)
    cluster.end(P)
    cluster.pass_time(119)
    assert cluster.routes == {A, B}
    cluster.pass_time(1)
    assert cluster.routes == {A}
