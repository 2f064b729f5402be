"""What of a RIB is shown, the same for every service: prefixes found by their octets, a path in words."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from bgpd.rib.path import Path
from bgpd.telemetry.status import RouteStatus, Sample, SampleKind
from bgpd.wire.iana import Origin, SegmentType
from bgpd.wire.nlri import Family, nlri_of

_REASONS = 20


def route_status(
    prefix: str, family: Family, path: Path, *, best: bool, reason: str, stale: bool = False
) -> RouteStatus:
    """One path to `prefix`; `reason` is why it is the best or lost."""
    attributes = path.attributes
    return RouteStatus(
        prefix=prefix,
        family=str(family),
        next_hop=str(ip_address(attributes.next_hop[:16])) if attributes.next_hop else "",
        peer=path.source.name,
        best=best,
        reason=reason,
        ineligible=path.ineligible or "",
        origin=Origin(attributes.origin).name.lower(),
        as_path=" ".join(
            " ".join(map(str, numbers))
            if kind == SegmentType.AS_SEQUENCE
            else "{" + ",".join(map(str, numbers)) + "}"
            for kind, numbers in attributes.as_path
        ),
        local_pref=attributes.local_pref,
        med=attributes.med,
        communities=tuple(f"{value >> 16}:{value & 0xFFFF}" for value in attributes.communities),
        large_communities=tuple(":".join(map(str, each)) for each in attributes.large_communities),
        extended_communities=tuple(each.hex() for each in attributes.extended_communities),
        originator_id=str(ip_address(attributes.originator_id)) if attributes.originator_id else "",
        cluster_list=tuple(str(ip_address(each)) for each in attributes.cluster_list),
        stale=stale or path.long_lived_stale,
    )


def within(nlris: Iterable[bytes], wanted: IPv4Network | IPv6Network) -> list[bytes]:
    """Those of one family's prefixes that are `wanted` or more specific, in order.

    Octets are compared, nothing is turned into text: a table of 100,000 is searched in some 20 ms.
    """
    length = wanted.prefixlen
    exact = nlri_of(wanted)
    whole, rest = divmod(length, 8)
    stop = 1 + whole
    head, mask, last = exact[1:stop], 0xFF00 >> rest & 0xFF, exact[stop] if rest else 0
    return sorted(
        nlri
        for nlri in nlris
        if nlri[0] >= length and nlri[1:stop] == head and (not rest or nlri[stop] & mask == last)
    )


def rejections(reasons: Iterable[str]) -> list[Sample]:
    """Samples of why routes may not compete: the commonest reasons by name, the rest together as "other"."""
    counts = Counter(reasons)
    named = counts.most_common(_REASONS)
    rest = counts.total() - sum(count for _, count in named)
    return [
        Sample(
            "rejected_routes",
            "Routes held that may not compete.",
            count,
            SampleKind.GAUGE,
            (("reason", reason),),
        )
        for reason, count in [*named, *([("other", rest)] if rest else [])]
    ]
