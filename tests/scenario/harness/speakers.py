"""Every make of BGP speaker as a peer of the reflector at 10.1.0.1, behind one interface.

A `Profile` says what kind of session is wanted; each make spells it in its own configuration. A speaker
of number N lives at 10.1.0.N and fd10:1::N and announces 10.9N.0.0/24 and fd9N::/64 with the community
65000:N and the large community 65000:1:N; with add-path also a second path of its IPv4 prefix.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Protocol

from tests.scenario.harness.bird import Bird, preamble
from tests.scenario.harness.bird1 import Bird1
from tests.scenario.harness.exabgp import ExaBgp
from tests.scenario.harness.frr import Frr
from tests.scenario.harness.gobgp import GoBgp
from tests.scenario.harness.openbgpd import OpenBgpd
from tests.scenario.harness.world import Host

ASN = 65000
REFLECTOR = {4: "10.1.0.1", 6: "fd10:1::1"}
NUMBERS = {"bird2": 2, "frr": 3, "gobgp": 4, "openbgpd": 5, "bird1": 6, "exabgp": 7}
JUDGE = 8
FEEDERS = {81: 64981, 82: 64982}
"""The judge's further addresses, each an AS of its own: where FRR and OpenBGPD get two paths from."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of session all speakers have with the reflector."""

    name: str
    external: bool = False  # AS 4200000000 + number
    password: str = ""
    ttl_security: bool = False
    add_path: bool = False
    asn4: bool = True
    role: str = ""  # theirs
    over_ipv6: bool = False  # an IPv6 session, IPv4 routes with IPv6 next hops (RFC 8950)

    def asn(self, number: int) -> int:
        """The AS number of a speaker."""
        return 4200000000 + number if self.external else ASN


def address(number: int, version: int = 4) -> str:
    """Where a speaker lives."""
    return f"10.1.0.{number}" if version == 4 else f"fd10:1::{number}"


def prefix(number: int, version: int = 4) -> str:
    """What it announces."""
    return f"10.9{number}.0.0/24" if version == 4 else f"fd9{number}::/64"


class Speaker(Protocol):
    """What the matrix asks of every make."""

    def established(self) -> bool: ...
    def routes(self, version: int) -> dict[str, frozenset[str]]: ...
    def path_count(self, prefix: str) -> int: ...
    def shown(self, prefix: str) -> str:
        """How the make shows a route with its attributes; spelling differs."""

    def ask_refresh(self) -> None: ...
    def shut_down(self, words: str) -> None:
        """End the session with a shutdown communication."""

    def open_again(self) -> None: ...
    def kill(self) -> None:
        """SIGKILL, without a word."""

    def restart(self) -> None:
        """Start again as after a crash, with graceful restart if the make has it."""

    def stop(self) -> None: ...
    def log(self) -> str:
        """What it has logged, and what it says of the session."""


def _session(version: int, profile: Profile) -> str:
    return REFLECTOR[6 if profile.over_ipv6 else version]


def _bird_bgp(name: str, number: int, version: int, profile: Profile, options: str, channels: str) -> str:
    transport = 6 if profile.over_ipv6 else version
    return f"""
protocol bgp {name} {{
    local {address(number, transport)} as {profile.asn(number)}; neighbor {REFLECTOR[transport]} as {ASN};
    direct; connect retry time 1; connect delay time 1; error wait time 1, 2; graceful restart on;
    {f'password "{profile.password}";' if profile.password else ""}
    {"ttl security on;" if profile.ttl_security else ""}
    {"" if profile.asn4 else "enable as4 off;"}
    {options}
    {channels}
}}
"""


def _bird_static(number: int, version: int, *, two: bool, channel: str, more: tuple[str, ...] = ()) -> str:
    nets = [prefix(number, version), *more]
    via = address(9, version)
    text = (
        f"protocol static own{version} {{ {channel} " + "".join(f"route {n} via {via};" for n in nets) + "}\n"
    )
    if two:
        text += f"protocol static other{version} {{ {channel} preference 150; route {nets[0]} via {via}; }}\n"
    return text


def _bird_filter(number: int, version: int, *, set_hop: bool) -> str:
    hop = f"bgp_next_hop = {address(number, version)};" if set_hop else ""
    return f"""filter {{
        if source != RTS_STATIC then reject;
        bgp_community.add((65000, {number})); bgp_large_community.add((65000, 1, {number}));
        bgp_med = preference; {hop}
        accept;
    }}"""


