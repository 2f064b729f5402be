"""UPDATE: decoded into what becomes reachable and what ceases to be, and encoded again.

Decoding is the hottest path of a reflector, so it is shaped by what nearly every UPDATE looks like: IPv4
routes with a known or at least canonical attribute block, or the same with the routes in MP_REACH_NLRI.
Those two shapes are handled in `read` with one dictionary lookup for the attributes and one regular
expression for the NLRI. Anything else, a malformed attribute above all, takes the careful way:
`examination` judges the block, and here the NLRI of both kinds are sorted into reachable and unreachable by
the verdict.

RFCs: 4271 §4.3, §6.3, 4760 §3 to §5, 8950, 4724 §2 (End-of-RIB), 7606 (treat-as-withdraw is applied here:
the caller finds those NLRI in `unreach`), 7911 §3. A prefix both withdrawn and announced is announced (RFC
4271 §4.3); NLRI of families not negotiated are ignored (RFC 4760 §7), martian prefixes too (RFC 4271 §6.3).

Left out: whether a route loops or its next hop can be reached. That is the RIB's.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from .attribute_rows import next_hop_fault
from .attributes import AttributeSet, rewrite, walk
from .capabilities import Negotiated
from .errors import AttributeFault, ErrorAction, ProtocolError, UnsendableError
from .examination import Examination, reset
from .iana import AttributeCode, MessageType, UpdateSubcode
from .interner import Interner
from .malformed import Malformed
from .messages import HEADER_LENGTH, MARKER
from .nlri import IPV4_UNICAST, Family, finder, is_martian, is_prefix_family, split


class Reach(NamedTuple):
    """NLRI announced with one attribute set.

    `raw` is the NLRI field whose items are `nlri`: canonical, so it can be sent on as it is.
    """

    family: Family
    attributes: AttributeSet
    nlri: list[bytes]
    raw: bytes


class Unreach(NamedTuple):
    """NLRI withdrawn, by the peer or by us because their attributes were malformed."""

    family: Family
    nlri: list[bytes]


class Update(NamedTuple):
    """One UPDATE. `errors` are for the log and the counters; they have been acted on already."""

    reach: Sequence[Reach] = ()
    unreach: Sequence[Unreach] = ()
    end_of_rib: Family | None = None
    errors: Sequence[AttributeFault] = ()


Told: TypeAlias = tuple[
    Sequence[tuple[Family, AttributeSet, list[bytes], bytes]],
    Sequence[tuple[Family, list[bytes]]],
    Family | None,
    Sequence[AttributeFault],
]
"""An `Update` whose names may be missing: a plain tuple takes a fifth of the time to make."""


class _Nlri(NamedTuple):
    """NLRI of one field as received: None for `items` where the family is not negotiated."""

    family: Family
    items: list[bytes] | None


_WITHDRAW: Final = ErrorAction.TREAT_AS_WITHDRAW


class UpdateDecoder:
    """Decodes the UPDATEs of one session.

    Sessions of the same kind share an `interner`; it must be of the session's kind (`asn4`, `internal`).
    `malformed` is the first UPDATE whose attributes were at fault since somebody took it, for the log.
    """

    def __init__(self, negotiated: Negotiated, internal: bool, interner: Interner | None = None) -> None:
        if interner is None:
            interner = Interner(negotiated.asn4, internal)
        if (interner.context.asn4, interner.context.internal) != (negotiated.asn4, internal):
            raise ValueError(f"an interner for {interner.context} does not fit the session")
        self.interner = interner
        self.malformed: Malformed | None = None
        self._sets = interner.sets
        self._multiprotocol_sets = interner.multiprotocol
        self._families = frozenset(filter(is_prefix_family, negotiated.families))
        self._add_path = negotiated.add_path_receive
        self._extended_next_hop = negotiated.extended_next_hop
        self._ipv4 = IPV4_UNICAST in self._families
        self._ipv4_add_path = IPV4_UNICAST in self._add_path
        self._find_ipv4 = finder(IPV4_UNICAST, self._ipv4_add_path)
        # What MP_UNREACH_NLRI begins with -> family.
        self._withdrawable = {
            family.encode(): (family, finder(family, family in self._add_path)) for family in self._families
        }
        self._asn4 = negotiated.asn4
        self._verbatim = negotiated.asn4 and self._ipv4
        # MP_REACH_NLRI up to the next hop's length -> family; only headers that take the quick way.
        self._quick = {
            family.encode() + bytes((size,)): (family, finder(family, family in self._add_path))
            for family in self._families
            for size in (16, 32)
            if family.afi == 2 or family in self._extended_next_hop
        }

    def decode(self, body: bytes) -> Update:
        """Decode an UPDATE without its header. Raises ProtocolError 3/x where the session must end."""
        reach, unreach, end_of_rib, errors = self.read(body)
        return Update([Reach(*one) for one in reach], [Unreach(*one) for one in unreach], end_of_rib, errors)

    def read(self, body: bytes) -> Told:
        """As `decode`, for who reads thousands of them in a turn."""
        total = len(body)
        if total < 4:
            raise reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, f"an UPDATE of {total} octets")
        at = 2 + (body[0] << 8 | body[1])
        if at + 2 > total:
            raise reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the withdrawn routes overrun the UPDATE")
        end = at + 2 + (body[at] << 8 | body[at + 1])
        if end > total:
            raise reset(UpdateSubcode.MALFORMED_ATTRIBUTE_LIST, "the path attributes overrun the UPDATE")
        block = body[at + 2 : end]
        if end < total and self._verbatim:
            attributes = self._sets.get(block) or self.interner.admit(block)
            if attributes is not None:
                field = body[end:]
                nlri = self._find_ipv4(field)
                if at == 2 and _octets(nlri) == len(field):
                    return ((IPV4_UNICAST, attributes, nlri, field),), (), None, ()
                return self._classic(attributes, body[2:at], field)
        elif at > 2 and not block and end == total and self._ipv4:
            field = body[2:at]
            gone = self._find_ipv4(field)
            if _octets(gone) != len(field):
                gone = self._routable(IPV4_UNICAST, field)
            return _withdrawing(IPV4_UNICAST, gone)
        elif at == 2 and end == total and self._asn4 and len(block) > 1:
            update = self._multiprotocol(block)
            if update is not None:
                return update
        update = self._careful(body[2:at], block, body[end:])
        if update.errors and self.malformed is None:
            involved = [(family, items) for family, _, items, _ in update.reach]
            involved += [(family, items) for family, items in update.unreach]
            self.malformed = Malformed(body, update.errors, involved, self._add_path)
        return update

    def _classic(
        self,
        attributes: AttributeSet,
        withdrawn: bytes,
        field: bytes,
        errors: Sequence[AttributeFault] = (),
    ) -> Update:
        """IPv4 routes with faultless attributes, where NLRI need a closer look or something is withdrawn
        too.
        """
        nlri = self._routable(IPV4_UNICAST, field)
        gone = self._routable(IPV4_UNICAST, withdrawn)
        return self._sorted(
            [Reach(IPV4_UNICAST, attributes, nlri, b"".join(nlri))], [Unreach(IPV4_UNICAST, gone)], errors
        )

    def _multiprotocol(self, block: bytes) -> Told | None:
        """An UPDATE that is MP_REACH_NLRI and canonical attributes, or MP_UNREACH_NLRI alone; None if it is
        anything else.
        """
        if block[1] == 15:
            return self._mp_unreach_alone(block)
        if block[0] == 0x90 and block[1] == 14 and len(block) > 3:  # where we and most others put it
            start = 4
            stop = 4 + (block[2] << 8 | block[3])
            rest = block[stop:]
        else:
            found = _find_mp_reach(block)
            if found is None:
                return None
            first, start, stop = found
            rest = block[:first] + block[stop:]
        quick = self._quick.get(block[start : start + 4])
        if quick is None:
            return None
        family, find = quick
        after = start + 4 + block[start + 3]
        if after + 1 >= stop or stop > len(block):
            return None
        key = block[start + 3 : after] + rest
        attributes = self._multiprotocol_sets.get(key)
        if attributes is None:
            attributes = self.interner.admit_multiprotocol(key, rest)
            if attributes is None:
                return None
        field = block[after + 1 : stop]
        nlri = find(field)
        if _octets(nlri) != len(field):
            return None
        return ((family, attributes, nlri, field),), (), None, ()

    def _mp_unreach_alone(self, block: bytes) -> Told | None:
        """An UPDATE that withdraws routes of one family; None if it is anything else, End-of-RIB included."""
        start = 4 if block[0] & 0x10 else 3
        if block[0] & 0xE0 != 0x80 or len(block) < start + 4:
            return None
        if start + (block[2] << 8 | block[3] if start == 4 else block[2]) != len(block):
            return None
        known = self._withdrawable.get(block[start : start + 3])
        if known is None:
            return None
        family, find = known
        field = block[start + 3 :]
        gone = find(field)
        if _octets(gone) != len(field):
            gone = self._cut_optional(family, field, AttributeCode.MP_UNREACH_NLRI, block).items or []
        return _withdrawing(family, gone)

    def _careful(self, withdrawn: bytes, block: bytes, field: bytes) -> Update:
        """Decode an UPDATE of any shape."""
        if not block and not field and not withdrawn:
            return Update(end_of_rib=IPV4_UNICAST if self._ipv4 else None)
        if field and self._ipv4:
            memo = self.interner.memo(block)
            if memo is not None:
                return self._classic(memo[0], withdrawn, field, memo[1])
        verdict = Examination(block, self.interner.context)
        gone = [self._cut(IPV4_UNICAST, withdrawn)]
        if verdict.mp_unreach is not None:
            gone.append(self._mp_unreach(verdict.mp_unreach, block))
            bare = len(verdict.mp_unreach) == 3 and len(block) <= 7 and not withdrawn and not field
            if bare and gone[1].items is not None:
                return Update(end_of_rib=gone[1].family, errors=verdict.faults)
        classic = self._cut(IPV4_UNICAST, field)
        multiprotocol, next_hop = _Nlri(IPV4_UNICAST, None), b""
        reachable = bool(field)
        if verdict.mp_reach is not None:
            multiprotocol, next_hop, carries = self._mp_reach(verdict.mp_reach, block)
            reachable = reachable or carries
            if not field:
                verdict.ignore_next_hop()
            if multiprotocol.items is not None:
                reason = self._next_hop_fault(multiprotocol.family, next_hop)
                if reason is not None:
                    code = AttributeCode.MP_REACH_NLRI
                    verdict.note(code, _WITHDRAW, UpdateSubcode.INVALID_NEXT_HOP, reason)
        if reachable:
            verdict.require(AttributeCode.ORIGIN, AttributeCode.AS_PATH)
        if field:
            verdict.require(AttributeCode.NEXT_HOP)
        unreach = [Unreach(nlri.family, nlri.items) for nlri in gone if nlri.items]
        if verdict.action == _WITHDRAW:
            if not reachable and not verdict.withdraws_only:
                fault = next(fault for fault in verdict.faults if fault.action == _WITHDRAW)
                subcode = UpdateSubcode(fault.subcode)
                data = _attribute(block, fault.code) if subcode in _QUOTED else b""
                raise reset(subcode, f"{fault.reason}, in an UPDATE without reachable NLRI", data)
            unreach += [Unreach(nlri.family, nlri.items) for nlri in (classic, multiprotocol) if nlri.items]
            return Update(unreach=unreach, errors=verdict.faults)
        reach = []
        if classic.items is not None and field:
            attributes = self.interner.intern(verdict.pieces)
            reach.append(Reach(IPV4_UNICAST, attributes, classic.items, b"".join(classic.items)))
            if verdict.mp_reach is None and verdict.mp_unreach is None:
                self.interner.remember(block, attributes, verdict.faults)
        if multiprotocol.items:
            attributes = self.interner.intern(verdict.pieces, next_hop)
            family, items = multiprotocol.family, multiprotocol.items
            reach.append(Reach(family, attributes, items, b"".join(items)))
        return self._sorted(reach, unreach, verdict.faults)

    def _sorted(self, reach: list[Reach], unreach: list[Unreach], errors: Sequence[AttributeFault]) -> Update:
        """Drop what is empty, and withdrawals of what the same UPDATE announces."""
        reach = [item for item in reach if item.nlri]
        if reach and unreach:
            announced = {(item.family, nlri) for item in reach for nlri in item.nlri}
            unreach = [
                Unreach(family, [item for item in nlri if (family, item) not in announced])
                for family, nlri in unreach
            ]
        return Update(reach, [item for item in unreach if item.nlri], None, errors)

    def _cut(self, family: Family, field: bytes) -> _Nlri:
        """The routable items of a field; ProtocolError 3/10 where it cannot be cut."""
        if family not in self._families:
            return _Nlri(family, None)
        return _Nlri(family, self._routable(family, field))

    def _routable(self, family: Family, field: bytes) -> list[bytes]:
        """The canonical items of a field, without martians."""
        add_path = family in self._add_path
        items = finder(family, add_path)(field)
        if b"".join(items) == field:
            return items
        head = 4 if add_path else 0
        return [item for item in split(field, family, add_path) if not is_martian(item[head:], family)]

    def _cut_optional(self, family: Family, field: bytes, code: AttributeCode, block: bytes) -> _Nlri:
        """`_cut` for NLRI inside an attribute, whose errors are the attribute's (RFC 4760 §7): 3/9."""
        try:
            return self._cut(family, field)
        except ProtocolError as error:
            data = _attribute(block, code)
            raise reset(UpdateSubcode.OPTIONAL_ATTRIBUTE, error.reason, data) from error

    def _mp_unreach(self, value: bytes, block: bytes) -> _Nlri:
        code = AttributeCode.MP_UNREACH_NLRI
        if len(value) < 3:
            data = _attribute(block, code)
            raise reset(UpdateSubcode.OPTIONAL_ATTRIBUTE, f"MP_UNREACH_NLRI of {len(value)} octets", data)
        return self._cut_optional(Family(value[0] << 8 | value[1], value[2]), value[3:], code, block)

    def _mp_reach(self, value: bytes, block: bytes) -> tuple[_Nlri, bytes, bool]:
        """NLRI, next hop, and whether there are any NLRI, of whatever family (RFC 7606 §7.11)."""
        code = AttributeCode.MP_REACH_NLRI
        if len(value) < 5 or 5 + value[3] > len(value):
            raise reset(
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
                f"MP_REACH_NLRI of {len(value)} octets is cut short",
                _attribute(block, code),
            )
        family, size = Family(value[0] << 8 | value[1], value[2]), value[3]
        next_hop, field = value[4 : 4 + size], value[5 + size :]
        if family in self._families and size not in ((16, 32) if family.afi == 2 else (4, 16, 32)):
            raise reset(
                UpdateSubcode.MALFORMED_ATTRIBUTE_LIST,
                f"a next hop of {size} octets for {family}",
                _attribute(block, code),
            )
        return self._cut_optional(family, field, code, block), next_hop, bool(field)

    def _next_hop_fault(self, family: Family, next_hop: bytes) -> str | None:
        """What is wrong with a next hop whose length tells where the NLRI are; None if nothing is."""
        if len(next_hop) > 4 and family.afi == 1 and family not in self._extended_next_hop:
            return f"a next hop of {len(next_hop)} octets for {family}, which was not negotiated"
        return next_hop_fault(next_hop, self.interner.context.loopback)


