"""The Adj-RIB-Out by itself, and against a model of ExaBGP's queue."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.exabgp.adj_rib_out import Command, Outbox, Purpose
from tests.agent.exabgp_queue import ATTRIBUTES, FAMILIES, PREFIXES, ExaBGP, answered, deliver, drive, settle


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(20, 300), st.integers(1, 3), st.booleans())
def test_at_rest_every_peer_has_exactly_what_it_shall_have(
    seed: int, peers: int, operations: int, window: int, flapping: bool
) -> None:
    random = Random(seed)
    addresses = tuple(f"192.0.2.{n}" for n in range(peers))
    outbox, exabgp = Outbox(window=window, limit=3), ExaBGP(addresses, random)
    prefixes, clauses = PREFIXES[: random.randint(2, 5)], ATTRIBUTES[: random.randint(2, 3)]
    for address in addresses:
        exabgp.flap(address)
    for _ in range(operations):
        match random.randrange(9):
            case 8:
                exabgp.ask_again(random.choice(addresses))
            case 0 | 1 | 2:
                attributes = random.choice((None, *clauses))
                outbox.peer(random.choice(addresses)).want(random.choice(prefixes), attributes)
            case 3:
                exabgp.commands.extend(outbox.commands())
            case 4:
                exabgp.process_command()
            case 5:
                exabgp.turn()
            case 6:
                deliver(outbox, exabgp, random.randrange(4))
            case 7:
                if flapping and random.random() < 0.4:
                    address = random.choice(addresses)
                    for _ in range(random.choice((1, 2))):
                        exabgp.flap(address)
    for address in addresses:
        if not exabgp.peers[address].up:
            exabgp.flap(address)
    settle(outbox, exabgp)
    for address in addresses:
        assert exabgp.peers[address].view == outbox.peer(address).wanted
        assert outbox.peer(address).in_sync


def test_the_model_reorders_what_is_sent_naively() -> None:
    """The model can fail: without the barrier, ExaBGP's order leaves the older route at the peer."""
    exabgp = ExaBGP(("192.0.2.1",), Random(1))
    exabgp.flap("192.0.2.1")
    for attributes in ("med 0", "med 4", "med 0"):
        exabgp.commands.append(Command("", Purpose.ROUTES, ("192.0.2.1",), ("10.0.0.0/26",), attributes))
        exabgp.process_command()
    for _ in range(9):
        exabgp.turn()
    assert exabgp.peers["192.0.2.1"].cache == {"10.0.0.0/26": "med 0"}
    assert exabgp.peers["192.0.2.1"].view == {"10.0.0.0/26": "med 4"}


@pytest.mark.parametrize("restarted", [True, False])
def test_a_peer_that_went_down_is_told_nothing_and_one_of_another_exabgp_everything(restarted: bool) -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1").want("10.0.0.0/26", "next-hop self")
    outbox.session_up("192.0.2.1", FAMILIES)
    announcement = drive(outbox)
    if restarted:
        outbox.restarted()
        assert outbox.oldest is None
    else:
        outbox.acknowledged(True)
        outbox.session_down("192.0.2.1")
    outbox.peer("192.0.2.1").want("10.0.1.0/26", "next-hop self med 4")
    assert drive(outbox) == []
    outbox.session_up("192.0.2.1", FAMILIES)
    assert (announcement[0] in drive(outbox)) == restarted


def test_a_peer_that_is_not_up_or_awaits_a_barrier_is_left_out_and_holds_up_nobody() -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1")
    for address in ("192.0.2.2", "192.0.2.3"):
        outbox.session_up(address, FAMILIES[:1])
    for address in ("192.0.2.2", "192.0.2.3"):
        assert drive(outbox) == [f"neighbor {address} announce eor ipv4 unicast"]
        outbox.acknowledged(True)
    outbox.end_of_rib_sent("192.0.2.3")
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        outbox.peer(address).want("10.0.0.0/26", "next-hop self")
    assert drive(outbox) == ["neighbor 192.0.2.3 announce attributes next-hop self nlri 10.0.0.0/26"]
    outbox.end_of_rib_sent("192.0.2.2")
    assert drive(outbox) == ["neighbor 192.0.2.2 announce attributes next-hop self nlri 10.0.0.0/26"]