class SpeakingBird:
    """BIRD 2."""

    number = NUMBERS["bird2"]

    def __init__(self, host: Host, profile: Profile) -> None:
        n = self.number
        paths = "add paths on;" if profile.add_path else ""
        hop6 = "next hop self; extended next hop on;" if profile.over_ipv6 else "next hop self;"
        channels = f"""
    ipv4 {{ import all; {hop6} {paths} export {_bird_filter(n, 4, set_hop=False)}; }};
    ipv6 {{ import all; {paths} export {_bird_filter(n, 6, set_hop=True)}; }};"""
        role = f"local role {profile.role};" if profile.role else ""
        statics = "".join(
            _bird_static(n, v, two=profile.add_path and v == 4, channel=c)
            for v, c in ((4, "ipv4;"), (6, "ipv6;"))
        ).replace("ipv4; preference 150;", "ipv4 { preference 150; };")
        self._bird = Bird(
            host,
            preamble(address(n), kernel=False)
            + statics
            + _bird_bgp("reflector", n, 4, profile, role + "debug { states, packets };", channels),
        )

    def established(self) -> bool:
        return all(self._bird.sessions().values())

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return self._bird.routes(version)

    def path_count(self, prefix: str) -> int:
        return self.shown(prefix).count("BGP.origin:")

    def shown(self, prefix: str) -> str:
        return self._bird.command(f"show route for {prefix} all")

    def ask_refresh(self) -> None:
        self._bird.command("reload in reflector")

    def shut_down(self, words: str) -> None:
        self._bird.command(f'disable reflector "{words}"')

    def open_again(self) -> None:
        self._bird.command("enable reflector")

    def kill(self) -> None:
        self._bird.program.kill()

    def restart(self) -> None:
        self._bird.restart("-R")

    def stop(self) -> None:
        self._bird.program.close()

    def log(self) -> str:
        return self._bird.program.tail(400)


class SpeakingBird1:
    """BIRD 1.6: two daemons, two sessions."""

    number = NUMBERS["bird1"]

    def __init__(self, host: Host, profile: Profile) -> None:
        n = self.number
        paths = "add paths on;" if profile.add_path else ""
        texts = {}
        for v in (4, 6):
            more = ("10.96.1.0/24",) if v == 4 else ()
            channel = f"import all; next hop self; {paths} export {_bird_filter(n, v, set_hop=False)};"
            texts[v] = (
                f"log stderr all; router id {address(n)}; protocol device {{ scan time 2; }}\n"
                "protocol direct { }\n"
                + _bird_static(n, v, two=profile.add_path and v == 4, channel="", more=more)
                + _bird_bgp("reflector", n, v, profile, "debug { states, packets };", channel)
            )
        self._bird = Bird1(host, texts)

    def established(self) -> bool:
        return self._bird.sessions() == {REFLECTOR[4]: True, REFLECTOR[6]: True}

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return self._bird.routes(version)

    def path_count(self, prefix: str) -> int:
        return self.shown(prefix).count("BGP.origin:")

    def shown(self, prefix: str) -> str:
        return self._bird.command(6 if ":" in prefix else 4, f"show route for {prefix} all")

    def _both(self, command: str) -> None:
        for version in (4, 6):
            self._bird.command(version, command)

    def ask_refresh(self) -> None:
        self._both("reload in reflector")

    def shut_down(self, words: str) -> None:
        self._both(f'disable reflector "{words}"')

    def open_again(self) -> None:
        self._both("enable reflector")

    def kill(self) -> None:
        self._bird.kill()

    def restart(self) -> None:
        self._bird.restart()

    def stop(self) -> None:
        for program in self._bird.programs.values():
            program.close()

    def log(self) -> str:
        return "\n".join(program.tail(400) for program in self._bird.programs.values())


