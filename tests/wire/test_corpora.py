"""Real and hostile input from outside the project: every line of it, with the outcome its list asks for."""

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.wire.attributes import AttributeSet
from bgpd.wire.errors import ErrorAction, ProtocolError
from bgpd.wire.framing import Framer
from bgpd.wire.iana import ErrorCode, MessageType
from bgpd.wire.messages import KEEPALIVE, MARKER, Open, decode
from bgpd.wire.nlri import IPV4_UNICAST, Family
from bgpd.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals
from tests.wire.samples import announced, decoder, withdrawn


def rows(path: Path) -> Iterator[list[str]]:
    """The lines of a list, without its heading."""
    octets = path.read_bytes()
    text = (gzip.decompress(octets) if path.suffix == ".gz" else octets).decode()
    yield from (row for row in csv.reader(text.splitlines(), delimiter="\t") if not row[0].startswith("#"))


def bodies(stream: bytes, max_length: int = 65535) -> list[tuple[int, bytes]]:
    framer = Framer(max_length)
    framer.feed(stream)
    return list(framer)


class Seen:
    """What became of a stream: the messages, then maybe the error that ended it."""

    def __init__(self, stream: bytes, one: UpdateDecoder) -> None:
        self.updates: list[Update] = []
        self.others: list[object] = []
        self.error: ProtocolError | None = None
        framer = Framer()
        framer.feed(stream)
        try:
            for type, body in framer:
                if type == MessageType.UPDATE:
                    self.updates.append(one.decode(body))
                else:
                    self.others.append(decode(type, body))
        except ProtocolError as error:
            self.error = error

    def __str__(self) -> str:
        """The outcome in the words of the lists."""
        if self.error is not None:
            return f"reset {self.error.code}/{self.error.subcode}"
        if not self.updates:
            return "accept"
        [update] = self.updates
        assert not (update.reach and withdrawn(update))
        if any(fault.action == ErrorAction.TREAT_AS_WITHDRAW for fault in update.errors):
            return "withdraw"
        if update.errors:
            return "discard"
        return "accept" if update.reach else "ignore"


# The outcome this codec gives, as a pattern, for each wording of an expectation in malformed.tsv. What
# concerns a session, a RIB or a log is decoded here without error and judged there.
WORDINGS = {
    "treat-as-withdraw or discard, never reset": "withdraw|discard",
    "treat-as-withdraw or discard": "withdraw|discard",
    "attribute-discard": "discard",
    "treat-as-withdraw": "withdraw",
    "no crash; AS4_PATH ignored on AS4 session": "discard",
    "treat-as-withdraw (eBGP, AS_PATH empty: no first AS)": "withdraw",
    "no crash; TAW, or reset 3/10 (its NLRI is itself malformed)": "reset 3/10",
    "no crash; TAW, or reset (its NLRI is itself malformed)": "reset 3/10",
    "MP_UNREACH honoured, NLRI treat-as-withdraw": "withdraw",
    "session-reset": "reset 3/[19]",
    "session-reset 3/1": "reset 3/1",
    "ignore AFI/SAFI, no reset": "ignore",
    "session-reset 3/10": "reset 3/10",
    "session-reset 3/10 (BIRD: 3/1)": "reset 3/10",
    "accept as masked prefix": "accept",
    "ignore prefix, no reset": "ignore",
    "announce wins": "accept",
    "first kept, route accepted": "accept",
    "session-reset 3/2 (4271 6.3) or treat-as-withdraw (BIRD)": "reset 3/2",
    "type 0: TAW/discard; 255 optional-transitive: pass on w/ Partial": "accept",
    "accept (low 4 bits ignored)": "accept",
    "accept or policy-drop; no crash, no quadratic time": "accept",
    "ineligible, no reset": "accept",
    "accept": "accept",
    "bounded time": "accept",
    "ibgp: ignore route": "accept",
    "ibgp: ignore route (if 10.8.8.8 is our cluster-id)": "accept",
    "parse as path-id; truncated -> session-reset": "reset 3/10",
    "ignore/TAW": "ignore",
    "TAW": "withdraw",
    "TAW/reset AFI, no over-read": "ignore",
    "NOTIFICATION 2/0 (or 2/4), no crash": "reset 2/[04]",
    "NOTIFICATION, no crash": "reset 2/0",
    "accept, ignore cap": "accept",
    "ignore or 2/0": "accept|reset 2/0",
    "ignore": "accept",
    "2/0": "reset 2/0",
    "2/0 or ignore": "reset 2/0",
    "2/2": "reset 2/2",
    "2/11": "reset 2/11",
    "2/4 unsupported parameter": "reset 2/4",
    "2/1": "reset 2/1",
    "2/6": "reset 2/6",
    "accept, no keepalives": "accept",
    "2/3": "reset 2/3",
    "2/2 (BIRD accepts: My-AS 0 but AS4 cap valid)": "reset 2/2",
    "5/2 (second OPEN in OpenConfirm)": "accept",
    "1/2": "reset 1/2",
    "1/1": "reset 1/1",
    "1/3": "reset 1/3",
    "1/2 (BIRD ignores)": "reset 1/2",
    "1/2 or silent close; no crash": "reset 1/2",
    "log truncated, no crash": "accept",
    "logged as hex": "accept",
    "7/1": "reset 7/1",
    "ignore/close; no crash": "accept|reset 7/1",
    "hold timer still runs": "accept",
}
SESSIONS_OWN = {"wrong-as": "accept"}
"""Lines whose outcome only a session with a configuration can give."""


