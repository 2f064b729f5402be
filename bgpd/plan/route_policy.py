"""A policy applied to a real route: what its rules look at, and what they change.

`policy` decides on facts and knows no wire format; here a path's attributes become those facts, and a
decision becomes new attributes. Agent and reflector both filter through this, so a rule means the same
in both.
"""

from itertools import takewhile

from bgpd.plan.policy import Decision, RouteFacts, local_pref_of, priority_of
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.iana import AttributeCode, SegmentType
from bgpd.wire.nlri import Family, prefix_of

_SEGMENT_LIMIT = 255


def facts_of(nlri: bytes, family: Family, attributes: AttributeSet, normal_priority: int) -> RouteFacts:
    """What rules can look at in a learned route. `normal_priority` stands for a missing LOCAL_PREF."""
    return RouteFacts(
        prefix=prefix_of(nlri, family),
        priority=priority_of(attributes.local_pref, normal_priority),
        remote=True,
        communities={
            *((value >> 16, value & 0xFFFF) for value in attributes.communities),
            *attributes.large_communities,
        },
        as_path=tuple(asn for _, numbers in takewhile(_in_order, attributes.as_path) for asn in numbers),
    )


def _in_order(segment: tuple[int, tuple[int, ...]]) -> bool:
    return segment[0] == SegmentType.AS_SEQUENCE


def changed(attributes: AttributeSet, decision: Decision) -> AttributeSet:
    """The attributes after the operations of the rule that accepted the route."""
    changes: dict[int, bytes | None] = {}
    if decision.priority_set:
        changes[AttributeCode.LOCAL_PREF] = local_pref_of(decision.priority).to_bytes(4, "big")
    standard = [community.numbers for community in decision.communities if not community.is_large]
    large = [community.numbers for community in decision.communities if community.is_large]
    if standard:
        values = {*attributes.communities, *((high << 16) | low for high, low in standard)}
        changes[AttributeCode.COMMUNITIES] = b"".join(value.to_bytes(4, "big") for value in sorted(values))
    if large:
        triples = sorted({*attributes.large_communities, *large})
        changes[AttributeCode.LARGE_COMMUNITIES] = b"".join(
            number.to_bytes(4, "big") for triple in triples for number in triple
        )
    if decision.prepend:
        changes[AttributeCode.AS_PATH] = _prepended(attributes, decision.prepend)
    if not changes:
        return attributes
    next_hop = b"" if attributes.present >> AttributeCode.NEXT_HOP & 1 else attributes.next_hop
    return AttributeSet.of(attributes.rewritten(changes), next_hop)


def med_abroad(attributes: AttributeSet, decision: Decision) -> int | None:
    """The MULTI_EXIT_DISC another AS is told of a route that a rule accepted: the priority it set, or else
    what came with the route, if it is our own AS's, whatever the rule puts in front of its path.
    """
    if decision.priority_set:
        return decision.priority
    return None if attributes.as_path else attributes.med


def _prepended(attributes: AttributeSet, numbers: tuple[int, ...]) -> bytes:
    segments = list(attributes.as_path)
    if segments and segments[0][0] == SegmentType.AS_SEQUENCE:
        joined = (*numbers, *segments[0][1])
        if len(joined) <= _SEGMENT_LIMIT:
            numbers, segments = joined, segments[1:]
    segments.insert(0, (SegmentType.AS_SEQUENCE, numbers))
    return b"".join(
        bytes((kind, len(each))) + b"".join(asn.to_bytes(4, "big") for asn in each) for kind, each in segments
    )