class SpeakingFrr:
    """FRR."""

    number = NUMBERS["frr"]

    def __init__(self, host: Host, profile: Profile, before: SpeakingFrr | None = None) -> None:
        self._peer = _session(4, profile)
        text = self._configuration(profile)
        if before is not None:
            self._frr: Frr = before._frr
            self._frr.configure(text)
            self._frr.restart_bgpd()
        else:
            self._frr = Frr(host, text)

    def _configuration(self, profile: Profile) -> str:
        n, peer = self.number, self._peer
        lines = [
            "log stdout debugging",
            "debug bgp neighbor-events",
            f"router bgp {profile.asn(n)}",
            f" bgp router-id {address(n)}",
            *(" no bgp default ipv4-unicast", " no bgp network import-check", " no bgp ebgp-requires-policy"),
            *(" bgp graceful-restart", " bgp graceful-restart preserve-fw-state"),
            f" neighbor {peer} remote-as {ASN}",
            f" neighbor {peer} timers connect 1",
        ]
        if profile.password:
            lines.append(f" neighbor {peer} password {profile.password}")
        if profile.ttl_security:
            lines.append(f" neighbor {peer} ttl-security hops 1")
        elif profile.external:
            lines.append(f" neighbor {peer} disable-connected-check")
        if profile.role:
            lines.append(f" neighbor {peer} local-role {profile.role}")
        if not profile.asn4:
            lines.append(f" neighbor {peer} dont-capability-negotiate")
        if profile.over_ipv6:
            lines.append(f" neighbor {peer} capability extended-nexthop")
        for feeder, asn in FEEDERS.items():
            lines += [
                f" neighbor {address(feeder)} remote-as {asn}",
                f" neighbor {address(feeder)} timers connect 1",
            ]
        for v in (4, 6):
            lines += [f" address-family ipv{v} unicast", f"  neighbor {peer} activate"]
            lines += [f"  neighbor {peer} route-map OUT{v} out", f"  network {prefix(n, v)}"]
            if profile.add_path:
                lines.append(f"  neighbor {peer} addpath-tx-all-paths")
            if v == 4:
                lines += [f"  neighbor {address(feeder)} activate" for feeder in FEEDERS]
            lines.append(" exit-address-family")
        for v in (4, 6):
            lines += [
                f"route-map OUT{v} permit 10",
                f" set community 65000:{n} additive",
                f" set large-community 65000:1:{n} additive",
            ]
            if v == 6:
                lines.append(f" set ipv6 next-hop global {address(n, 6)}")
        return "\n".join(lines)

    def established(self) -> bool:
        return self._frr.sessions()[self._peer]

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return self._frr.routes(version)

    def path_count(self, prefix: str) -> int:
        version = 6 if ":" in prefix else 4
        return len(self._frr.show(f"bgp ipv{version} unicast {prefix}")["paths"])

    def shown(self, prefix: str) -> str:
        return self._frr.command(f"show bgp ipv{6 if ':' in prefix else 4} unicast {prefix}")

    def ask_refresh(self) -> None:
        self._frr.command(f"clear bgp {self._peer} soft in", f"clear bgp ipv6 unicast {self._peer} soft in")

    def shut_down(self, words: str) -> None:
        self._configure(f"neighbor {self._peer} shutdown message {words}")

    def open_again(self) -> None:
        self._configure(f"no neighbor {self._peer} shutdown")

    def _configure(self, line: str) -> None:
        self._frr.command("configure terminal", "router bgp", line)

    def kill(self) -> None:
        self._frr.bgpd.kill()

    def restart(self) -> None:
        self._frr.restart_bgpd()

    def stop(self) -> None:
        self._frr.bgpd.close()

    def log(self) -> str:
        return self._frr.bgpd.tail(400) + self._frr.command(f"show bgp neighbors {self._peer}")


