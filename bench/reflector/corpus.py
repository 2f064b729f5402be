"""A recorded multi-path load as internal BGP streams.

The corpus is a text file of UPDATEs as a collector saw them from its external peers: one
per line, tab separated (peer, its AS, its address, the message in hex), 4-octet AS paths,
attributes verbatim. To be replayed by clients of a reflector each becomes what the border
router of that peer would have sent inside: NEXT_HOP is the client's own (so that it
resolves everywhere), LOCAL_PREF 100 is added, the rest stays as it was. Left out are rows
that no speaker is obliged to accept: AS 0 in the path, a prefix of special use, or the
default route.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

NAME = "rib_2014_35peers.tsv.gz"
FIRST_NEXT_HOP = int(IPv4Address("172.16.0.1"))
MARKER = b"\xff" * 16

NEXT_HOP, MED, LOCAL_PREF, AS_PATH, AGGREGATOR, AS4_PATH, AS4_AGGREGATOR = 3, 4, 5, 2, 7, 17, 18


@dataclass(frozen=True, slots=True)
class Streams:
    """One run of UPDATEs per sender, the AS numbers seen, and how many rows were left out."""

    senders: tuple[bytes, ...]
    asns: frozenset[int]
    updates: int
    left_out: int

    def spare_asn(self) -> int:
        """A private AS number that occurs in no path: the cluster's own."""
        return next(asn for asn in range(64999, 64512, -1) if asn not in self.asns)

    def encode(self) -> bytes:
        """The load generator's file: per sender a 4-octet length, then its octets."""
        return b"".join(len(stream).to_bytes(4, "big") + stream for stream in self.senders)


def find(environ: Mapping[str, str]) -> Path | None:
    """The corpus file in $CAIRN_CORPORA or ../shared/corpora beside the project; None if absent."""
    named = environ.get("CAIRN_CORPORA")
    directory = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "corpora"
    path = directory / NAME
    return path if path.is_file() else None


def load(path: Path) -> Streams:
    with gzip.open(path, "rt") as lines:
        return convert(line.split("\t") for line in lines if not line.startswith("#"))


def convert(rows: Iterable[list[str]]) -> Streams:
    """Rows of (peer, AS, address, hex) to one stream per peer, in the order of first appearance."""
    streams: dict[str, list[bytes]] = {}
    asns: set[int] = set()
    updates = left_out = 0
    for peer, _, _, text in rows:
        number = list(streams).index(peer) if peer in streams else len(streams)
        stream = streams.setdefault(peer, [])
        message = _internal(bytes.fromhex(text.strip()), FIRST_NEXT_HOP + number, asns)
        if message is None:
            left_out += 1
        else:
            stream.append(message)
            updates += 1
    return Streams(tuple(b"".join(s) for s in streams.values()), frozenset(asns), updates, left_out)


def _internal(message: bytes, next_hop: int, asns: set[int]) -> bytes | None:
    withdrawn = int.from_bytes(message[19:21], "big")
    start = 21 + withdrawn
    size = int.from_bytes(message[start : start + 2], "big")
    nlri = message[start + 2 + size :]
    prefixes = b"".join(raw for raw, network in _prefixes(nlri) if _ordinary(network))
    kept: list[tuple[int, bytes]] = []
    for flags, code, value in _attributes(message[start + 2 : start + 2 + size]):
        if code == AS_PATH:
            path = list(_asns(value))
            if 0 in path:
                return None
            asns.update(path)
        if code in (NEXT_HOP, LOCAL_PREF, AS4_PATH, AS4_AGGREGATOR):
            continue
        if code == AGGREGATOR:
            wide = value if len(value) == 8 else value[:2].rjust(4, b"\0") + value[2:]
            asns.add(int.from_bytes(wide[:4], "big"))
            kept.append((code, _attribute(flags, code, wide)))
        else:
            kept.append((code, _attribute(flags, code, value)))
    if not prefixes:
        return None
    kept.append((NEXT_HOP, _attribute(0x40, NEXT_HOP, next_hop.to_bytes(4, "big"))))
    kept.append((LOCAL_PREF, _attribute(0x40, LOCAL_PREF, (100).to_bytes(4, "big"))))
    attributes = b"".join(raw for _, raw in sorted(kept))
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes + prefixes
    return MARKER + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body


def _attribute(flags: int, code: int, value: bytes) -> bytes:
    if len(value) > 255:
        return bytes((flags | 0x10, code)) + len(value).to_bytes(2, "big") + value
    return bytes((flags & ~0x10, code, len(value))) + value


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    place = 0
    while place < len(data):
        flags, code = data[place], data[place + 1]
        header = 4 if flags & 0x10 else 3
        size = int.from_bytes(data[place + 2 : place + header], "big")
        yield flags, code, data[place + header : place + header + size]
        place += header + size


def _asns(path: bytes) -> Iterator[int]:
    place = 0
    while place < len(path):
        for i in range(path[place + 1]):
            yield int.from_bytes(path[place + 2 + 4 * i : place + 6 + 4 * i], "big")
        place += 2 + 4 * path[place + 1]


def _prefixes(data: bytes) -> Iterator[tuple[bytes, IPv4Network]]:
    place = 0
    while place < len(data):
        bits = data[place]
        raw = data[place : place + 1 + (bits + 7) // 8]
        yield raw, IPv4Network((raw[1:].ljust(4, b"\0"), bits), strict=False)
        place += len(raw)


def _ordinary(network: IPv4Network) -> bool:
    return network.prefixlen > 0 and not (
        network.is_private or network.is_multicast or network.is_reserved or network.is_loopback
    )