_QUOTED: Final = frozenset(
    {
        UpdateSubcode.ATTRIBUTE_FLAGS,
        UpdateSubcode.ATTRIBUTE_LENGTH,
        UpdateSubcode.INVALID_ORIGIN,
        UpdateSubcode.INVALID_NEXT_HOP,
        UpdateSubcode.OPTIONAL_ATTRIBUTE,
    }
)
"""The errors whose NOTIFICATION carries the attribute (RFC 4271 §6.3)."""


def _attribute(block: bytes, code: int) -> bytes:
    """The first attribute of a code as received, whole; what is behind it may be cut short."""
    return next((piece for _flags, found, _value, piece in walk(block) if found == code), b"")


def _octets(items: list[bytes]) -> int:
    """How many octets the items of a field are: as many as the field has, if they are all of it."""
    total = 0
    for item in items:
        total += len(item)
    return total


def _withdrawing(family: Family, nlri: list[bytes]) -> Told:
    return (), ((family, nlri),) if nlri else (), None, ()


def _find_mp_reach(block: bytes) -> tuple[int, int, int] | None:
    """Where MP_REACH_NLRI begins, where its value does, and where it ends; None if it is absent or
    irregular.
    """
    position, end = 0, len(block)
    while position + 3 < end:
        flags = block[position]
        if flags & 0x10:
            start = position + 4
            stop = start + (block[position + 2] << 8 | block[position + 3])
        else:
            start = position + 3
            stop = start + block[position + 2]
        if block[position + 1] == 14:
            if flags & 0xE0 != 0x80 or stop > end or stop < start + 5:
                return None
            return position, start, stop
        position = stop
    return None


