"""What the reflector sends is what ExaBGP understands: every attribute, read by another program.

A client announces one prefix for each set of attributes: sets of the project's own, and all those of the
recorded corpora where they are. A real ExaBGP, a client of the same reflector, writes down what it hears, and
that is held against what was announced, with what reflection adds (RFC 4456 8). At the end all is withdrawn.
"""

import asyncio
import contextlib
import json
import os
import sys
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import cycle
from pathlib import Path
from typing import Any

from bgpd.rib.path import DEFAULT_LOCAL_PREF
from bgpd.session.decoders import Decoders
from bgpd.wire.attributes import AttributeSet, encode_attributes
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import Origin, SegmentType
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family, nlri_of
from bgpd.wire.update import encode_updates, encode_withdrawals
from tests.reflector.clients import Client, until
from tests.reflector.test_process import Program
from tests.scenario.harness import exabgp as scribe

ASN = 64999  # not in the recorded data
EXABGP = "127.0.0.99"
CLUSTER = "10.255.255.254"
ORIGINATOR = "10.0.0.2"  # the feeder's BGP Identifier
HOPS = {IPV4_UNICAST: bytes((10, 9, 8, 7)), IPV6_UNICAST: bytes.fromhex("20010db8") + bytes(11) + b"\7"}
SEQUENCE, SET = SegmentType.AS_SEQUENCE, SegmentType.AS_SET
FAMILIES = frozenset({IPV4_UNICAST, IPV6_UNICAST})
OWN: list[dict[str, Any]] = [
    {},
    {"origin": Origin.EGP, "local_pref": 0},
    {"origin": Origin.INCOMPLETE, "med": 0, "local_pref": 0xFFFFFFFF},
    {"as_path": ((SEQUENCE, (65001, 4200000000)),), "med": 0xFFFFFFFF},
    {"as_path": ((SEQUENCE, (65001,)), (SET, (65002, 65003)))},
    {"as_path": ((SEQUENCE, tuple(range(1, 256))), (SEQUENCE, (7,)))},
    {"atomic_aggregate": True, "aggregator": (4200000001, bytes((10, 0, 0, 9)))},
    {"communities": (0xFFFFFF01, 65000 << 16 | 7, 1)},
    {"communities": tuple(range(1 << 16, (1 << 16) + 300))},
    {"large_communities": ((4200000000, 1, 2), (1, 0xFFFFFFFF, 0))},
    {"extended_communities": (bytes.fromhex("0002fde800000001"), bytes.fromhex("010a0a0000010007"))},
    {"originator_id": bytes((10, 7, 7, 7)), "cluster_list": (bytes((10, 8, 8, 8)), bytes((10, 8, 8, 9)))},
    {"unknown": ((0xE0, 99, bytes.fromhex("deadbeef")), (0xE0, 100, b""))},
]


def recorded(folder: Path) -> list[bytes]:
    """The attribute blocks of the recorded UPDATEs, as sent within an AS; each once."""
    decoders = Decoders()
    found: dict[bytes, None] = {}
    for line in (folder / "update_shapes.tsv").read_text().splitlines():
        if line.startswith("#"):
            continue
        octets, add_path, _source, _offset, digits = line.split("\t")
        receive = FAMILIES if add_path == "1" else frozenset[Family]()
        session = Negotiated(families=FAMILIES, asn4=octets == "4", add_path_receive=receive)
        with contextlib.suppress(ProtocolError):
            update = decoders(session, internal=True).decode(bytes.fromhex(digits)[19:])
            found.update(dict.fromkeys(reach.attributes.raw for reach in update.reach))
    return list(found)