def test_hostile_messages_have_the_listed_outcome(corpora: Path) -> None:
    checked = 0
    for name, _source, _type, expected, stream in rows(corpora / "malformed.tsv"):
        one = decoder(internal=expected.startswith("ibgp"), add_path="on-addpath" in name)
        seen = Seen(bytes.fromhex(stream), one)
        pattern = SESSIONS_OWN.get(name) or WORDINGS.get(expected)
        assert pattern is not None, f"{name}: an expectation worded {expected!r}"
        assert re.fullmatch(pattern, str(seen)), f"{name}: {expected!r}, but {seen}"
        for update in seen.updates:
            for reach in update.reach:
                assert_sent_on_unharmed(reach.family, reach.attributes, reach.nlri)
        checked += 1
    assert checked >= 90


def test_revised_errors_have_the_listed_outcome(corpora: Path) -> None:
    checked = 0
    for name, sort, expected, notification, _spec, stream in rows(corpora / "rfc7606_updates.tsv"):
        seen = Seen(bytes.fromhex(stream), decoder(internal=sort == "ibgp"))
        if expected == "session-reset":
            assert str(seen) == f"reset {notification}", name
        elif expected == "withdraw":
            assert str(seen) == "withdraw", name
            assert announced(seen.updates[0]) == []
            assert withdrawn(seen.updates[0]) != []
        else:
            # An unknown attribute is no error: non-transitive it is dropped, transitive it passes with
            # Partial.
            assert str(seen) == ("accept" if name.startswith("unknown-") else "discard"), name
            assert announced(seen.updates[0]) != []
        checked += 1
    assert checked >= 85


def test_what_a_fuzzer_found_in_another_speaker_is_refused(corpora: Path) -> None:
    checked = 0
    for name, text in rows(corpora / "gobgp_bad_len.tsv"):
        stream = bytes.fromhex(text)
        assert str(Seen(stream, decoder())) == "reset 1/1", name
        synchronized = Seen(MARKER + stream[16:], decoder())
        assert synchronized.error is not None, name
        assert synchronized.error.code in (ErrorCode.OPEN_MESSAGE, ErrorCode.UPDATE_MESSAGE)
        checked += 1
    assert checked >= 11


def assert_sent_on_unharmed(family: Family, attributes: AttributeSet, nlri: list[bytes]) -> None:
    """What was received and is encoded again has the same meaning for the next speaker, and is stable."""
    next_speaker = decoder(internal=True, extended_next_hop=True)
    found: list[bytes] = []
    for message in encode_updates(family, attributes.raw, attributes.next_hop, nlri, 65535):
        [(type, body)] = bodies(message)
        assert type == MessageType.UPDATE
        update = next_speaker.decode(body)
        assert not update.errors
        for reach in update.reach:
            assert reach.family == family
            assert reach.attributes.raw == attributes.raw
            assert reach.attributes.next_hop == attributes.next_hop
            found += reach.nlri
    assert found == nlri
    assert decoded_fully(attributes) == decoded_fully(AttributeSet.of(attributes.raw, attributes.next_hop))