def test_a_wish_that_changes_before_it_is_sent_leaves_no_trace() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    answered(outbox)
    for n, attributes in enumerate(ATTRIBUTES):
        peer.want("10.0.0.0/26", attributes)
        if n == 0:
            assert len(drive(outbox)) == 1
            peer.want("10.0.0.0/26", None)
            outbox.acknowledged(True)
            assert [line.split()[3] for line in drive(outbox)] == ["eor"]
            outbox.acknowledged(True)
            outbox.end_of_rib_sent("192.0.2.1")
    assert drive(outbox) == ["neighbor 192.0.2.1 announce attributes next-hop self med 9 nlri 10.0.0.0/26"]


def test_an_end_of_rib_that_is_refused_is_not_commanded_again_before_the_session_is() -> None:
    outbox = Outbox()
    outbox.session_up("192.0.2.1", FAMILIES)
    assert len(drive(outbox)) == 1
    assert outbox.acknowledged(False) is None
    assert drive(outbox) == []
    outbox.session_up("192.0.2.1", FAMILIES)
    assert len(drive(outbox)) == 1


def test_an_end_of_rib_that_did_not_leave_with_its_session_is_commanded_in_the_next() -> None:
    outbox = Outbox()
    for _ in range(2):
        outbox.session_up("192.0.2.1", FAMILIES)
        assert drive(outbox) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]
        outbox.acknowledged(True)
        outbox.session_down("192.0.2.1")


def test_nothing_is_sent_to_a_peer_that_is_not_up() -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1").want("10.0.0.0/26", "next-hop self")
    assert drive(outbox) == []
    outbox.session_up("192.0.2.1", FAMILIES)
    assert drive(outbox) == ["neighbor 192.0.2.1 announce attributes next-hop self nlri 10.0.0.0/26"]


def test_the_full_set_goes_before_one_end_of_rib_per_family() -> None:
    outbox = Outbox()
    for n in range(3):
        outbox.peer("192.0.2.1").want(f"10.0.{n}.0/24", f"next-hop self med {n}")
    outbox.session_up("192.0.2.1", FAMILIES)
    lines = []
    for _ in range(9):
        for command in list(outbox.commands()):
            lines.append(command.text)
            outbox.acknowledged(True)
            if command.purpose is Purpose.END_OF_RIB:
                outbox.end_of_rib_sent("192.0.2.1")
    assert [" ".join(line.split()[2:4]) for line in lines] == ["announce attributes"] * 3 + [
        "announce eor"
    ] * 2
    assert lines[3].endswith("eor ipv4 unicast")
    assert lines[4].endswith("eor ipv6 unicast")


def test_a_change_of_a_route_in_flight_waits_for_the_barrier_and_others_do_not() -> None:
    outbox = Outbox(window=2)
    peer = outbox.peer("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    assert drive(outbox) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]
    outbox.acknowledged(True)
    outbox.end_of_rib_sent("192.0.2.1")
    peer.want("10.0.0.0/26", "next-hop self")
    assert len(drive(outbox)) == 1
    peer.want("10.0.0.0/26", "next-hop self med 4")
    peer.want("10.0.1.0/26", "next-hop self")
    assert drive(outbox) == ["neighbor 192.0.2.1 announce attributes next-hop self nlri 10.0.1.0/26"]
    assert drive(outbox) == []
    outbox.acknowledged(True)
    assert drive(outbox) == []  # one acknowledgement is missing
    outbox.acknowledged(True)
    assert drive(outbox) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]
    outbox.end_of_rib_sent("192.0.2.1")  # of before: its acknowledgement has not come
    assert drive(outbox) == []
    outbox.acknowledged(True)
    assert drive(outbox) == []
    outbox.end_of_rib_sent("192.0.2.1")
    assert drive(outbox) == ["neighbor 192.0.2.1 announce attributes next-hop self med 4 nlri 10.0.0.0/26"]


