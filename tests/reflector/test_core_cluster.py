"""Several reflectors back to back in memory: clusters and hierarchies (RFC 4456 7), killed in turn."""

import random
from dataclasses import dataclass, field

import pytest

from bgpd.rib.path import SourceKind
from bgpd.session.decoders import Decoders
from bgpd.session.events import Established
from bgpd.wire.capabilities import Capabilities
from bgpd.wire.framing import Framer
from bgpd.wire.iana import MessageType
from bgpd.wire.messages import Open, RouteRefresh, decode, negotiate
from reflector.core import Reflector
from reflector.member import Member, MemberOptions
from tests.reflector.simulated import ASN, BOTH, V4, SimulatedPeer, key, path_of, reflector, settle

CLIENT, NON_CLIENT = SourceKind.CLIENT, SourceKind.NON_CLIENT
P, Q = "10.1.0.0/24", "10.2.0.0/24"
CAPABILITIES = Capabilities(families=BOTH, asn4=ASN, route_refresh=True, enhanced_refresh=True)


@dataclass
class End:
    """One end of a session between two reflectors."""

    core: Reflector
    member: Member
    decoders: Decoders
    framer: Framer = field(default_factory=Framer)

    def __post_init__(self) -> None:
        negotiated = self.member.negotiated
        assert negotiated is not None
        self.decoder = self.decoders(negotiated, True)

    def hear(self, octets: bytes) -> None:
        self.framer.feed(octets)
        for kind, body in self.framer:
            if kind == MessageType.UPDATE:
                self.core.update(self.member, [self.decoder.decode(body)])
            else:
                message = decode(kind, body)
                assert isinstance(message, RouteRefresh)
                self.core.refresh(self.member, message.family, message.subtype, 0.0)


class Cable:
    """A session between two reflectors. `kinds`: what the second is to the first, and the other way round."""

    def __init__(self, one: Reflector, two: Reflector, kinds: tuple[SourceKind, SourceKind]) -> None:
        opens = [Open(ASN, 90, core.speaker.bgp_identifier, CAPABILITIES) for core in (one, two)]
        self.ends = [
            self._end(one, two, kinds[0], opens[0], opens[1]),
            self._end(two, one, kinds[1], opens[1], opens[0]),
        ]

    @staticmethod
    def _end(here: Reflector, there: Reflector, kind: SourceKind, local: Open, remote: Open) -> End:
        address = f"198.51.100.{there.speaker.bgp_identifier[3]}"
        event = Established(negotiate(local, remote), remote, ASN, True)
        return End(here, here.established(address, MemberOptions(kind), address, event, 0.0), Decoders())

    def carry(self) -> bool:
        """Bring what lies ready across, both ways; whether there was anything."""
        moved = False
        for sender, receiver in (self.ends, reversed(self.ends)):
            sender.core.flush()
            for buffer in sender.core.take(sender.member, 4096):
                receiver.hear(bytes(buffer))
                moved = True
        return moved

    def cut(self, survivor: Reflector) -> None:
        for end in self.ends:
            if end.core is survivor:
                end.core.closed(end.member, (), 0.0)


def run(*cables: Cable, limit: int = 10_000) -> None:
    """Until nothing moves; a loop between reflectors would never end."""
    for _ in range(limit):
        moved = [cable.carry() for cable in cables]
        if not any(moved):
            return
    raise AssertionError("the reflectors never come to rest")


@pytest.mark.parametrize("same", [True, False], ids=["same cluster", "two clusters"])
def test_rfc4456_7_two_reflectors_with_the_same_and_with_different_cluster_ids(same: bool) -> None:
    one, two = reflector(1, 1), reflector(2, 1 if same else 2)
    cable = Cable(one, two, (NON_CLIENT, NON_CLIENT))
    left = [SimulatedPeer(one, n).up() for n in (1, 2)]
    right = [SimulatedPeer(two, n).up() for n in (1, 3)]
    left[0].announce(P)
    right[0].announce(P)  # the same client at both
    right[1].announce(Q)
    run(cable)
    settle(*left, *right)
    # Within one cluster a reflector does not learn of the other's clients through it.
    assert left[1].prefixes == ({P} if same else {P, Q})
    assert right[1].prefixes == {P}
    (known,) = one.ribs[V4].candidates(key(Q))
    assert ("CLUSTER_LIST" in (known.ineligible or "")) is same
    left[0].withdraw(P)
    run(cable)
    settle(*left, *right)
    assert (P in left[1].prefixes) is not same
    right[0].withdraw(P)
    right[1].withdraw(Q)
    run(cable)
    settle(*left, *right)
    assert not any(peer.prefixes for peer in (*left, *right))
    assert not len(one.ribs[V4])
    assert not len(two.ribs[V4])


def test_rfc4456_7_a_hierarchy_of_reflectors() -> None:
    """Two bottom reflectors are clients of a top one; the CLUSTER_LIST tells the way."""
    top, west, east = reflector(1), reflector(2), reflector(3)
    cables = [Cable(top, west, (CLIENT, NON_CLIENT)), Cable(top, east, (CLIENT, NON_CLIENT))]
    a, b = SimulatedPeer(west, 1).up(), SimulatedPeer(east, 2).up()
    a.announce(P, as_path=path_of(65100), med=3)
    b.announce(Q)
    run(*cables)
    settle(a, b)
    assert b.prefixes == {P}
    assert a.prefixes == {Q}
    told = b.told(P)
    assert told.cluster_list == tuple(core.speaker.cluster_id for core in (east, top, west))
    assert told.originator_id == bytes((10, 0, 0, 1))
    assert (told.as_path, told.med, told.next_hop) == (path_of(65100), 3, a.next_hop)
    a.down()
    run(*cables)
    settle(b)
    assert not b.prefixes


