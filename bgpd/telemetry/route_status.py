"""A path of the RIB in words, the same for every service that shows one."""

from ipaddress import ip_address

from bgpd.rib.path import Path
from bgpd.telemetry.status import RouteStatus
from bgpd.wire.iana import Origin, SegmentType
from bgpd.wire.nlri import Family


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