class SpeakingGoBgp:
    """GoBGP."""

    number = NUMBERS["gobgp"]

    def __init__(self, host: Host, profile: Profile) -> None:
        n = self.number
        self._peer = _session(4, profile)
        self._profile = profile
        family = {
            "mp-graceful-restart": {"config": {"enabled": True}},
        }
        if profile.add_path:
            family["add-paths"] = {"config": {"receive": True, "send-max": 8}}  # type: ignore[dict-item]  # values of many types
        neighbor: dict[str, object] = {
            "config": {"neighbor-address": self._peer, "peer-as": ASN}
            | ({"auth-password": profile.password} if profile.password else {}),
            "timers": {"config": {"connect-retry": 1, "idle-hold-time-after-reset": 1}},
            "graceful-restart": {"config": {"enabled": True, "restart-time": 60, "deferral-time": 10}},
            "afi-safis": [{"config": {"afi-safi-name": f"ipv{v}-unicast"}, **family} for v in (4, 6)],
        }
        if profile.ttl_security:
            neighbor["ttl-security"] = {"config": {"enabled": True, "ttl-min": 255}}
        text = json.dumps(
            {"global": {"config": {"as": profile.asn(n), "router-id": address(n)}}, "neighbors": [neighbor]}
        )
        self._gobgp = GoBgp(host, text)
        self._announce()

    def _announce(self) -> None:
        host = self._gobgp.host
        host.world.wait_until("GoBGP answering", lambda: self._gobgp.sessions() or True)
        more = ("community", f"65000:{self.number}", "large-community", f"65000:1:{self.number}")
        self._gobgp.announce(
            prefix(self.number), address(self.number, 6 if self._profile.over_ipv6 else 4), *more
        )
        self._gobgp.announce(prefix(self.number, 6), address(self.number, 6), *more)
        if self._profile.add_path:
            self._gobgp.announce(prefix(self.number), address(9), "identifier", "10", *more)

    def established(self) -> bool:
        return all(self._gobgp.sessions().values())

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return self._gobgp.routes(version)

    def path_count(self, prefix: str) -> int:
        return len(self._gobgp.paths(6 if ":" in prefix else 4).get(prefix, ()))

    def shown(self, prefix: str) -> str:
        return json.dumps(self._gobgp.paths(6 if ":" in prefix else 4).get(prefix, ()))

    def ask_refresh(self) -> None:
        self._gobgp.command("neighbor", self._peer, "softresetin")

    def shut_down(self, words: str) -> None:
        self._gobgp.command("neighbor", self._peer, "shutdown", "--reason", words)

    def open_again(self) -> None:
        self._gobgp.command("neighbor", self._peer, "enable")

    def kill(self) -> None:
        self._gobgp.program.kill()

    def restart(self) -> None:
        self._gobgp.restart("-r")
        self._announce()

    def stop(self) -> None:
        self._gobgp.program.close()

    def log(self) -> str:
        return self._gobgp.program.tail(400)


class SpeakingOpenBgpd:
    """OpenBGPD."""

    number = NUMBERS["openbgpd"]

    def __init__(self, host: Host, profile: Profile) -> None:
        n = self.number
        self._peer = _session(4, profile)
        more = []
        if profile.password:
            more.append(f'tcp md5sig password "{profile.password}"')
        if profile.ttl_security:
            more.append("ttl-security yes")
        if profile.add_path:
            more += ["announce add-path recv yes", "announce add-path send all"]
        if not profile.asn4:
            more.append("announce as-4byte no")
        if profile.role:
            said = subprocess.run(["/usr/sbin/bgpd", "-V"], capture_output=True, text=True, check=True)
            old = "OpenBGPD 7." in said.stdout + said.stderr
            policy = f"announce policy {profile.role}"
            more += [policy] if old else [f"role {profile.role}", "announce policy yes"]
        feeders = "".join(
            f"neighbor {address(f)} {{\n remote-as {asn}\n local-address {address(n)}\n"
            " announce IPv4 unicast\n}\n"
            for f, asn in FEEDERS.items()
        )
        asn = profile.asn(n)
        dotted = f"{asn >> 16}.{asn & 0xFFFF}" if asn > 65535 else str(asn)
        text = f"""
AS {dotted}
router-id {address(n)}
network {prefix(n)}
network {prefix(n, 6)}
neighbor {self._peer} {{
    remote-as {ASN}
    local-address {address(n, 6 if profile.over_ipv6 else 4)}
    announce IPv4 unicast
    announce IPv6 unicast
    announce enhanced refresh yes
    {chr(10).join(more)}
}}
{feeders}
allow from any
allow to any
match to {self._peer} set {{ community 65000:{n} large-community 65000:1:{n} }}
match to {self._peer} prefix {prefix(n, 6)} set nexthop {address(n, 6)}
"""
        self._text = text
        self._openbgpd = OpenBgpd(host, text)
        self._cleared = time.monotonic()

    def established(self) -> bool:
        state = self._openbgpd.states()[self._peer]
        # Held idle it would try again after half a minute, then one, then two; cleared, when the reflector
        # comes, or by itself after five seconds. What is under way is left alone: clearing would end it.
        if state == "Idle" and time.monotonic() > self._cleared + 8.0:
            self._cleared = time.monotonic()
            self._openbgpd.command("neighbor", self._peer, "clear")
        return state == "Established"

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return self._openbgpd.routes(version)

    def path_count(self, prefix: str) -> int:
        return len(self._openbgpd.show("rib", prefix).get("rib", ()))

    def shown(self, prefix: str) -> str:
        return self._openbgpd.command("show", "rib", "detail", prefix)

    def ask_refresh(self) -> None:
        self._openbgpd.command("neighbor", self._peer, "refresh")

    def shut_down(self, words: str) -> None:
        self._openbgpd.command("neighbor", self._peer, "down", words)

    def open_again(self) -> None:
        self._openbgpd.command("neighbor", self._peer, "up")

    def kill(self) -> None:
        self._openbgpd.program.kill()

    def restart(self) -> None:
        self._openbgpd = OpenBgpd(self._openbgpd.host, self._text)

    def stop(self) -> None:
        self._openbgpd.program.close()

    def log(self) -> str:
        return self._openbgpd.program.tail(400) + self._openbgpd.command("show", "neighbor", self._peer)


