"""What is there and cannot be read by whoever has just begun, and what is not done because of it."""

from __future__ import annotations

import pytest

from bgpd.datastore import Changes, Invalid, Snapshot, Unread
from bgpd.resources import Key, Resource, ResourceSet, load_documents

FILTER = Key("BGPFilter", "f")
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: t}
spec: {peerIP: 10.0.0.9, asNumber: 65100, filters: [f]}
"""
GOOD = """\
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: f}
"""


def known(*documents: str) -> ResourceSet:
    return ResourceSet.of(each for text in documents for each in load_documents(text, "f"))


def only(*documents: str) -> list[Resource]:
    return list(known(*documents))


def invalid(key: Key, reason: str | None = "'Log' is no action") -> tuple[Invalid, ...]:
    return (Invalid(f"/{key.name}", key, reason),)


def test_a_filter_that_a_peer_names_is_waited_for_and_no_other() -> None:
    unread = Unread("a")
    unread.heard(Snapshot((), 1, invalid(FILTER)), known())
    assert unread.reason == ""
    unread.heard(Changes((), 2, ()), known(PEER))
    assert unread.reason == "'Log' is no action; nothing is done before it is repaired"
    unread.heard(Changes((), 3, invalid(FILTER, None)), known(PEER, GOOD))
    assert unread.reason == ""


def test_what_has_the_name_of_a_filter_and_is_none_holds_no_peer_back() -> None:
    unread, resources = Unread("a"), known(PEER, GOOD)
    unread.heard(Snapshot((), 1, (*invalid(Key("Node", "f")), Invalid("/f", None, "no resource"))), resources)
    assert list(unread.planned(resources)) == only(PEER, GOOD)


def test_a_peer_that_comes_to_name_an_unreadable_filter_counts_as_it_was() -> None:
    bare, other = PEER.replace(", filters: [f]", ""), PEER.replace("name: t", "name: u")
    unread = Unread("a")

    def planned(*documents: str, news: tuple[Invalid, ...] = ()) -> list[Resource]:
        resources = known(*documents)
        unread.heard(Changes((), 2, news), resources)
        return list(unread.planned(resources))

    unread.heard(Snapshot((), 1), known(bare))
    assert planned(bare, news=invalid(FILTER)) == only(bare)
    assert planned(PEER, other) == only(bare)
    assert planned(PEER.replace("65100", "65101"), other) == only(bare)
    assert planned(other) == only()
    assert planned(bare.replace("65100", "65102"), other) == only(bare.replace("65100", "65102"))
    assert planned(PEER, other, GOOD, news=invalid(FILTER, None)) == only(PEER, other, GOOD)
    assert planned(PEER, GOOD, news=invalid(FILTER)) == only(PEER, GOOD)  # as it was, and it was good


def test_a_filter_whose_last_good_version_is_known_is_not_waited_for() -> None:
    unread = Unread("a")
    unread.heard(Snapshot((), 1, invalid(FILTER)), known(PEER, GOOD))
    assert unread.reason == ""
    unread.heard(Changes((), 2, invalid(FILTER)), known(PEER, GOOD))
    assert unread.reason == ""


def test_what_comes_to_lie_in_a_pool_that_cannot_be_read_waits_and_nothing_else() -> None:
    head = "apiVersion: projectcalico.org/v3\nkind: "
    pool = f"{head}IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.77.0.0/16}}\n"
    [in_pool, outside, later] = (
        f"{head}BlockAffinity\nmetadata: {{name: a-{n}}}\nspec: {{node: a, cidr: 10.{n}.0.0/26, state: %s}}\n"
        for n in (77, 78, 79)
    )
    workload = (
        f"{head}WorkloadEndpoint\nmetadata: {{name: a-k8s-w-eth0, namespace: n}}\n"
        "spec: {orchestrator: k8s, node: a, pod: w, endpoint: eth0, interfaceName: cali0, "
        "ipNetworks: [10.79.0.1/32]}\n"
    )
    unread, other = Unread("a"), Key("IPPool", "q")

    def planned(*documents: str, news: tuple[Invalid, ...] = ()) -> list[Resource]:
        resources = known(*documents)
        unread.heard(Changes((), 2, news), resources)
        return sorted(unread.planned(resources), key=lambda each: each.key)

    def those(*documents: str) -> list[Resource]:
        return sorted(known(*documents), key=lambda each: each.key)

    unread.heard(Snapshot((), 1), known(pool, outside % "confirmed"))
    assert planned(pool, outside % "confirmed", news=invalid(other)) == those(pool, outside % "confirmed")
    more = (in_pool % "confirmed", later % "confirmed", workload)
    assert planned(pool, outside % "pending", *more) == those(pool, outside % "confirmed", more[0])
    assert planned(pool, *more) == those(pool, more[0])
    assert planned(pool, *more, news=invalid(other, None)) == those(pool, *more)


@pytest.mark.parametrize("kind", ["BGPPeer", "Node"])
def test_there_may_be_peers_until_all_can_be_read(kind: str) -> None:
    unread, key = Unread("a"), Key(kind, "x")
    assert not unread.peers
    unread.heard(Snapshot((), 1, invalid(key)), known())
    assert (unread.peers, unread.reason) == (True, "")
    unread.heard(Changes((), 2, invalid(key, None)), known())
    assert not unread.peers


@pytest.mark.parametrize(
    ("kind", "name", "awaited", "routes"),
    [
        ("BGPConfiguration", "default", True, False),
        ("BGPConfiguration", "node.a", True, False),
        ("BGPConfiguration", "node.b", False, False),
        ("CairnConfiguration", "default", True, False),
        ("IPPool", "p", True, False),
        ("BlockAffinity", "a/10.77.0.0/26", True, False),
        ("BlockAffinity", "b/10.77.1.0/26", False, False),
        ("WorkloadEndpoint", "a-k8s-w-eth0", False, True),
        ("WorkloadEndpoint", "b-k8s-w-eth0", False, False),
        ("BGPPeer", "t", False, True),
        ("Node", "b", False, True),
        ("NodeLease", "b", False, False),
        ("IPAMBlock", "10.77.0.0/26", False, False),
    ],
)
def test_what_holds_something_back_is_waited_for_and_what_has_routes_spares_them(
    kind: str, name: str, awaited: bool, routes: bool
) -> None:
    unread, key = Unread("a"), Key(kind, name, "default" if kind == "WorkloadEndpoint" else "")
    unread.heard(Snapshot((), 1, invalid(key)), known())
    assert (bool(unread.reason), unread.routes) == (awaited, routes)
    assert unread.workloads == (routes and kind == "WorkloadEndpoint")
    unread.heard(Changes((), 2, invalid(key, "no JSON")), known())
    assert unread.reason == ("no JSON; nothing is done before it is repaired" if awaited else "")
    unread.heard(Changes((), 2, invalid(key, None)), known())
    assert (unread.reason, unread.routes) == ("", False)