def test_what_was_seen_to_leave_changes_again_without_a_barrier() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    drive(outbox)
    outbox.acknowledged(True)
    outbox.end_of_rib_sent("192.0.2.1")

    def change(attributes: str | None) -> list[str]:
        peer.want("10.0.0.0/26", attributes)
        return drive(outbox)

    def leaves() -> None:
        outbox.acknowledged(True)
        outbox.sent("192.0.2.1", ["10.0.0.0/26"])

    withdraw = "neighbor 192.0.2.1 withdraw attributes nlri 10.0.0.0/26"
    assert len(change("next-hop self")) == 1
    assert change(None) == []  # not seen to leave yet
    leaves()
    assert drive(outbox) == [withdraw]
    leaves()
    assert len(change("next-hop self")) == 1
    outbox.refresh_asked("192.0.2.1")
    leaves()  # or only its repetition
    assert change(None) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]
    outbox.sent("192.0.2.1", ["10.0.0.0/26"])
    assert drive(outbox) == []
    outbox.acknowledged(True)
    outbox.end_of_rib_sent("192.0.2.1")
    assert drive(outbox) == [withdraw]
    assert peer.updates == 6


def test_a_peer_that_asks_again_is_told_the_end_of_nothing_too() -> None:
    outbox, exabgp = Outbox(), ExaBGP(("192.0.2.1",), Random(1))
    exabgp.flap("192.0.2.1")
    settle(outbox, exabgp)
    exabgp.ask_again("192.0.2.1")
    deliver(outbox, exabgp, 1)
    lines = []
    while not outbox.settled:
        for command in list(outbox.commands()):
            lines.append(command.text)
            exabgp.commands.append(command)
        exabgp.process_command()
        exabgp.turn()
        deliver(outbox, exabgp, 2)
    assert lines == [f"neighbor 192.0.2.1 announce eor {family}" for family in FAMILIES]


def test_peers_that_shall_have_the_same_share_a_line() -> None:
    outbox = Outbox()
    for address in ("192.0.2.1", "192.0.2.2"):
        outbox.session_up(address, FAMILIES)
        outbox.peer(address).want("10.0.0.0/26", "next-hop self")
    assert drive(outbox) == [
        "neighbor 192.0.2.1 , neighbor 192.0.2.2 announce attributes next-hop self nlri 10.0.0.0/26"
    ]


def test_the_families_of_the_session_bound_what_is_sent() -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1").want("2001:db8::/64", "next-hop 2001:db8::1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    outbox.peer("192.0.2.1").want("2001:db8:1::/64", "next-hop 2001:db8::1")
    assert drive(outbox) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]


def test_a_session_of_no_family_is_told_nothing() -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1").want("10.0.0.0/26", "next-hop self")
    outbox.session_up("192.0.2.1", FAMILIES)
    assert len(drive(outbox)) == 1
    outbox.session_down("192.0.2.1")
    outbox.session_up("192.0.2.1", ())
    outbox.acknowledged(True)
    assert drive(outbox) == []


def withdrawn(lines: list[str]) -> set[str]:
    return {prefix for line in lines if "withdraw" in line for prefix in line.split(" nlri ")[1].split()}


def test_spared_addresses_of_a_former_agent_are_withdrawn_only_when_they_are_not() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    peer.want("10.0.0.4/32", "next-hop self")
    taken_over, addresses = "10.0.0.3/32", ["10.0.0.1/32", "10.0.0.2/32", "2001:db8::1/128"]
    peer.adopt([taken_over, "10.0.9.0/26", "2001:db8::/64", *addresses, "10.0.0.4/32"])
    outbox.session_up("192.0.2.1", FAMILIES)
    peer.spare([taken_over])
    assert withdrawn(answered(outbox)) == {taken_over, "10.0.9.0/26", "2001:db8::/64"}
    peer.spare(None)
    assert withdrawn(answered(outbox)) == {*addresses}


def test_adopted_routes_nobody_wants_are_withdrawn_behind_a_barrier() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    peer.want("10.0.0.0/26", "next-hop self")
    peer.adopt(["10.0.0.0/26", "10.0.9.0/26"])
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    lines = []
    for _ in range(5):
        for command in list(outbox.commands()):
            lines.append(command.text.split(" ", 2)[2])
            outbox.acknowledged(True)
            if command.purpose is Purpose.END_OF_RIB:
                outbox.end_of_rib_sent("192.0.2.1")
    assert lines[0] == "announce eor ipv4 unicast"
    assert sorted(lines[1:3]) == [
        "announce attributes next-hop self nlri 10.0.0.0/26",
        "withdraw attributes nlri 10.0.9.0/26",
    ]


