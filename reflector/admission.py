"""What becomes of a received route before the RIB has it: may it be chosen, and what does a policy change.

An ineligible route is kept with its reason (RFC 4456, RFC 4271 9.1.2); see `bgpd.rib.reflection` for what
holds on every session. Here: what is looked at besides with a peer of another AS, and import filters.
"""

from bgpd.plan.policy import Decision
from bgpd.plan.route_policy import changed, decide, facts_of
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY
from bgpd.rib.loc_rib import PATH_ID_OCTETS, Received
from bgpd.rib.reflection import leak, least_preferred, only_to_customer
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.errors import UnsendableError
from bgpd.wire.iana import AttributeCode, SegmentType, WellKnownCommunity
from bgpd.wire.nlri import Family
from reflector.member import Member

_AS_SEQUENCE = bytes((SegmentType.AS_SEQUENCE,))


def external(member: Member, attributes: AttributeSet, reason: str | None) -> tuple[AttributeSet, str | None]:
    """What is looked at besides on a session with another AS, or under another AS number of ours."""
    options, asn = member.options, member.source.asn
    local = options.local_asn
    if reason is None and local is not None and attributes.count_as(local) > options.allowed_own_as:
        reason = f"AS loop: AS_PATH contains our AS {local}"
    if options.internal:
        return attributes, reason
    if reason is None and member.local_address and attributes.next_hop[:16] == member.local_address:
        reason = "the next hop is our own address (RFC 4271 6.3)"
    path = attributes.value(AttributeCode.AS_PATH) or b""
    first = path[2:6] if path[:1] == _AS_SEQUENCE else b""
    if reason is None and options.enforce_first_as and first != asn.to_bytes(4, "big"):
        reason = f"AS_PATH does not begin with the peer's AS {asn} (RFC 4271 6.3)"
    if options.honour_graceful_shutdown and attributes.has_community(WellKnownCommunity.GRACEFUL_SHUTDOWN):
        attributes = least_preferred(attributes)
    if options.role is not None:
        reason = reason or leak(attributes, options.role, asn)
        attributes = only_to_customer(attributes, options.role, asn)
    if reason is None and not options.accepts:
        reason = "no import policy for an external peer (RFC 8212)"
    return attributes, reason


def filtered(
    member: Member, family: Family, attributes: AttributeSet, items: list[bytes], reason: str | None
) -> list[Received]:
    """What the import filters of a session make of a route, prefix by prefix."""
    skip = PATH_ID_OCTETS if family in member.adds_paths else 0
    options = member.options
    done: dict[Decision, tuple[AttributeSet, str | None]] = {}
    sorted_out: dict[tuple[AttributeSet, str | None], list[bytes]] = {}
    for item in items:
        accepted, why = attributes, reason
        facts = facts_of(item[skip:], family, attributes, DEFAULT_ROUTE_PRIORITY)
        decision = decide(options.import_filters, facts, options.internal)
        if decision is not None and decision.accept:
            if decision not in done:
                done[decision] = _filled(attributes, decision)
            accepted, too_long = done[decision]
            why = why or too_long
        elif decision is not None:
            why = why or f"rejected on import: {decision.reason}"
        sorted_out.setdefault((accepted, why), []).append(item)
    return [(accepted, some, b"", why) for (accepted, why), some in sorted_out.items()]


def _filled(attributes: AttributeSet, decision: Decision) -> tuple[AttributeSet, str | None]:
    """What an accepting rule makes of the attributes; where that has no room, as they were, and why."""
    try:
        return changed(attributes, decision), None
    except UnsendableError as error:
        return attributes, f"the import filter adds too much: {error}"
