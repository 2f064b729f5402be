"""One ExaBGP with its speaker, and the BIRD it speaks to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random

from agent.exabgp.adj_rib_out import Refused
from agent.exabgp.process import run_line
from agent.exabgp.speaker import Speaker
from bgpd.plan.model import Peering, PeeringKind
from bgpd.plan.policy import ExportPolicy, ImportPolicy
from bgpd.render.exabgp import configuration
from bgpd.wire.iana import MessageType
from bgpd.wire.messages import decode
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST
from tests.agent.ground import (
    Bird,
)
from tests.ports import free_port

ASN = 65000
FAMILIES = ("ipv4 unicast", "ipv6 unicast")


def addresses() -> tuple[str, str]:
    """Two loopback addresses that no other test run uses."""
    block = f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
    return f"{block}.1", f"{block}.2"


def bird_configuration(local: str, peer: str, port: int, *, routes: int = 1) -> str:
    static = "\n".join(f"route 172.16.{n // 256}.{n % 256}/32 blackhole;" for n in range(routes))
    return f"""
router id {local};
log stderr all;
protocol device {{}}
protocol static {{ ipv4; {static} }}
protocol bgp agent {{
  local {local} port {port} as {ASN};
  neighbor {peer} as {ASN};
  multihop; passive on; graceful restart on; graceful restart time 60; enable extended messages on;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
  ipv6 {{ import all; export none; }};
}}
"""


def peering(local: str, peer: str, port: int) -> Peering:
    return Peering(
        name="bird", kind=PeeringKind.GLOBAL, peer_address=ip_address(peer), peer_port=port,
        local_address=ip_address(local), local_asn=ASN, peer_asn=ASN, families=(IPV4_UNICAST, IPV6_UNICAST),
        import_policy=ImportPolicy(), export_policy=ExportPolicy(), reason="a test",
        graceful_restart=60,
    )  # fmt: skip


class Recorder:
    """The owner of a speaker, that only writes down."""

    def __init__(self) -> None:
        self.up: dict[str, bool] = {}
        self.ups: list[bool] = []
        self.sent: list[bytes] = []  # OPENs
        self.opens: list[bytes] = []  # received
        self.downs: list[str] = []
        self.messages: list[tuple[int, bytes]] = []
        self.refusals: list[Refused] = []

    def session_up(self, peer: str, sent: bytes, received: bytes, adopted: bool) -> Sequence[str]:
        decode(MessageType.OPEN, sent)
        decode(MessageType.OPEN, received)
        self.up[peer] = True
        self.ups.append(adopted)
        self.sent.append(sent)
        self.opens.append(received)
        return FAMILIES

    def session_down(self, peer: str, reason: str) -> None:
        self.up[peer] = False
        self.downs.append(reason)

    def message_received(self, peer: str, type: int, body: bytes) -> None:
        self.messages.append((type, body))

    def refused(self, routes: Refused) -> None:
        self.refusals.append(routes)

    def progressed(self) -> None: ...


class Bench:
    """BIRD on one side, the directory of an ExaBGP on the other."""

    def __init__(self, directory: Path) -> None:
        self.local, self.peer = addresses()
        self.port = free_port()
        self.run = directory / "run" / "peer"
        self.bird = Bird(directory, bird_configuration(self.peer, self.local, self.port))

    def text(self, hold_time: int = 90) -> str:
        return configuration(
            [replace(peering(self.local, self.peer, self.port), hold_time=hold_time)],
            router_id=IPv4Address("10.255.0.1"),
            helper_command=run_line(self.run),
            passwords={},
        )

    @asynccontextmanager
    async def speaker(self, *, stop: bool = True) -> AsyncIterator[tuple[Speaker, Recorder]]:
        recorder = Recorder()
        speaker = Speaker(self.run, self.text(), [self.peer], recorder)
        task = asyncio.create_task(speaker.run())
        try:
            yield speaker, recorder
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if stop:
                await speaker.stop()
            else:
                speaker.release()


def is_up(recorder: Recorder, address: str) -> Callable[[], bool]:
    return lambda: recorder.up.get(address, False)


def declared(speaker: Speaker, address: str) -> dict[str, int | None]:
    """What BIRD must have, by our own declarations."""
    found: dict[str, int | None] = {}
    for prefix, attributes in speaker.outbox.peer(address).wanted.items():
        words = attributes.split()
        found[prefix] = int(words[words.index("med") + 1]) if "med" in words else None
    return found


def random_change(speaker: Speaker, address: str, random: Random) -> None:
    n = random.randrange(400)
    prefix = f"10.0.{n // 256}.{n % 256}/32" if n < 300 else f"2001:db8:{n:x}::/64"
    med = random.choice((None, 0, 4, 9))
    next_hop = "self" if n < 300 else "2001:db8::1"
    attributes = None if med is None else f"next-hop {next_hop} med {med}"
    speaker.outbox.peer(address).want(prefix, attributes)