def test_a_route_whose_withdrawal_a_former_agent_commanded_and_exabgp_has_yet_to_send_is_told_again() -> None:
    """It is not in ExaBGP's cache any more; what is told now may leave before that withdrawal."""
    former, exabgp = Outbox(), ExaBGP(("192.0.2.1",), Random(1))
    exabgp.flap("192.0.2.1")
    former.peer("192.0.2.1").want("10.0.0.0/24", "med 4")
    settle(former, exabgp)
    former.peer("192.0.2.1").confirm()
    settle(former, exabgp)
    for prefix, attributes in (("10.0.1.0/24", "med 4"), ("10.0.0.0/24", None)):
        former.peer("192.0.2.1").want(prefix, attributes)
        exabgp.commands.extend(former.commands())
        exabgp.process_command()
    exabgp.events.clear()
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    peer.adopt(exabgp.peers["192.0.2.1"].cache)
    for prefix in ("10.0.0.0/24", "10.0.1.0/24"):
        peer.want(prefix, "med 4")
    outbox.session_up("192.0.2.1", FAMILIES)
    settle(outbox, exabgp)
    assert exabgp.peers["192.0.2.1"].view == {"10.0.0.0/24": "med 4", "10.0.1.0/24": "med 4"}


def test_a_refused_route_is_reported_once_and_does_not_stop_the_rest() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    peer.want("10.0.0.0/26", "nonsense")
    drive(outbox)
    refused = outbox.acknowledged(False)
    assert refused is not None
    assert refused.routes == ("10.0.0.0/26",)
    peer.want("10.0.1.0/26", "next-hop self")
    assert drive(outbox) == ["neighbor 192.0.2.1 announce attributes next-hop self nlri 10.0.1.0/26"]
    outbox.acknowledged(True)
    outbox.session_down("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    assert answered(outbox) == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]


def test_what_replaces_a_route_whose_refusal_is_still_to_come_is_told_whatever_happens_meanwhile() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    peer.want("10.0.0.0/26", "nonsense")
    drive(outbox)
    peer.want("10.0.0.0/26", "next-hop self")
    outbox.acknowledged(False)
    outbox.session_down("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    lines = answered(outbox)
    announcement = "neighbor 192.0.2.1 announce attributes next-hop self nlri 10.0.0.0/26"
    assert lines == ["neighbor 192.0.2.1 announce eor ipv4 unicast", announcement]


def test_a_withdrawal_that_was_refused_is_repeated_in_the_next_session() -> None:
    outbox = Outbox()
    peer = outbox.peer("192.0.2.1")
    peer.want("10.0.0.0/26", "next-hop self")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    answered(outbox)
    peer.want("10.0.0.0/26", None)
    while (command := next(outbox.commands())).purpose is not Purpose.ROUTES:
        outbox.acknowledged(True)
        outbox.end_of_rib_sent("192.0.2.1")
    outbox.acknowledged(False)
    assert answered(outbox) == []
    outbox.session_down("192.0.2.1")
    outbox.session_up("192.0.2.1", FAMILIES[:1])
    assert command.text in answered(outbox)


def test_what_is_flushed_once_more_comes_behind_the_end_of_rib_of_every_family() -> None:
    outbox = Outbox()
    outbox.peer("192.0.2.1").want("10.0.0.0/26", "next-hop self")
    outbox.session_up("192.0.2.1", FAMILIES)
    assert len(drive(outbox)) == 1
    outbox.session_up("192.0.2.1", FAMILIES)
    outbox.acknowledged(True)
    lines = [line.split(" ", 2)[2] for line in answered(outbox)]
    ends = [f"announce eor {family}" for family in FAMILIES]
    assert lines == [*ends, "flush adj-rib out", ends[0]]


def test_a_command_that_meets_the_repetition_after_a_reconnect_is_flushed_once_more() -> None:
    outbox, exabgp = Outbox(), ExaBGP(("192.0.2.1",), Random(1))
    peer = outbox.peer("192.0.2.1")
    exabgp.flap("192.0.2.1")
    for n, attributes in enumerate(("med 4", "med 0")):
        peer.want(f"10.0.{n}.0/24", attributes)
        settle(outbox, exabgp)
    peer.confirm()
    settle(outbox, exabgp)
    peer.want("10.0.1.0/24", "med 4")
    exabgp.commands.extend(outbox.commands())
    assert [command.attributes for command in exabgp.commands] == ["med 4"]
    exabgp.flap("192.0.2.1")
    exabgp.flap("192.0.2.1")  # up again before ExaBGP has read the command
    settle(outbox, exabgp)
    assert exabgp.peers["192.0.2.1"].view == {"10.0.0.0/24": "med 4", "10.0.1.0/24": "med 4"}


def test_a_change_that_comes_with_a_new_session_waits_until_exabgp_has_repeated_itself() -> None:
    outbox, exabgp = Outbox(), ExaBGP(("192.0.2.1",), Random(1))
    peer = outbox.peer("192.0.2.1")
    exabgp.flap("192.0.2.1")
    for n, attributes in enumerate(("med 4", "med 0")):
        peer.want(f"10.0.{n}.0/24", attributes)
        settle(outbox, exabgp)
    peer.confirm()
    settle(outbox, exabgp)
    exabgp.flap("192.0.2.1")
    exabgp.flap("192.0.2.1")
    deliver(outbox, exabgp, 2)
    peer.want("10.0.1.0/24", "med 4")  # with the first route, which ExaBGP repeats before the second
    settle(outbox, exabgp)
    assert exabgp.peers["192.0.2.1"].view == {"10.0.0.0/24": "med 4", "10.0.1.0/24": "med 4"}


def test_what_leaves_after_a_peers_route_refresh_proves_nothing() -> None:
    """The repetition of an older route looks like the newer one's departure."""
    outbox, exabgp = Outbox(), ExaBGP(("192.0.2.1",), Random(3))
    peer = outbox.peer("192.0.2.1")
    exabgp.flap("192.0.2.1")
    for prefix in ("10.0.0.0/24", "10.0.1.0/24"):
        peer.want(prefix, "med 0")
    settle(outbox, exabgp)
    exabgp.ask_again("192.0.2.1")
    exabgp.turn()  # 10.0.0.0/24 again; 10.0.1.0/24 is about to follow
    for prefix, attributes in (("10.0.2.0/24", "med 0"), ("10.0.1.0/24", "med 4")):
        peer.want(prefix, attributes)
        exabgp.commands.extend(outbox.commands())
        exabgp.process_command()
    exabgp.turn()
    exabgp.events.append(("sent", "192.0.2.1", "10.0.1.0/24"))  # read, however long
    deliver(outbox, exabgp, 9)
    peer.want("10.0.1.0/24", "med 0")
    settle(outbox, exabgp)
    assert exabgp.peers["192.0.2.1"].view["10.0.1.0/24"] == "med 0"


def test_what_exabgp_has_forgotten_with_a_reload_is_told_again() -> None:
    outbox = Outbox()
    for prefix in ("10.0.0.0/26", "10.0.1.0/26"):
        outbox.peer("p").want(prefix, "next-hop self")
    outbox.session_up("p", FAMILIES[:1])
    answered(outbox)
    outbox.peer("p").confirm()
    answered(outbox)
    outbox.peer("p").remembered(["10.0.0.0/26"])
    assert drive(outbox) == ["neighbor p announce attributes next-hop self nlri 10.0.1.0/26"]


def test_nothing_is_told_while_exabgp_is_asked_what_it_has_been_told() -> None:
    """Its answer would not have it, and what is taken for untold needs no withdrawal: it would stay."""
    outbox = Outbox()
    outbox.peer("p").want("10.0.0.0/26", "next-hop self")
    outbox.session_up("p", FAMILIES[:1])
    outbox.request("show adj-rib out p")
    assert [command.text for command in outbox.commands()] == ["show adj-rib out p"]
    outbox.acknowledged(True)
    outbox.peer("p").remembered(())
    assert [command.routes for command in outbox.commands()] == [("10.0.0.0/26",)]
    outbox.peer("p").want("10.0.0.0/26", None)
    outbox.acknowledged(True)
    assert [command.purpose for command in outbox.commands()] == [Purpose.END_OF_RIB]
    outbox.acknowledged(True)
    outbox.end_of_rib_sent("p")
    (withdrawal,) = outbox.commands()
    assert (withdrawal.routes, withdrawal.attributes) == (("10.0.0.0/26",), None)
