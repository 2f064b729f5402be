"""Whatever a reflector went through, it tells in the end what a fresh one tells: nothing of the way is left.

Over real sockets, in random order: routes come, change and go; sessions are cut in every way; peers are taken
out, declared of another kind, with other filters and limits; an operator keeps them out, lets them in, resets
and refreshes them, and drains the reflector. Some peers restart gracefully, some cannot be refreshed.
"""

import asyncio
import random
import socket
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bgpd.telemetry.status import PeerVerb
from bgpd.wire.capabilities import AddPath, GracefulRestart
from bgpd.wire.iana import CeaseSubcode
from bgpd.wire.messages import Notification, RouteRefresh, encode
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST
from bgpd.wire.update import encode_end_of_rib
from reflector import sockets
from reflector.server import Server
from reflector.spec import ReflectorSpec
from tests.reflector.clients import Client, serving, spec_of, until
from tests.reflector.test_core_property import FILTERS

PHASES = 12  # in each of them whoever was cut off stays away
STEPS = 15
LOOKS = 3  # in a row that find both alike
PREFIXES = [f"10.{n % 3 + 1}.{n}.0/24" for n in range(12)]
BOTH = [*PREFIXES[:6], *(f"2001:db8:{n}::/48" for n in range(6))]
BOTH_FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST})
RESTART = GracefulRestart(120, False, True, ((IPV4_UNICAST, True),))
KINDS: dict[int, dict[str, Any]] = {
    1: {},
    2: {"graceful_restart": RESTART},
    3: {"add_path": ((IPV4_UNICAST, AddPath.RECEIVE),)},
    4: {"enhanced_refresh": False, "extended_message": True},
    5: {"asn": 65100, "graceful_restart": RESTART},
    6: {"asn4": None, "route_refresh": False, "enhanced_refresh": False},
    7: {"families": BOTH_FAMILIES},
    8: {"families": BOTH_FAMILIES, "enhanced_refresh": False},
}
CHOICES: dict[str, list[Any]] = {
    "client": [True, True, False],
    "nextHop": ["auto", "self", "keep"],
    "holdTime": [90, 30],
    "addPath": [{"send": 2}, {"send": 1}, {}],
    "maxPrefixes": [{"limit": 100}, {"limit": 50, "restartAfter": 1}],
    "gracefulRestartTime": [0, 120],
    "description": ["rack 1", "rack 2"],
    "allowedOwnAs": [0, 1],
}
EXTERNAL_CHOICES: dict[str, list[Any]] = {
    "withoutPolicy": ["accept", "accept", "reject"],
    "localAsn": [65000, 65007],
    "enforceFirstAs": [True, False],
}


def _decided(client: Client) -> bool:
    """Whether it is let in, or not."""
    return client.established or client.closed is not None