def decoded_fully(attributes: AttributeSet) -> tuple[object, ...]:
    return (
        attributes.origin,
        attributes.as_path,
        attributes.compared.as_path_length,
        attributes.compared.first_as,
        attributes.med,
        attributes.local_pref,
        attributes.atomic_aggregate,
        attributes.aggregator,
        attributes.communities,
        attributes.extended_communities,
        attributes.ipv6_extended_communities,
        attributes.large_communities,
        attributes.originator_id,
        attributes.cluster_list,
        attributes.otc,
        attributes.unknown,
    )


def assert_real(one: UpdateDecoder, stream: bytes) -> Update:
    [(type, body)] = bodies(stream)
    assert type == MessageType.UPDATE
    return one.decode(body)


# BIRD recorded these add-path sessions in MRT records of the kind without add-path, which the list repeats.
MISLABELLED = {("mrtparse/bird6_bgp", "506"), ("mrtparse/bird6_bgp", "1062"), ("mrtparse/bird_bgp", "769")}


def test_real_updates_of_every_shape_decode_and_are_sent_on_unharmed(corpora: Path) -> None:
    reached = left = 0
    for octets, recorded, source, offset, text in rows(corpora / "update_shapes.tsv"):
        add_path = recorded == "1" or (source, offset) in MISLABELLED
        # Collectors record sessions of both kinds; the internal context accepts the attributes of either.
        one = decoder(internal=True, asn4=octets == "4", add_path=add_path, extended_next_hop=True)
        update = assert_real(one, bytes.fromhex(text))
        assert not [f for f in update.errors if f.action != ErrorAction.ATTRIBUTE_DISCARD], (
            f"{source} at {offset}"
        )
        for reach in update.reach:
            nlri = [item[4:] for item in reach.nlri] if add_path else reach.nlri
            assert_sent_on_unharmed(reach.family, reach.attributes, nlri)
            reached += 1
        for unreach in update.unreach:
            nlri = [item[4:] for item in unreach.nlri] if add_path else unreach.nlri
            [message] = encode_withdrawals(unreach.family, nlri, 65535)
            [(_type, body)] = bodies(message)
            assert withdrawn(decoder().decode(body)) == [(unreach.family, item) for item in nlri]
            left += 1
    assert reached > 1000
    assert left > 50


def test_a_real_stream_decodes_without_fault(corpora: Path) -> None:
    decoders = {"2": decoder(asn4=False), "4": decoder()}
    reached = 0
    for _ts, octets, _add_path, _peer, _local, _address, text in rows(corpora / "updates_20100722.tsv.gz"):
        stream = bytes.fromhex(text)
        if stream == KEEPALIVE:
            continue
        update = assert_real(decoders[octets], stream)
        assert not [fault for fault in update.errors if fault.action == ErrorAction.TREAT_AS_WITHDRAW]
        for reach in update.reach:
            assert_sent_on_unharmed(reach.family, reach.attributes, reach.nlri)
            reached += len(reach.nlri)
    assert reached > 1000


def test_a_real_rib_of_many_peers_decodes_without_fault(corpora: Path) -> None:
    one = decoder()
    paths = 0
    sets: set[AttributeSet] = set()
    for _peer, _asn, _address, text in rows(corpora / "rib_2014_35peers.tsv.gz"):
        update = assert_real(one, bytes.fromhex(text))
        assert not update.errors
        for reach in update.reach:
            paths += len(reach.nlri)
            sets.add(reach.attributes)
    assert paths > 250_000
    assert len({(found.raw, found.next_hop) for found in sets}) == len(sets)


@pytest.mark.parametrize("name", ["ext-optlen-valid", "100-caps-same", "hold-0"])
def test_odd_but_valid_opens_are_understood(corpora: Path, name: str) -> None:
    [stream] = [row[4] for row in rows(corpora / "malformed.tsv") if row[0] == name]
    [opened] = Seen(bytes.fromhex(stream), decoder()).others
    assert isinstance(opened, Open)
    assert opened.asn == 65001
    assert opened.capabilities.families == {IPV4_UNICAST}