def exabgp_neighbor(
    local: str, peer: str, asn: int, peer_asn: int, number: int, static: str, profile: Profile
) -> str:
    """One neighbor of an ExaBGP."""
    mixed = "nexthop { ipv4 unicast ipv6; }" if profile.over_ipv6 else ""
    options = [f"md5-password {profile.password};"] if profile.password else []
    if profile.ttl_security:
        options += ["outgoing-ttl 255;", "incoming-ttl 255;"]
    return f"""
neighbor {peer} {{
    router-id {address(number)}; local-address {local}; local-as {asn}; peer-as {peer_asn};
    hold-time 90; {" ".join(options)}
    capability {{ graceful-restart 120; route-refresh enable; asn4 {"enable" if profile.asn4 else "disable"};
        add-path {"send/receive" if profile.add_path else "disable"};
        {"nexthop enable;" if profile.over_ipv6 else ""} }}
    family {{ ipv4 unicast; ipv6 unicast; }}
    {mixed}
    @API@
    static {{ {static} }}
}}
"""


class SpeakingExaBgp:
    """ExaBGP."""

    number = NUMBERS["exabgp"]

    def __init__(self, host: Host, profile: Profile) -> None:
        n = self.number
        v6 = profile.over_ipv6
        self._peer = _session(4, profile)
        more = f"community 65000:{n} large-community 65000:1:{n}"
        hop = address(n, 6 if v6 else 4)
        ids = ("path-information 0.0.0.1", "path-information 0.0.0.2") if profile.add_path else ("",)
        static = "".join(f"route {prefix(n)} {i} next-hop {hop} {more};" for i in ids)
        static += f"route {prefix(n, 6)} {ids[0]} next-hop {address(n, 6)} {more};"
        self._exabgp = ExaBgp(
            host,
            exabgp_neighbor(address(n, 6 if v6 else 4), self._peer, profile.asn(n), ASN, n, static, profile),
        )

    def established(self) -> bool:
        return self._exabgp.sessions() == {self._peer: True}

    def routes(self, version: int) -> dict[str, frozenset[str]]:
        return {
            prefix: frozenset(path.next_hop for path in paths.values())
            for prefix, paths in self._exabgp.paths(version, self._peer).items()
        }

    def path_count(self, prefix: str) -> int:
        return len(self._exabgp.paths(6 if ":" in prefix else 4, self._peer).get(prefix, {}))

    def shown(self, prefix: str) -> str:
        paths = self._exabgp.paths(6 if ":" in prefix else 4, self._peer).get(prefix, {})
        return json.dumps([path.attributes for path in paths.values()])

    def ask_refresh(self) -> None:
        for version in (4, 6):
            self._exabgp.say(f"announce route-refresh ipv{version} unicast")

    def shut_down(self, words: str) -> None:
        self._exabgp.say(f"neighbor {self._peer} teardown 2")  # it has no way to give words

    def open_again(self) -> None:
        pass  # it connects again by itself

    def kill(self) -> None:
        self._exabgp.program.signal(signal.SIGKILL)
        self._exabgp.program.wait(60)

    def restart(self) -> None:
        self._exabgp.restart()

    def stop(self) -> None:
        self._exabgp.program.close()

    def log(self) -> str:
        return self._exabgp.program.tail(400) + json.dumps(self._exabgp.events())


MAKES = {
    "bird2": SpeakingBird,
    "bird1": SpeakingBird1,
    "frr": SpeakingFrr,
    "gobgp": SpeakingGoBgp,
    "openbgpd": SpeakingOpenBgpd,
    "exabgp": SpeakingExaBgp,
}