def test_a_ring_of_reflectors_comes_to_rest() -> None:
    cores = [reflector(n) for n in (1, 2, 3, 4)]
    pairs = list(zip(cores, cores[1:] + cores[:1], strict=True))
    cables = [Cable(one, two, (CLIENT, CLIENT)) for one, two in pairs]
    clients = [SimulatedPeer(core, n).up() for n, core in enumerate(cores, start=1)]
    clients[0].announce(P)
    clients[2].announce(Q)
    run(*cables)
    settle(*clients)
    assert [peer.prefixes for peer in clients] == [{Q}, {P, Q}, {P}, {P, Q}]
    clients[0].withdraw(P)
    clients[2].withdraw(Q)
    run(*cables)
    settle(*clients)
    assert not any(peer.prefixes for peer in clients)
    assert not any(len(core.ribs[V4]) for core in cores)


class Site:
    """Clients that are each connected to two reflectors; one of these may be dead."""

    def __init__(self, same: bool) -> None:
        self.same = same
        self.numbers = range(1, 6)
        self.truth: dict[int, dict[str, int]] = {n: {} for n in self.numbers}
        self.cores = [self._core(0), self._core(1)]
        self.cable: Cable | None = Cable(self.cores[0], self.cores[1], (NON_CLIENT, NON_CLIENT))
        self.peers = [{n: SimulatedPeer(core, n).up() for n in self.numbers} for core in self.cores]

    def _core(self, which: int) -> Reflector:
        return reflector(which + 1, 1 if self.same else which + 1)

    def change(self, number: int, prefix: str, med: int | None) -> None:
        if med is None:
            self.truth[number].pop(prefix, None)
        else:
            self.truth[number][prefix] = med
        for which, peers in enumerate(self.peers):
            if self.cores[which] is not None and number in peers:
                if med is None:
                    peers[number].withdraw(prefix)
                else:
                    peers[number].announce(prefix, med=med)

    def kill(self, which: int) -> None:
        self.peers[which] = {}
        assert self.cable is not None
        self.cable.cut(self.cores[1 - which])
        self.cable = None

    def revive(self, which: int) -> None:
        self.cores[which] = self._core(which)
        self.cable = Cable(self.cores[0], self.cores[1], (NON_CLIENT, NON_CLIENT))
        for number in self.numbers:
            peer = self.peers[which][number] = SimulatedPeer(self.cores[which], number).up()
            for prefix, med in self.truth[number].items():
                peer.announce(prefix, med=med)

    def has(self, number: int) -> set[str]:
        """What a client can use: the prefixes any of its reflectors tells it of."""
        return set().union(*(peers[number].prefixes for peers in self.peers if number in peers))

    def steady(self, number: int) -> set[str]:
        """What others announce, and did before the last turn, whoever reflects it."""
        return {prefix for other in self.numbers if other != number for prefix in self.truth[other]}

    def read(self, rng: random.Random | None = None) -> None:
        for peers in self.peers:
            for peer in peers.values():
                peer.reflector.flush()
                if rng is None:
                    peer.read()
                elif rng.random() < 0.5:
                    peer.read(1, turns=rng.randrange(3))

    def rest(self) -> None:
        if self.cable is not None:
            run(self.cable)
        self.read()

    def exact(self) -> None:
        """At rest every reflector tells every client the one path it should."""
        for peers in self.peers:
            for number, peer in peers.items():
                for prefix in {p for routes in self.truth.values() for p in routes}:
                    # Lowest MED first (one neighbouring AS), then the lowest identifier.
                    best = min((self.truth[n][prefix], n) for n in self.numbers if prefix in self.truth[n])
                    if best[1] == number:
                        assert prefix not in peer.prefixes
                    else:
                        assert (peer.told(prefix).med, peer.told(prefix).originator_id) == (
                            best[0],
                            bytes((10, 0, 0, best[1])),
                        )
                assert peer.prefixes <= self.steady(number)


@pytest.mark.parametrize("same", [True, False], ids=["same cluster", "two clusters"])
@pytest.mark.parametrize("seed", range(6))
def test_no_client_loses_a_valid_route_when_one_reflector_dies_and_returns(same: bool, seed: int) -> None:
    """Prefixes that stand through the churn are never missing at any client, though a reflector is dead,
    empty, or reads slowly."""
    rng = random.Random(seed)
    site = Site(same)
    standing = {n: f"10.200.{n}.0/24" for n in site.numbers}
    for number, prefix in standing.items():
        site.change(number, prefix, 1)
    site.rest()
    dead: int | None = None
    for _ in range(300):
        action = rng.random()
        if action < 0.05:
            if dead is None:
                site.rest()  # the survivor's clients have been told everything before the other one dies
                dead = rng.randrange(2)
                site.kill(dead)
            else:
                site.revive(dead)
                dead = None
        elif action < 0.7:
            prefix = f"10.1.{rng.randrange(8)}.0/24"
            number = rng.choice(list(site.numbers))
            site.change(number, prefix, rng.choice((None, 1, 2, 3)))
        elif site.cable is not None:
            site.cable.carry()
        site.read(rng)
        for number in site.numbers:
            assert {p for n, p in standing.items() if n != number} <= site.has(number)
    if dead is not None:
        site.revive(dead)
    site.rest()
    site.exact()
