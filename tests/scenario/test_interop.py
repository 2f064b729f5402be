"""The interop matrix: every working cell of `interop_matrix`, made to happen between real daemons.

All speakers of a session profile run at once and share the reflector. The first cell of a feature has every
make do it, side by side, and the answers are kept: one text per make, empty if all was as it should be.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.bird1 import PROGRAMS
from tests.scenario.harness.interop import LONG_AS, UNKNOWN, Found, Interop
from tests.scenario.harness.speakers import FEEDERS, JUDGE, NUMBERS, Profile, Speaker, address, prefix
from tests.scenario.harness.world import World
from tests.scenario.interop_matrix import FEATURES, MAKES, MATRIX, working

pytestmark = [
    pytest.mark.scenario,
    *(pytest.mark.peer(name) for name in ("bird", "frr", "gobgp", "openbgpd")),
]
CELLS = [
    pytest.param(feature, make, marks=[pytest.mark.peer("bird1")] if make == "bird1" else [])
    for feature, row in MATRIX.items()
    for make, cell in row.items()
    if cell.works
]
PLAIN = Profile("plain")
EXTERNAL = Profile("external", external=True, password="between-us", ttl_security=True)
UNGUARDED = Profile("unguarded", external=True)
ROLES = Profile("roles", external=True, role="customer")
ADD_PATH = Profile("add-path", add_path=True)
OLD_AS = Profile("old-as", asn4=False)
OVER_IPV6 = Profile("over-ipv6", over_ipv6=True)
WATCHED = 3.0  # seconds that a session which must not come up is watched


def up(_make: str, speaker: Speaker) -> str:
    """Whether a speaker's sessions are all Established."""
    return "" if speaker.established() else "not established"


