"""What becomes of a received route before the RIB has it: may it be chosen, and what does a policy change.

An ineligible route is kept with its reason (RFC 4456, RFC 4271 9.1.2); see `bgpd.rib.reflection` for what
holds on every session. Here: what is looked at besides with a peer of another AS, and import filters.
"""

from bgpd.plan.policy import Decision, Judge
from bgpd.plan.route_policy import changed, facts_of
from bgpd.resources.bgp_configuration import DEFAULT_ROUTE_PRIORITY
from bgpd.rib.loc_rib import PATH_ID_OCTETS, Received
from bgpd.rib.reflection import leak, least_preferred, only_to_customer
from bgpd.wire.attributes import AttributeSet
from bgpd.wire.errors import UnsendableError
from bgpd.wire.iana import AttributeCode, SegmentType, WellKnownCommunity
from bgpd.wire.nlri import Family, numbers_of
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
    if not items:
        return []
    facts = facts_of(items[0][skip:], family, attributes, DEFAULT_ROUTE_PRIORITY)
    judge = Judge(options.import_filters, facts, options.internal)
    decided: dict[
        int, tuple[Decision | None, list[bytes]]
    ] = {}  # by identity: the judge has one for each rule
    for item in items:
        decision = judge.decide(*numbers_of(item[skip:], family))
        decided.setdefault(id(decision), (decision, []))[1].append(item)
    received: list[Received] = []
    for decision, some in decided.values():
        accepted, why = _applied(attributes, decision)
        received.append((accepted, some, b"", reason or why))
    return received


def _applied(attributes: AttributeSet, decision: Decision | None) -> tuple[AttributeSet, str | None]:
    """What a decision makes of the attributes, and why it refuses; without room for it, as they were."""
    if decision is None:
        return attributes, None
    if not decision.accept:
        return attributes, f"rejected on import: {decision.reason}"
    try:
        return changed(attributes, decision), None
    except UnsendableError as error:
        return attributes, f"the import filter adds too much: {error}"
