"""The whole core under random operations: at rest every view is exact, and on the way it only moves forward.

The model knows nothing of logs, groups or stale marks: it keeps what each peer has said and may still stand
for, decides by the decision process, and exports by the export function and the filters in force. Peers of
every sort take part: clients, a non-client, other ASes, a two-octet speaker, add-path both ways, with and
without graceful and long-lived graceful restart. Meanwhile policies change, one or two peers never read until
the end, and the reflector is drained and taken back.
"""

import os
from collections.abc import Iterator, Set
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bgpd.plan.policy import CompiledFilter, Operator, PrefixMatch, Rule, decide
from bgpd.plan.route_policy import changed, facts_of
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY
from bgpd.resources.scalars import Community
from bgpd.rib import decision, export_log, update_group
from bgpd.rib.path import Path, SourceKind
from bgpd.rib.reflection import Advert, Export, export_to, last_resort
from bgpd.wire.attributes import AttributeSet, rewrite
from bgpd.wire.iana import AttributeCode, RefreshSubtype, Role, WellKnownCommunity
from bgpd.wire.nlri import Family
from reflector.member import MemberOptions, Reading
from tests.reflector.simulated import (
    BOTH,
    V4,
    V6,
    SimulatedPeer,
    family_of,
    graceful,
    key,
    path_of,
    reflector,
)

EXAMPLES = int(os.environ.get("CAIRN_FUZZ_EXAMPLES", "80"))
pytestmark = pytest.mark.timeout(max(600, 2 * EXAMPLES))
PREFIXES = ["10.1.0.0/24", "10.2.0.0/16", "10.3.3.0/25", "2001:db8:1::/48", "2001:db8:2::/64"]
CLIENT, NON_CLIENT, EXTERNAL = SourceKind.CLIENT, SourceKind.NON_CLIENT, SourceKind.EXTERNAL
GRACEFUL: dict[str, Any] = {
    "capabilities": {"graceful_restart": graceful()},
    "ours": {"graceful_restart": graceful()},
}
LONG_LIVED_SECONDS = 200
LONG_LIVED: dict[str, Any] = {
    "graceful_restart": graceful(),
    "long_lived": tuple((family, True, LONG_LIVED_SECONDS) for family in (V4, V6)),
}
KINDS: dict[int, dict[str, Any]] = {
    1: {},
    2: GRACEFUL,
    3: {"sends_paths": True, "takes_paths": False, "options": MemberOptions(CLIENT)},
    4: {"kind": NON_CLIENT},
    5: {"kind": EXTERNAL, "asn": 65100},
    6: {"capabilities": {"asn4": None, "enhanced_refresh": False}},
    7: {"takes_paths": True, "options": MemberOptions(CLIENT, add_path_limit=2)},
    8: {"kind": EXTERNAL, "asn": 65101, "options": MemberOptions(EXTERNAL, role=Role.CUSTOMER)},
    9: {"kind": NON_CLIENT, "options": MemberOptions(NON_CLIENT), **GRACEFUL},
    10: {
        "capabilities": LONG_LIVED,
        "ours": LONG_LIVED,
        "options": MemberOptions(CLIENT, long_lived_stale_time=LONG_LIVED_SECONDS),
    },
}
NO_LLGR = 3  # the value that an announcement marked so has


def matching(prefix: str, accept: bool, **more: Any) -> tuple[CompiledFilter, ...]:
    network = ip_network(prefix)
    within = PrefixMatch(network, Operator.IN, network.prefixlen, network.max_prefixlen)
    return (CompiledFilter("some", (Rule("a rule", accept, within, **more),)),)


FILTERS: list[tuple[CompiledFilter, ...]] = [
    (),
    matching("10.1.0.0/16", False),
    matching("::/0", False) + matching("10.2.0.0/15", False),
    matching("0.0.0.0/0", True, add_communities=(Community((65000, 7)),), set_priority=900),
    matching("10.0.0.0/8", True, prepend=(65200, 65201)),
]
Meaning = tuple[object, ...]
Item = tuple[int, str]  # path identifier (0: none) and prefix


def meaning(attributes: AttributeSet, next_hop: bytes) -> Meaning:
    return (
        attributes.as_path,
        attributes.med,
        attributes.local_pref,
        attributes.originator_id,
        attributes.cluster_list,
        attributes.communities,
        attributes.otc,
        next_hop,
    )


class Slack:
    """How untidy the logs of the present example may be."""

    octets = 64