def encode_updates(
    family: Family, attributes: bytes, next_hop: bytes, nlri: Sequence[bytes], max_length: int = 4096
) -> list[bytes]:
    """UPDATEs, headers included, that announce all of `nlri`, as few and as full as `max_length` allows.

    `attributes` is a block such as `AttributeSet.raw` (or `for_old_speaker` of it), `next_hop` the 4, 16 or
    32 octets to send. IPv4 unicast with an IPv4 next hop uses the NLRI field and has NEXT_HOP among its
    attributes; everything else, RFC 8950 included, travels in MP_REACH_NLRI, which comes first (RFC 7606
    §5.1) and replaces NEXT_HOP. Add-path items are passed as they are. Raises UnsendableError.
    """
    if family == IPV4_UNICAST and len(next_hop) == 4:
        attributes = _with_next_hop(attributes, next_hop)
        room = _left(max_length - HEADER_LENGTH - 4 - len(attributes))
        fixed = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes
        return [_update(fixed, field) for field in _packed(nlri, room)]
    attributes = _with_next_hop(attributes, None)
    head = family.encode() + bytes((len(next_hop),)) + next_hop + b"\0"
    room = _left(max_length - HEADER_LENGTH - 4 - 4 - len(head) - len(attributes))
    return [
        _update(
            b"\0\0%b\x90\x0e%b%b"
            % (
                (4 + len(head) + len(field) + len(attributes)).to_bytes(2, "big"),
                (len(head) + len(field)).to_bytes(2, "big"),
                head,
            ),
            field + attributes,
        )
        for field in _packed(nlri, room)
    ]