class Matrix:
    """The cells that have been seen."""

    def __init__(self, interop: Interop, available: tuple[str, ...]) -> None:
        self.interop = interop
        self.available = available
        self._seen: dict[str, Found] = {}
        self._before: dict[str, dict[str, int]] = {}  # what each had sent before we asked for a refresh

    def seen(self, feature: str) -> Found:
        """What became of a feature, per make."""
        if feature not in self._seen:
            act: Callable[[], Found] = getattr(self, f"see_{feature}")
            self._seen[feature] = act()
        return self._seen[feature]

    def makes(self, feature: str) -> tuple[str, ...]:
        return tuple(make for make in working(feature) if make in self.available)

    def be(self, profile: Profile, makes: tuple[str, ...], key: str = "", **options: object) -> Found:
        """Enter a profile unless all is in it already; who comes up."""
        if self.interop.profile != profile:
            self.interop.enter(profile, makes, key, **options)
        return self.interop.each(up)

    def plain(self) -> Found:
        return self.be(PLAIN, self.available)

    def exact(self, timeout: float = 60.0) -> Found:
        """Whether everybody has exactly the routes of everybody else, and the judge too."""
        interop = self.interop

        def check(make: str, speaker: Speaker) -> str:
            for version in (4, 6):
                seen, wanted = speaker.routes(version), interop.wanted(make, version)
                if make == "exabgp":  # of an IPv6 pair it shows the link-local address as another next hop
                    seen = dict.fromkeys(seen, frozenset())
                    wanted = dict.fromkeys(wanted, frozenset())
                if seen != wanted:
                    return f"IPv{version}: {seen} instead of {wanted}"
                told = interop.judge.paths(version)
                if prefix(NUMBERS[make], version) not in told:
                    return f"IPv{version}: its route does not reach others"
            return ""

        return interop.each(check, timeout)

    # Over one plain internal session

    def see_ipv4(self) -> Found:
        return self.routes_both_ways(4)

    def see_ipv6(self) -> Found:
        return self.routes_both_ways(6)

    def routes_both_ways(self, version: int) -> Found:
        interop = self.interop
        self.plain()

        def check(make: str, speaker: Speaker) -> str:
            seen, wanted = speaker.routes(version), interop.wanted(make, version)
            told = interop.judge.paths(version).get(prefix(NUMBERS[make], version), {})
            hops = {path.next_hop for path in told.values()}
            own = address(NUMBERS[make], version)
            if make == "exabgp" and version == 6:
                seen = {net: wanted.get(net, hops) for net, hops in seen.items()}
            if seen != wanted:
                return f"it has {seen}, wanted {wanted}"
            linked = version == 6 and len(hops) == 1 and next(iter(hops)).startswith("fe80:")
            return "" if hops == {own} or linked else f"others have its route by {hops}, wanted {own}"

        return interop.each(check)

    def see_attributes(self) -> Found:
        interop = self.interop
        self.plain()
        spelled = ("deadbeef", "de ad be ef", "3q2+7w==")
        high, low = 65000, 98

        def check(make: str, speaker: Speaker) -> str:
            shown = speaker.shown(prefix(JUDGE))
            if make == "frr":
                onward = interop.judge.paths(4, address(NUMBERS["frr"])).get(prefix(JUDGE), {})
                shown += "".join(str(path.attributes) for path in onward.values())
            ways = (f"({high},{low})", f"{high}:{low}", f"[[{high}, {low}]]", str((high << 16) + low))
            if not any(way in shown for way in ways):
                return f"no community in {shown}"
            large = (f"({high}, 1, {low})", f"{high}:1:{low}", f"[[{high}, 1, {low}]]", '"LocalData2": 98')
            if not any(way in shown for way in large):
                return f"no large community in {shown}"
            if not any(way in shown for way in spelled):
                return f"attribute {UNKNOWN} is not in {shown}"
            number = NUMBERS[make]
            for path in interop.judge.paths(4)[prefix(number)].values():
                told = path.attributes
                if told.get("community") != [[high, number]] or told.get("large-community") != [
                    [high, 1, number]
                ]:
                    return f"others see its route with {told}"
            return ""

        return interop.each(check)

    def see_refresh_asked(self) -> Found:
        interop = self.interop
        self.plain()
        before = {make: interop.peer(make)["messages_received"]["route_refresh"] for make in interop.makes}
        for make in self.makes("refresh_asked"):
            interop.speakers[make].ask_refresh()

        def check(make: str, _speaker: Speaker) -> str:
            asked = interop.peer(make)["messages_received"]["route_refresh"]
            return "" if asked > before[make] else "we never heard it ask"

        return merged(interop.each(check, makes=self.makes("refresh_asked")), self.exact())

    def see_refresh_answered(self) -> Found:
        """Another import rule makes us ask; each sends its routes again."""
        interop = self.interop
        self.plain()
        self._before = {make: interop.peer(make)["messages_received"] for make in interop.makes}
        interop.reflector.configure(interop.configuration(PLAIN, allowedOwnAs=1))

        def check(make: str, _speaker: Speaker) -> str:
            updates = interop.peer(make)["messages_received"]["update"]
            return "" if updates > self._before[make]["update"] else "it sends nothing again"

        return merged(interop.each(check, makes=self.makes("refresh_answered")), self.exact())

    def see_enhanced_refresh(self) -> Found:
        """Its marks have come with its answer to us; ours are in its log or its counters."""
        interop = self.interop
        answered = merged(self.seen("refresh_asked"), self.seen("refresh_answered"))
        ours = {
            "bird2": "Got BEGIN-OF-RR",
            "bird1": "Got BEGIN-OF-RR",
            "frr": "(EoRR) for IPv6/unicast, stopping",
            "exabgp": '"subtype": "begin"',
        }

        def check(make: str, speaker: Speaker) -> str:
            wanted = 2 if make == "bird1" else 4
            came = interop.peer(make)["messages_received"]["route_refresh"]
            came -= self._before[make]["route_refresh"]
            if came < wanted:
                return f"{came} marks came instead of {wanted}"
            return "" if ours[make] in speaker.log() else f"no mark of ours in {speaker.log()}"

        return merged(answered, interop.each(check, makes=self.makes("enhanced_refresh")))

    def see_their_communication(self) -> Found:
        interop = self.interop
        self.plain()
        makes = self.makes("their_communication")
        for make in makes:
            interop.speakers[make].shut_down(f"{make} says goodbye")

        def heard(make: str, _speaker: Speaker) -> str:
            ends = [e["reason"] for e in interop.reflector.log_lines() if e["event"] == "session down"]
            return "" if any(f"{make} says goodbye" in end for end in ends) else f"our log says {ends}"

        found = interop.each(heard, makes=makes)
        for make in makes:
            interop.speakers[make].open_again()
        return merged(found, interop.each(up), self.exact())

    def see_max_prefix(self) -> Found:
        interop = self.interop
        self.plain()
        interop.reflector.configure(interop.configuration(PLAIN, maxPrefixes={"limit": 1}))

        def ended(make: str, speaker: Speaker) -> str:
            peer = interop.peer(make)
            if peer["state"] != "IDLE" or "maximum prefixes" not in peer["last_reason"]:
                return f"{peer['state']}: {peer['last_reason']}"
            return "it thinks the session is up" if make != "bird1" and speaker.established() else ""

        found = interop.each(ended)
        interop.reflector.configure(interop.configuration(PLAIN))
        return merged(found, interop.each(up), self.exact())

    def see_peer_restart(self) -> Found:
        """All are killed at once: the judge must not hear of it. Those without the feature come back too."""
        interop = self.interop
        self.plain()
        self.exact()
        makes = self.makes("peer_restart")
        before = len(interop.judge.events())
        for make in interop.makes:
            interop.speakers[make].kill()
        interop.world.wait_until(
            "the reflector missing them", lambda: all(interop.peer(make)["restarting"] for make in makes)
        )
        kept = {make: {prefix(NUMBERS[make], v) for v in (4, 6)} for make in makes}
        for make in interop.makes:
            interop.speakers[make].restart()
        found = merged(interop.each(up), self.exact())

        def swept(make: str, _speaker: Speaker) -> str:
            return "still restarting" if interop.peer(make)["restarting"] else ""

        found = merged(found, interop.each(swept, makes=makes))
        withdrawn = interop.judge.withdrawn(before)
        return {
            make: found[make] or (f"{lost} was withdrawn" if (lost := kept[make] & withdrawn) else "")
            for make in makes
        }

    def see_our_restart(self) -> Found:
        """We are killed; meanwhile a route ends. Nobody may lose another one, and that one must go."""
        interop = self.interop
        self.plain()
        self.exact()
        makes = self.makes("our_restart")
        gone = prefix(JUDGE)
        wanted = {make: {v: set(interop.wanted(make, v)) - {gone} for v in (4, 6)} for make in makes}
        lost = dict.fromkeys(makes, "")
        interop.reflector.program.kill()
        interop.judge.say(f"withdraw route {gone} next-hop {address(JUDGE)}")
        deadline = time.monotonic() + 1.5

        def check(make: str, speaker: Speaker) -> str:
            for version in (4, 6):
                missing = wanted[make][version] - set(speaker.routes(version))
                if missing:
                    lost[make] = lost[make] or f"it lost {missing}"
                    return ""
            if time.monotonic() < deadline or not speaker.established():
                return "not back yet"
            for version in (4, 6):
                extra = set(speaker.routes(version)) - wanted[make][version]
                if extra:
                    return f"{extra} is still there"
            return ""

        interop.each(check, 1.5, makes)
        interop.reflector.restart()
        found = merged(interop.each(check, makes=makes), lost)
        interop.profile = None  # the judge's route is gone: whoever comes next begins anew
        return found

    def see_our_communication(self) -> Found:
        interop = self.interop
        self.plain()
        interop.reflector.program.stop()

        def check(_make: str, speaker: Speaker) -> str:
            return "" if "stopped by the operator" in speaker.log() else f"not in {speaker.log()[-600:]}"

        found = interop.each(check)
        interop.profile = None
        return found

    # Over sessions of other kinds

    def see_external(self) -> Found:
        self.external()
        interop = self.interop

        def check(make: str, speaker: Speaker) -> str:
            number = NUMBERS[make]
            told = interop.judge.paths(4).get(prefix(number), {})
            if not told:
                return "its route does not reach the judge"
            path = next(iter(told.values())).attributes.get("as-path")
            first = path["0"]["value"][0] if path else None
            if first != EXTERNAL.asn(number):
                return f"its route has the path {path}"
            shown = speaker.shown(prefix(JUDGE))
            dotted = f"{LONG_AS >> 16}.{LONG_AS & 0xFFFF}"
            return "" if str(LONG_AS) in shown or dotted in shown else f"it has {shown}"

        return interop.each(check)

    def external(self) -> Found:
        return self.be(EXTERNAL, self.available)

    def see_md5(self) -> Found:
        return self.external()

    def see_gtsm(self) -> Found:
        return self.external()

    def see_md5_wrong(self) -> Found:
        self.interop.enter(EXTERNAL, self.available, key="another-key")
        found = self.stay_down()
        self.interop.options.clear()  # the right key: they come up at once, for they were trying all the time
        self.interop.reflector.configure(self.interop.configuration(EXTERNAL))
        patient = [make for make in self.available if make != "openbgpd"]  # which waits two minutes
        return merged(found, self.interop.each(up, makes=patient))

    def see_gtsm_missing(self) -> Found:
        self.interop.enter(UNGUARDED, self.available, ttlSecurity=1)
        found = self.stay_down()
        self.interop.profile = None
        return found

    def stay_down(self) -> Found:
        """Watch for a while; the judge, whose session is as it should be, shows that the reflector serves."""
        interop = self.interop
        interop.world.wait_until("the judge up", lambda: interop.judge.sessions().get("10.1.0.1"))
        found = dict.fromkeys(interop.makes, "")
        deadline = time.monotonic() + WATCHED
        while time.monotonic() < deadline:
            ours = interop.reflector.sessions()
            for make in interop.makes:
                if ours[address(NUMBERS[make])]:
                    found[make] = "the session came up"
            time.sleep(0.2)
        return found

    def see_role(self) -> Found:
        interop = self.interop
        interop.enter(ROLES, self.makes("role"), role="provider", strictRole=True)
        found = interop.each(up)
        interop.reflector.configure(interop.configuration(ROLES, role="peer", strictRole=True))

        def refused(make: str, _speaker: Speaker) -> str:
            peer = interop.peer(make)
            return "" if not peer["established"] and "we are PEER" in peer["last_reason"] else str(peer)

        return merged(found, interop.each(refused))

    def see_add_path_receive(self) -> Found:
        self.be(ADD_PATH, self.available)

        def check(_make: str, speaker: Speaker) -> str:
            count = speaker.path_count(prefix(JUDGE))
            return "" if count == 2 else f"{count} paths"

        return self.interop.each(check)

    def see_add_path_send(self) -> Found:
        self.be(ADD_PATH, self.available)
        interop = self.interop

        def check(make: str, _speaker: Speaker) -> str:
            number = NUMBERS[make]
            fed = make in ("frr", "openbgpd")
            net = f"10.9{number}.1.0/24" if fed else prefix(number)
            paths = interop.judge.paths(4).get(net, {})
            hops = {path.next_hop for path in paths.values()}
            if fed and hops != {address(feeder) for feeder in FEEDERS}:
                return f"next hops {hops}"
            return "" if len(paths) == 2 else f"{len(paths)} paths"

        return interop.each(check)

    def see_old_as(self) -> Found:
        self.be(OLD_AS, self.makes("old_as"))
        interop = self.interop

        def check(make: str, speaker: Speaker) -> str:
            shown = speaker.shown(prefix(JUDGE))
            dotted = f"{LONG_AS >> 16}.{LONG_AS & 0xFFFF}"
            if str(LONG_AS) not in shown and dotted not in shown and "23456" not in shown:
                return f"it has {shown}"
            return "" if prefix(NUMBERS[make]) in interop.judge.paths(4) else "its route does not come"

        return interop.each(check)

    def see_extended_next_hop(self) -> Found:
        self.be(OVER_IPV6, self.makes("extended_next_hop"))
        interop = self.interop

        def check(make: str, speaker: Speaker) -> str:
            hops = speaker.routes(4).get(prefix(JUDGE), frozenset())
            if address(JUDGE, 6) not in hops:
                return f"it has the judge's IPv4 route by {hops or 'nothing'}"
            told = interop.judge.paths(4).get(prefix(NUMBERS[make]), {})
            theirs = {path.next_hop for path in told.values()}
            return (
                "" if theirs and all(":" in hop for hop in theirs) else f"others have its route by {theirs}"
            )

        return interop.each(check)


def merged(*found: Found) -> Found:
    """The first complaint about each make."""
    makes = {make for part in found for make in part}
    return {make: next((part[make] for part in found if part.get(make)), "") for make in makes}


@pytest.fixture(scope="module")
def matrix() -> Iterator[Matrix]:
    makes = tuple(make for make in MAKES if make != "bird1" or PROGRAMS.is_dir())
    with World("interop") as world:
        yield Matrix(Interop(world), makes)


@pytest.mark.parametrize(("feature", "make"), CELLS)
def test_interop_cell(matrix: Matrix, feature: str, make: str) -> None:
    assert matrix.seen(feature)[make] == ""


def test_every_feature_is_looked_at() -> None:
    for feature in FEATURES:
        assert hasattr(Matrix, f"see_{feature}")
        assert set(MATRIX[feature]) == set(MAKES)
        assert all(cell.works or cell.note for cell in MATRIX[feature].values())
