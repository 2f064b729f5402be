"""The network of the interop matrix: a reflector, one speaker of each make, and a judge.

All live on one segment. The judge is an ExaBGP that is a client of the reflector too: it announces routes
with everything that has to pass unchanged, and its record of events shows what the reflector told and
whether anything was withdrawn meanwhile. To FRR and OpenBGPD it has two more sessions, as two other ASes:
their source of several paths, and where FRR's own re-export can be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.scenario.harness.cairn import Reflector
from tests.scenario.harness.exabgp import ExaBgp
from tests.scenario.harness.speakers import (
    ASN,
    FEEDERS,
    JUDGE,
    MAKES,
    NUMBERS,
    REFLECTOR,
    Profile,
    Speaker,
    SpeakingFrr,
    address,
    exabgp_neighbor,
    prefix,
)
from tests.scenario.harness.world import NOT_YET, Host, World

JUDGED = "community 65000:98 large-community 65000:1:98 attribute [ 0x63 0xe0 0xdeadbeef ]"
UNKNOWN = 0x63
LONG_AS = 4200000098
Found = dict[str, str]


class Interop:
    """Everything of the matrix. `enter` brings all speakers into another kind of session."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.makes: tuple[str, ...] = ()
        self.profile: Profile | None = None
        self.speakers: dict[str, Speaker] = {}
        self.hosts: dict[str, Host] = {}
        self.options: dict[str, Any] = {}
        world.segment("lan")
        for name, number in {"rr": 1, "judge": JUDGE, **NUMBERS}.items():
            self.hosts[name] = world.host(name, router=True)
            world.attach("lan", self.hosts[name], "eth0", f"10.1.0.{number}/24", f"fd10:1::{number}/64")
        self.hosts["judge"].ip(*(f"addr add {address(f)}/24 dev eth0" for f in FEEDERS))
        self._reflector: Reflector | None = None
        self._judge: ExaBgp | None = None
        self._frr: SpeakingFrr | None = None

    @property
    def reflector(self) -> Reflector:
        assert self._reflector is not None
        return self._reflector

    @property
    def judge(self) -> ExaBgp:
        assert self._judge is not None
        return self._judge

    # Sessions

    def configuration(self, profile: Profile, **options: Any) -> dict[str, Any]:
        """The reflector's file: every make a peer, with `options` on top; the judge a client."""
        secret = self.hosts["rr"].directory / "secret"
        peers: list[dict[str, Any]] = []
        for make in self.makes:
            number = NUMBERS[make]
            versions = (4, 6) if make == "bird1" else (6,) if profile.over_ipv6 else (4,)
            for version in versions:
                peer: dict[str, Any] = {
                    "address": address(number, version),
                    "asn": profile.asn(number),
                    "gracefulRestartTime": 60,
                }
                if profile.external:
                    peer |= {"withoutPolicy": "accept"}
                if profile.password:
                    peer["password"] = {"file": str(secret)}
                if profile.ttl_security:
                    peer["ttlSecurity"] = 1
                if profile.add_path:
                    peer["addPath"] = {"receive": True, "send": 4}
                peers.append(peer | options)
        if profile.password:
            secret.write_text(self.options.get("key", profile.password))
        judge = {
            "address": address(JUDGE),
            "addPath": {"receive": True, "send": 8 if profile.add_path else 0},
        }
        return {
            "asn": ASN,
            "routerId": "10.255.255.254",
            "listen": [{"address": a} for a in REFLECTOR.values()],
            "peers": [judge, *peers],
            "http": {"port": Reflector.port},
        }

    def enter(self, profile: Profile, makes: Iterable[str], key: str = "", **options: Any) -> None:
        """End all sessions and begin those of another profile. `key`: the reflector's, if it differs."""
        self.leave()
        self.profile = profile
        self.makes = tuple(makes)
        self.options = {"key": key} if key else {}
        rr, judge = self.hosts["rr"], self.hosts["judge"]
        configuration = self.configuration(profile, **options)
        if self._reflector is None:
            self._reflector = Reflector(rr, configuration)
        else:
            self._reflector.write(configuration)
            self._reflector.restart()
        self._judge = ExaBgp(judge, self._judge_configuration(profile))
        for make in self.makes:
            if make == "frr":
                self._frr = SpeakingFrr(self.hosts[make], profile, self._frr)
                self.speakers[make] = self._frr
            else:
                self.speakers[make] = MAKES[make](self.hosts[make], profile)  # type: ignore[assignment]  # one of many
        self.world.wait_until("the reflector ready", self.reflector.ready)

    def _judge_configuration(self, profile: Profile) -> str:
        plain = Profile("judge", add_path=profile.add_path, over_ipv6=profile.over_ipv6)
        ids = ("path-information 0.0.0.1", "path-information 0.0.0.2") if profile.add_path else ("",)
        hops = (address(JUDGE, 6 if profile.over_ipv6 else 4), address(81))
        lines = [
            f"route {prefix(JUDGE)} {i} next-hop {hop} as-path [ {LONG_AS} 65098 ] {JUDGED};"
            for i, hop in zip(ids, hops, strict=False)
        ]
        lines.append(f"route {prefix(JUDGE, 6)} {ids[0]} next-hop {address(JUDGE, 6)} {JUDGED};")
        text = exabgp_neighbor(address(JUDGE), REFLECTOR[4], ASN, ASN, JUDGE, " ".join(lines), plain)
        for make in ("frr", "openbgpd"):
            if make not in self.makes:
                continue
            number = NUMBERS[make]
            for feeder, asn in FEEDERS.items():
                route = f"route 10.9{number}.1.0/24 next-hop {address(feeder)};" if profile.add_path else ""
                text += exabgp_neighbor(
                    address(feeder),
                    address(number),
                    asn,
                    profile.asn(number),
                    feeder,
                    route,
                    Profile("feeder"),
                )
        return text

    def leave(self) -> None:
        """Stop everything but zebra, also what an earlier failure left behind."""
        self.speakers.clear()
        for program in self.world.programs:
            if not program.name.endswith("/zebra"):
                program.close()
        self.world.programs[:] = [program for program in self.world.programs if program.returncode is None]

    # Questions

    def each(
        self, check: Callable[[str, Speaker], str], timeout: float = 60.0, makes: Iterable[str] | None = None
    ) -> Found:
        """Ask for every make until the answer is "" (all is well) or the time is over: the last answers."""
        waiting = dict.fromkeys(self.makes if makes is None else makes, "never asked")
        found: Found = {}
        deadline = time.monotonic() + timeout
        while waiting:
            for make in list(waiting):
                try:
                    said = check(make, self.speakers[make])
                except NOT_YET as error:
                    said = repr(error)
                waiting[make] = found[make] = said
                if not said:
                    del waiting[make]
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        return found

    def wanted(self, make: str, version: int) -> dict[str, frozenset[str]]:
        """What a make holds when all is exchanged."""
        found = {
            prefix(NUMBERS[other], version): frozenset({address(NUMBERS[other], version)})
            for other in self.makes
            if other != make
        }
        found[prefix(JUDGE, version)] = frozenset({address(JUDGE, version)})
        if version == 4 and make != "bird1" and "bird1" in self.makes:
            found["10.96.1.0/24"] = frozenset({address(NUMBERS["bird1"])})
        return found

    def peer(self, make: str) -> dict[str, Any]:
        """What our status says of a make."""
        assert self.profile is not None
        wanted = address(NUMBERS[make], 6 if self.profile.over_ipv6 else 4)
        peers = self.reflector.api("peers")["peers"]
        return next(peer for peer in peers if peer["address"] == wanted)