def encode_withdrawals(family: Family, nlri: Sequence[bytes], max_length: int = 4096) -> list[bytes]:
    """UPDATEs, headers included, that withdraw all of `nlri`."""
    if family == IPV4_UNICAST:
        return [
            _update(len(field).to_bytes(2, "big") + field, b"\0\0")
            for field in _packed(nlri, max_length - HEADER_LENGTH - 4)
        ]
    return [
        _update(
            b"\0\0%b\x90\x0f%b" % ((7 + len(field)).to_bytes(2, "big"), (3 + len(field)).to_bytes(2, "big")),
            family.encode() + field,
        )
        for field in _packed(nlri, max_length - HEADER_LENGTH - 4 - 7)
    ]


def encode_end_of_rib(family: Family) -> bytes:
    """The End-of-RIB marker of a family (RFC 4724 §2)."""
    if family == IPV4_UNICAST:
        return _update(b"\0\0\0\0", b"")
    return _update(b"\0\0\0\x06\x80\x0f\x03", family.encode())


def _update(head: bytes, tail: bytes) -> bytes:
    length = HEADER_LENGTH + len(head) + len(tail)
    return b"%b%c%c%c%b%b" % (MARKER, length >> 8, length & 0xFF, MessageType.UPDATE, head, tail)


def _left(room: int) -> int:
    """The octets left for NLRI, if any are."""
    if room <= 0:
        raise UnsendableError("the attributes leave no room for NLRI")
    return room


def _packed(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """The items joined into fields of at most `room` octets."""
    field = b"".join(nlri)
    if len(field) <= room:
        if field:
            yield field
        return
    start = size = 0
    for at, item in enumerate(nlri):
        if size + len(item) > room:
            if len(item) > room:
                raise UnsendableError(f"an NLRI of {len(item)} octets where {room} are left", room)
            yield b"".join(nlri[start:at])
            start, size = at, 0
        size += len(item)
    yield b"".join(nlri[start:])


def _with_next_hop(attributes: bytes, next_hop: bytes | None) -> bytes:
    """The block with exactly this NEXT_HOP, or with none."""
    found = next(
        (value for _flags, code, value, _piece in walk(attributes) if code == AttributeCode.NEXT_HOP), None
    )
    return attributes if found == next_hop else rewrite(attributes, {AttributeCode.NEXT_HOP: next_hop})