class Oracle:
    """An ExaBGP on the loopback, and what it has told."""

    def __init__(self, folder: Path, port: int) -> None:
        self.events = folder / "events"
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.events.touch()
        self.configuration = folder / "exabgp.conf"
        run = f"{sys.executable} -I -S {scribe.__file__} {self.events} {self.fifo}"
        self.configuration.write_text(f"""
process scribe {{ run {run}; encoder json; }}
neighbor 127.0.0.1 {{
    router-id {EXABGP}; local-address {EXABGP}; local-as {ASN}; peer-as {ASN}; connect {port};
    capability {{ asn4 enable; route-refresh enable; }}
    family {{ ipv4 unicast; ipv6 unicast; }}
    api {{ processes [ scribe ]; neighbor-changes; receive {{ parsed; update; }} }}
}}
""")
        self.log = folder / "exabgp.log"
        self.process: asyncio.subprocess.Process | None = None
        self._at = 0
        self._told: dict[str, tuple[str, dict[str, Any]]] = {}

    async def start(self) -> None:
        settings = {
            "exabgp.daemon.user": "root",
            "exabgp.daemon.drop": "false",
            "exabgp.api.cli": "false",
            "exabgp.api.ack": "false",
            "exabgp.log.destination": "stdout",
            "exabgp.tcp.bind": "",
        }
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "exabgp", "server", str(self.configuration)),
                stdout=log,
                stderr=log,
                env={**os.environ, **settings},
            )

    async def stop(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def told(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Prefix -> next hop and attributes, as of now."""
        with self.events.open() as events:
            events.seek(self._at)
            text = events.read()
        whole = text[: text.rfind("\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            update = json.loads(line)["neighbor"].get("message", {}).get("update", {})
            for family in FAMILIES:
                name = str(family).replace("-", " ")
                for item in update.get("withdraw", {}).get(name, ()):
                    self._told.pop(item["nlri"], None)
                for hop, items in update.get("announce", {}).get(name, {}).items():
                    self._told.update({item["nlri"]: (hop, update["attribute"]) for item in items})
        return self._told


def expected(attributes: AttributeSet) -> dict[str, Any]:
    """What ExaBGP should show of a set that went through the reflector; it sorts communities."""
    elements = {SEQUENCE: "as-sequence", SET: "as-set"}
    aggregator = attributes.aggregator
    originator = attributes.originator_id or IPv4Address(ORIGINATOR).packed
    shown: dict[str, Any] = {
        "origin": Origin(attributes.origin).name.lower(),
        "as-path": {
            str(n): {"element": elements[kind], "value": list(numbers)}
            for n, (kind, numbers) in enumerate(attributes.as_path)
        },
        "med": attributes.med,
        "local-preference": DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref,
        "atomic-aggregate": attributes.atomic_aggregate or None,
        "aggregator": f"{aggregator[0]}:{IPv4Address(aggregator[1])}" if aggregator else None,
        "community": sorted([value >> 16, value & 0xFFFF] for value in set(attributes.communities)),
        "large-community": sorted(map(list, set(attributes.large_communities))),
        "extended-community": sorted(int.from_bytes(c, "big") for c in set(attributes.extended_communities)),
        "originator-id": str(IPv4Address(originator)),
        "cluster-list": [CLUSTER, *(str(IPv4Address(c)) for c in attributes.cluster_list)],
    }
    for flags, code, value in attributes.unknown:
        shown[f"attribute-0x{code:02X}-0x{flags:02X}"] = f"0x{value.hex()}"
    return {name: value for name, value in shown.items() if value not in (None, [], {})}


def seen(attributes: dict[str, Any]) -> dict[str, Any]:
    """What ExaBGP shows, in one form: of an extended community the number alone."""
    if "extended-community" in attributes:
        numbers = sorted(community["value"] for community in attributes["extended-community"])
        attributes = {**attributes, "extended-community": numbers}
    return {name: value.lower() if "0x" in name else value for name, value in attributes.items()}


async def heard_by_exabgp(folder: Path, announced: list[tuple[Family, bytes]]) -> None:
    """Announce each block of attributes for a prefix, compare what ExaBGP tells, and withdraw all."""
    program = Program(folder)
    program.configure(asn=ASN, routerId=CLUSTER, clients=[{"prefix": "127.0.0.0/24"}])
    await program.start()
    oracle = Oracle(folder, program.port)
    try:
        feeder = await Client(1, program.port, asn=ASN, families=FAMILIES).up()
        await oracle.start()
        wanted: dict[str, tuple[str, dict[str, Any]]] = {}
        for n, (family, block) in enumerate(announced, start=1):
            prefix = f"10.{n >> 8}.{n & 255}.0/24" if family == IPV4_UNICAST else f"2001:db8:{n:x}::/48"
            nlri = nlri_of(ip_network(prefix))
            feeder.write(b"".join(encode_updates(family, block, HOPS[family], [nlri])))
            wanted[prefix] = str(ip_address(HOPS[family])), expected(AttributeSet.of(block))
        await until(lambda: len(oracle.told()) == len(wanted), "ExaBGP hears of all")
        told = {prefix: (hop, seen(attributes)) for prefix, (hop, attributes) in oracle.told().items()}
        assert told == wanted
        for family in FAMILIES:
            gone = [nlri_of(ip_network(p)) for p in wanted if (":" in p) is (family.afi == 2)]
            feeder.write(b"".join(encode_withdrawals(family, gone)))
        await until(lambda: not oracle.told(), "ExaBGP hears that all are withdrawn")
    finally:
        await oracle.stop()
        await program.stop()


async def test_it_decodes_every_attribute_as_it_was_announced(tmp_path: Path) -> None:
    own = [encode_attributes(next_hop=HOPS[IPV4_UNICAST], **({"local_pref": 100} | values)) for values in OWN]
    await heard_by_exabgp(tmp_path, [(family, block) for block in own for family in FAMILIES])


async def test_it_decodes_every_recorded_set_as_it_was_announced(tmp_path: Path, corpora: Path) -> None:
    blocks = recorded(corpora)
    assert len(blocks) > 500
    families = cycle((IPV4_UNICAST, IPV6_UNICAST))
    await heard_by_exabgp(tmp_path, list(zip(families, blocks, strict=False)))