class ReflectorMachine(RuleBasedStateMachine):
    """Peers come, go, restart, stall, change their minds, and ask for everything again."""

    def __init__(self) -> None:
        super().__init__()
        self.core = reflector()
        self.now = 0.0
        self.peers = {n: self.peer(n) for n in KINDS}
        self.said: dict[int, dict[Item, int]] = {n: {} for n in KINDS}
        self.stale: dict[int, dict[Item, int]] = {n: {} for n in KINDS}
        self.gone_at: dict[int, float] = {}
        self.repeating: set[tuple[int, Family]] = set()
        self.drained = False
        self.stalled: set[int] = set()
        self.history: dict[int, list[dict[str, Meaning | None]]] = {n: [] for n in KINDS}
        self.seen: dict[int, dict[str, int]] = {n: {} for n in KINDS}

    def peer(self, number: int) -> SimulatedPeer:
        chosen: dict[str, Any] = {
            name: dict(value) if isinstance(value, dict) else value for name, value in KINDS[number].items()
        }
        return SimulatedPeer(self.core, number, **chosen)

    # What should be

    def advert(self, export: Export, reading: Reading, prefix: str, path: Path) -> Advert | None:
        """What a path looks like to a peer: through the filters it was last given, and through a drain."""
        told, filters, abroad = path, reading.key.filters, reading.key.target.kind is EXTERNAL
        med: int | None = None
        if filters:
            facts = facts_of(key(prefix), family_of(prefix), path.attributes, DEFAULT_ROUTE_PRIORITY)
            verdict = decide(filters, facts, not abroad)
            if verdict is not None and not verdict.accept:
                return None
            if verdict is not None:
                attributes = changed(path.attributes, verdict)
                told = Path(path.source, attributes, None, path.path_id, path.long_lived_stale)
                if abroad and verdict.priority_set:
                    med = verdict.priority
                elif abroad and not path.attributes.as_path:
                    med = path.attributes.med
        advert = export(told)
        if advert is None:
            return None
        block, next_hop = advert
        if med is not None:
            block = rewrite(block, {AttributeCode.MULTI_EXIT_DISC: med.to_bytes(4, "big")})
        return last_resort(block) if self.drained else block, next_hop

    def expected(self, number: int) -> dict[str, list[Meaning]]:
        """What a peer may have now, worst case several paths per prefix."""
        peer = self.peers[number]
        assert peer.member is not None
        result: dict[str, list[Meaning]] = {}
        for prefix in PREFIXES:
            family = family_of(prefix)
            reading = peer.member.readings.get(family)
            if reading is None:
                result[prefix] = []
                continue
            export = export_to(replace(reading.key.target, asn4=True), self.core.speaker, family)
            paths = self.core.ribs[family].candidates(key(prefix))
            limit = reading.key.add_path_limit
            told = [
                (path, advert)
                for path in (decision.ordered(paths) if limit else filter(None, [decision.best(paths)]))
                if (advert := self.advert(export, reading, prefix, path)) is not None
            ][: limit or 1]
            result[prefix] = [
                meaning(AttributeSet.of(attributes), self._next_hop(path, next_hop))
                for path, (attributes, next_hop) in told
                if path.source is not peer.member.source
            ]
        return result

    @staticmethod
    def _next_hop(path: Path, next_hop: bytes) -> bytes:
        return next_hop or path.attributes.next_hop

    def view(self, number: int) -> dict[str, list[Meaning]]:
        peer = self.peers[number]
        result: dict[str, list[Meaning]] = {}
        for prefix in PREFIXES:
            family = family_of(prefix)
            skip = 4 if KINDS[number].get("takes_paths") else 0
            result[prefix] = [
                meaning(told.attributes, told.next_hop)
                for item, told in peer.view[family].items()
                if item[skip:] == key(prefix)
            ]
        return result

    def flush(self, moved: bool = True) -> None:
        """Have everything decided; `moved`: what peers may have can have changed otherwise too."""
        if not self.core.flush() and not moved:
            return
        for number in self.live():
            should = self.expected(number)
            self.history[number].append({p: found[0] if found else None for p, found in should.items()})

    def live(self) -> Iterator[int]:
        return (number for number, peer in self.peers.items() if peer.member is not None)

    # What happens

    @initialize(
        slack=st.sampled_from((64, 1000)),
        stalled=st.sets(st.sampled_from(sorted(KINDS)), max_size=2),
        absent=st.sets(st.sampled_from(sorted(KINDS)), max_size=4),
        said=st.dictionaries(
            st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(PREFIXES)),
            st.integers(0, 5),
            min_size=5,
        ),
    )
    def begin(
        self, slack: int, stalled: set[int], absent: set[int], said: dict[tuple[int, str], int]
    ) -> None:
        """Most peers are there, and some have said something."""
        Slack.octets = slack
        self.stalled = stalled
        for number in KINDS:
            if number not in absent:
                self.come(number)
        for number in KINDS:
            self.announce(number, PREFIXES[2:4], NO_LLGR, 1)
        for (number, prefix), value in said.items():
            self.announce(number, [prefix], value, 1)
        for number in KINDS:
            self.catch_up(number)

    @rule(number=st.sampled_from(sorted(KINDS)), again=st.sets(st.sampled_from(PREFIXES)), ends=st.booleans())
    def come(self, number: int, again: Set[str] = frozenset(), ends: bool = False) -> None:
        """A peer comes up; if it was away, it says some of that again, and perhaps the end."""
        peer = self.peers[number]
        if peer.member is not None:
            return
        self.flush()
        peer.up(self.now)
        self.gone_at.pop(number, None)
        self.flush()
        # What lies in the log may be older than the peer's session.
        self.history[number] = []
        self.seen[number] = {}
        self.say_again(number, again)
        if ends:
            for family in (V4, V6):
                self.end_of_rib(number, family)

    def say_again(self, number: int, prefixes: Set[str]) -> None:
        for item, value in list(self.stale[number].items()):
            if item[1] in prefixes:
                self.say(number, item, value)

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        kept=st.sampled_from((frozenset(), frozenset({V4}), BOTH, BOTH)),
        away=st.sampled_from((0.0, 0.0, 130.0)),
    )
    def go(self, number: int, kept: frozenset[Family], away: float = 0.0) -> None:
        peer = self.peers[number]
        if peer.member is None:
            return
        negotiated = peer.member.negotiated
        assert negotiated is not None
        if negotiated.graceful_restart is None:
            kept = frozenset()
        peer.down(self.now, kept)
        self.stale[number] = {i: value for i, value in self.said[number].items() if family_of(i[1]) in kept}
        self.said[number] = {}
        self.repeating = {(n, f) for n, f in self.repeating if n != number}
        if self.stale[number]:
            self.gone_at[number] = self.now
        self.flush()
        if away:
            self.wait(away)

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3, unique=True),
        value=st.integers(0, 5),
        path_id=st.integers(1, 2),
    )
    def announce(self, number: int, prefixes: list[str], value: int, path_id: int) -> None:
        peer = self.peers[number]
        if peer.member is None:
            return
        adding = bool(KINDS[number].get("sends_paths"))
        for prefix in prefixes:
            self.say(number, (path_id if adding else 0, prefix), value)

    def say(self, number: int, item: Item, value: int) -> None:
        """One announcement; what it carries follows from its value."""
        peer = self.peers[number]
        attributes: dict[str, Any] = {"med": value % 2 or None}
        if value == NO_LLGR:
            attributes["communities"] = (WellKnownCommunity.NO_LLGR,)
        if value == 4:
            attributes["communities"] = (WellKnownCommunity.NO_EXPORT,)
        if peer.kind is EXTERNAL:
            attributes["as_path"] = path_of(peer.asn, *range(4200000000, 4200000000 + value // 2))
            if value == 5:
                attributes["otc"] = peer.asn
        else:
            attributes["local_pref"] = 100 + value // 2
            if value == 5 and peer.kind is NON_CLIENT:
                attributes["cluster_list"] = (self.core.speaker.cluster_id,)  # a loop
        peer.announce(item[1], path_id=item[0] or None, **attributes)
        self.said[number][item] = value
        self.stale[number].pop(item, None)

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        prefix=st.sampled_from(PREFIXES),
        path_id=st.integers(1, 2),
    )
    def withdraw(self, number: int, prefix: str, path_id: int) -> None:
        peer = self.peers[number]
        if peer.member is None:
            return
        adding = bool(KINDS[number].get("sends_paths"))
        peer.withdraw(prefix, path_id=path_id if adding else None)
        item = (path_id if adding else 0, prefix)
        self.said[number].pop(item, None)
        self.stale[number].pop(item, None)

    @rule(number=st.sampled_from(sorted(KINDS)), family=st.sampled_from((V4, V6)))
    def end_of_rib(self, number: int, family: Family) -> None:
        peer = self.peers[number]
        if peer.member is not None:
            waiting = family in peer.member.stale_until or family in peer.member.long_lived_until
            peer.end_of_rib(family)
            if waiting:
                self.forget_stale(number, family)

    def forget_stale(self, number: int, family: Family) -> None:
        self.stale[number] = {
            item: value for item, value in self.stale[number].items() if family_of(item[1]) != family
        }

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        family=st.sampled_from((V4, V6)),
        begins=st.booleans(),
        again=st.sets(st.sampled_from(PREFIXES)),
        ends=st.booleans(),
    )
    def repeat(self, number: int, family: Family, begins: bool, again: Set[str], ends: bool) -> None:
        """The peer's own refresh: it begins to say everything again, says some, and says that it has."""
        peer = self.peers[number]
        if peer.member is None or family in peer.member.awaiting_eor:
            return
        if begins:
            peer.refresh(RefreshSubtype.BEGIN, family, self.now)
            self.repeating.add((number, family))
            for item in [item for item in self.said[number] if family_of(item[1]) == family]:
                self.stale[number][item] = self.said[number].pop(item)
        self.say_again(number, again)
        if ends and (number, family) in self.repeating:
            self.repeating.discard((number, family))
            peer.refresh(RefreshSubtype.END, family, self.now)
            self.forget_stale(number, family)

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        family=st.sampled_from((V4, V6)),
        turns=st.lists(st.integers(1, 2), max_size=3),
    )
    def ask(self, number: int, family: Family, turns: list[int]) -> None:
        """A refresh; the answer is read slowly."""
        peer = self.peers[number]
        if peer.member is not None and number not in self.stalled:
            self.catch_up(number)
            peer.refresh(RefreshSubtype.REQUEST, family, self.now)
            for each in turns:
                self.read(number, 1, each)

    @rule(
        number=st.sampled_from(sorted(KINDS)),
        filters=st.sampled_from(FILTERS),
        limit=st.integers(1, 3),
        tells=st.booleans(),
    )
    def change_export(
        self, number: int, filters: tuple[CompiledFilter, ...], limit: int, tells: bool
    ) -> None:
        """Another export policy, under the session where there is one."""
        peer = self.peers[number]
        assert peer.options is not None
        self.change(
            number,
            replace(
                peer.options,
                export_filters=filters,
                add_path_limit=limit if peer.takes_paths else 0,
                tells=tells or peer.kind is not EXTERNAL,
            ),
        )

    @rule(number=st.sampled_from(sorted(KINDS)), filters=st.sampled_from(FILTERS))
    def change_import(self, number: int, filters: tuple[CompiledFilter, ...]) -> None:
        """Another import policy: the peer is asked for everything, and says it again."""
        peer = self.peers[number]
        assert peer.options is not None
        if self.change(number, replace(peer.options, import_filters=filters)):
            for item, value in list(self.said[number].items()):
                self.say(number, item, value)
            self.flush()

    def change(self, number: int, options: MemberOptions) -> bool:
        peer = self.peers[number]
        self.flush()
        peer.options = options
        return peer.member is not None and self.core.change(peer.member, options)

    @rule(draining=st.booleans())
    def drain(self, draining: bool) -> None:
        self.flush()
        self.core.drain(draining)
        self.drained = draining
        self.flush()

    @rule()
    def turn(self) -> None:
        self.flush(moved=False)

    @rule(seconds=st.sampled_from((1.0, 40.0, 130.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        for number, at in list(self.gone_at.items()):
            lasts = LONG_LIVED_SECONDS if "long_lived" in self.peers[number].ours else 0
            if self.now >= at + 120 + lasts:
                self.stale[number] = {}
                del self.gone_at[number]
            elif self.now >= at + 120:
                self.stale[number] = {i: v for i, v in self.stale[number].items() if v != NO_LLGR}
        for number, peer in self.peers.items():
            for family in (V4, V6):
                member = peer.member
                if member is None:
                    continue
                if family not in member.stale_until | member.refresh_until | member.long_lived_until:
                    self.forget_stale(number, family)
                    self.repeating.discard((number, family))
        self.flush()

    @rule(
        number=st.sampled_from(sorted(KINDS)), limit=st.sampled_from((1, 100, 5000)), turns=st.integers(1, 3)
    )
    def read(self, number: int, limit: int, turns: int) -> None:
        peer = self.peers[number]
        if peer.member is not None and number not in self.stalled:
            self.flush(moved=False)
            moving = any(reading.moving for reading in peer.member.readings.values())
            peer.read(limit, turns)
            self.flush(moved=moving)  # it may have come under another policy on its way
            self.check_forward(number)

    def check_forward(self, number: int) -> None:
        """Each prefix of a view is as it should have been at some time, and not before what was seen last."""
        if KINDS[number].get("takes_paths"):
            return
        view, history, seen = self.view(number), self.history[number], self.seen[number]
        for prefix, found in view.items():
            value = found[0] if found else None
            start = seen.get(prefix, -1)
            if start < 0:
                continue
            at = next((i for i in range(start, len(history)) if history[i][prefix] == value), None)
            assert at is not None, f"peer {number} was taken back at {prefix}"
            seen[prefix] = at

    def settled(self, number: int) -> None:
        """From here on a peer has nothing that is older than now."""
        self.seen[number] = dict.fromkeys(PREFIXES, len(self.history[number]) - 1)

    @rule(number=st.sampled_from(sorted(KINDS)))
    def catch_up(self, number: int) -> None:
        peer = self.peers[number]
        if peer.member is None or number in self.stalled:
            return
        self.flush(moved=False)
        moving = any(reading.moving for reading in peer.member.readings.values())
        peer.read()
        self.flush(moved=moving)
        self.check_forward(number)
        if not peer.member.behind and not peer.stale:
            assert peer.options is not None
            assert bool(peer.member.readings) is peer.options.tells
            for reading in peer.member.readings.values():
                assert reading.key.filters == peer.options.export_filters
            assert {p: sorted(v, key=repr) for p, v in self.view(number).items()} == {
                p: sorted(v, key=repr) for p, v in self.expected(number).items()
            }
            self.settled(number)

    @invariant()
    def what_was_said_is_kept(self) -> None:
        """The Adj-RIBs-In are what the model says, stale routes included."""
        for number, peer in self.peers.items():
            member = self.core.members.get(peer.name)
            held: set[Item] = set()
            if member is not None:
                for family, rib in self.core.ribs.items():
                    for item, path in rib.received(member.source).items():
                        assert path.source is member.source
                        nlri = item[4:] if family in member.adds_paths else item
                        prefix = next(p for p in PREFIXES if family_of(p) == family and key(p) == nlri)
                        held.add((path.path_id, prefix))
                        self.check_import(number, (path.path_id, prefix), path)
            assert held == {*self.said[number], *self.stale[number]}

    def check_import(self, number: int, item: Item, path: Path) -> None:
        """What was said under the present import policy is refused by it or not."""
        options = self.peers[number].options
        assert options is not None
        if item in self.said[number]:
            facts = facts_of(key(item[1]), family_of(item[1]), path.attributes, 1024)
            verdict = decide(options.import_filters, facts, options.internal)
            if verdict is not None and not verdict.accept:
                assert path.ineligible is not None
            else:
                assert "rejected on import" not in (path.ineligible or "")

    def teardown(self) -> None:
        """At rest everybody has exactly what it may have; and when all have gone nothing is left."""
        self.now += 1000.0
        self.stalled = set()
        self.wait(0.0)
        for number in list(self.live()):
            self.catch_up(number)
        self.wait(1000.0)
        for number in list(self.live()):
            self.peers[number].read()
            self.catch_up(number)
            member = self.peers[number].member
            assert member is not None
            assert not member.behind, "it was not looked at"
        for number in list(self.live()):
            self.go(number, frozenset())
        self.flush()
        assert not self.core.members
        assert not self.core.groups
        for rib in self.core.ribs.values():
            assert not len(rib)
            assert not list(rib.prefixes())
        assert not any(len(identifiers) for identifiers in self.core.groups._identifiers.values())


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every mechanism of the log come into play at the size of a test."""
    monkeypatch.setattr(export_log, "SLACK_BATCHES", 4)
    monkeypatch.setattr(export_log, "BATCH_OCTETS", 150)
    monkeypatch.setattr(
        update_group, "ExportLog", lambda *args: export_log.ExportLog(*args, slack=Slack.octets)
    )


def test_every_view_is_exact_at_rest_and_moves_forward_on_the_way() -> None:
    ReflectorMachine.TestCase.settings = settings(
        max_examples=EXAMPLES,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes
    )
    ReflectorMachine.TestCase().runTest()