class Life:
    """One reflector, its peers, and what is declared of them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        external = {"asn": 65100, "withoutPolicy": "accept"}
        self.declared: dict[int, dict[str, Any]] = {n: dict(external) if n == 5 else {} for n in KINDS}
        self.filters: dict[int, dict[str, Any]] = {
            n: {"import_filters": FILTERS[0], "export_filters": FILTERS[0]} for n in KINDS
        }
        self.absent: set[int] = set()
        self.disabled: set[int] = set()

    def peers_of(self, server: Server) -> dict[int, Client]:
        return {n: Client(n, server.ports[0], **more) for n, more in KINDS.items()}

    def spec(self) -> ReflectorSpec:
        peers = [
            {"address": Client(n, 0).address, "passive": True, **options}
            for n, options in self.declared.items()
            if n not in self.absent
        ]
        everybody = [{"prefix": "127.200.0.0/16"}]
        spec = spec_of(clients=everybody, peers=peers, limits={"endOfRibWait": 0})
        chosen = {Client(n, 0).address: filters for n, filters in self.filters.items()}
        return replace(
            spec,
            peers=tuple(
                replace(peer, member=replace(peer.member, **chosen.get(peer.name, {}))) for peer in spec.peers
            ),
        )

    def step(self, server: Server, peers: dict[int, Client]) -> None:
        number = self.rng.choice(list(KINDS))
        client, entry = peers[number], server.entries.get(peers[number].address)
        match self.rng.choices(("say", "ask", "cut", "declare", "operate", "drain"), (8, 2, 1, 8, 1, 1))[0]:
            case "say":
                self.say(client)
            case "ask" if client.established:
                self.ask(client)
            case "cut" if client.established:
                self.cut(client)
            case "declare":
                self.declare(number)
                server.configure(self.spec())
                self.disabled -= self.absent
            case "operate" if entry is not None:
                verb = self.rng.choice(list(PeerVerb))
                server.operate(entry, verb, "")
                self.disabled -= {number} if verb is PeerVerb.ENABLE else set()
                self.disabled |= {number} if verb is PeerVerb.DISABLE else set()
            case "drain":
                server.drain(not server.reflector.draining)

    def say(self, client: Client) -> None:
        if not client.established:
            return
        for prefix in self.rng.sample(BOTH if client.families == BOTH_FAMILIES else PREFIXES, 4):
            try:
                if prefix in client.said and self.rng.random() < 0.5:
                    client.withdraw(prefix)
                else:
                    client.announce(prefix, med=self.rng.randrange(3))
            except OSError:  # the reflector has ended it already
                return

    def ask(self, client: Client) -> None:
        """More than once of one family: what comes too soon after another is answered later."""
        family = self.rng.choice(sorted(client.families))
        for _ in range(self.rng.randrange(1, 4)):
            try:
                client.write(encode(RouteRefresh(family)))
            except OSError:  # the reflector has ended it already
                return

    def cut(self, client: Client) -> None:
        assert client.sock is not None
        how = self.rng.choice(("RST", "FIN", "NOTIFICATION"))
        try:
            if how == "NOTIFICATION":
                client.write(encode(Notification.cease(CeaseSubcode.ADMINISTRATIVE_RESET, "")))
            elif how == "RST":
                sockets.end_at_once(client.sock)
            client.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def declare(self, number: int) -> None:
        choices = CHOICES | (EXTERNAL_CHOICES if number == 5 else {})
        name = self.rng.choice([*choices, "presence", *["import_filters", "export_filters"] * 5])
        if name == "presence":
            self.absent ^= {number}
        elif name in choices:
            self.declared[number][name] = self.rng.choice(choices[name])
        else:
            self.filters[number][name] = self.rng.choice(FILTERS)

    async def come(self, server: Server, peers: dict[int, Client]) -> None:
        """Everybody who may is there and has said everything."""
        for number, client in peers.items():
            entry = server.entries.get(client.address)
            if entry is None or number in self.disabled:
                continue
            if client.established and entry.peer.session is not None and client.closed is None:
                continue
            await client.close()
            server.operate(entry, PeerVerb.RESET, "")  # nobody waits because it flaps
            await client.connect()
            client.begin()
            await until(partial(_decided, client))
            if client.established:
                for prefix, attributes in client.said.items():
                    client.send(prefix, attributes)
                for family in client.families:
                    client.write(encode_end_of_rib(family))

    @staticmethod
    def views(peers: dict[int, Client], server: Server) -> dict[int, object]:
        """What everybody has been told, by what it means and not by our path identifiers."""
        found: dict[int, object] = {}
        for number, client in peers.items():
            entry = server.entries.get(client.address)
            session = client.session
            if entry is None or entry.peer.session is None or session is None or session.negotiated is None:
                found[number] = None
                continue
            skip = 4 if session.negotiated.add_path_receive else 0
            told = Counter((item[skip:], attributes) for item, attributes in client.view.items())
            found[number] = client.end_of_rib, told
        return found


@pytest.mark.parametrize("seed", range(8))
async def test_in_the_end_it_tells_what_a_fresh_one_tells(seed: int) -> None:
    life = Life(seed)
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with serving() as server:
        server.reflector.deferral.until = None
        server.configure(replace(life.spec(), listen=server.spec.listen))
        peers = life.peers_of(server)
        for _ in range(PHASES):
            await life.come(server, peers)
            for _ in range(STEPS):
                life.step(server, peers)
                await asyncio.sleep(life.rng.choice((0, 0, 0.002, 0.01)))
        async with serving() as fresh:
            fresh.reflector.deferral.until = None
            fresh.configure(replace(life.spec(), listen=fresh.spec.listen))
            fresh.drain(server.reflector.draining)
            others = life.peers_of(fresh)
            for number, other in others.items():
                other.said = dict(peers[number].said)
            alike = 0
            async with asyncio.timeout(60):
                while alike < LOOKS:
                    await life.come(server, peers)
                    await life.come(fresh, others)
                    await asyncio.sleep(0.05)
                    same = life.views(peers, server) == life.views(others, fresh)
                    alike = alike + 1 if same else 0
            assert life.views(peers, server) == life.views(others, fresh)
    assert not failures
