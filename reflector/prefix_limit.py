"""How many prefixes a peer may announce: warned of near it, and beyond it a Cease (RFC 4486 4, subcode 1).

And how many paths of each: what is more is not taken in, and told of once.
"""

from collections.abc import Mapping

import structlog

from bgpd.rib.loc_rib import LocRib
from bgpd.wire.nlri import Family
from reflector.entry import Entry
from reflector.journal import SessionJournal
from reflector.member import Member

log = structlog.get_logger(__name__)  # compiled there is no frame to read it from


def check_limit(
    entry: Entry, member: Member, ribs: Mapping[Family, LocRib], journal: SessionJournal, now: float
) -> None:
    """Act on what a member has announced so far."""
    if member.overfull and not entry.overfull:
        entry.overfull = True
        journal.overfull(entry.address, entry.spec.member.path_limit)
    limit, warn_at = entry.spec.max_prefixes, entry.spec.warn_at
    if limit is None:
        entry.warned = None
        return
    # What a peer had before its restart and has not announced again does not count against it. What is stale
    # in its refresh does: else it could begin one after the other.
    counts = {
        family: len(rib.received(member.source))
        - (rib.stale_count(member.source) if member.returning(family) else 0)
        for family, rib in ribs.items()
    }
    total = sum(counts.values())
    if total > limit:
        family = max(counts, key=lambda f: counts[f])
        log.warning("too many prefixes", peer=entry.address, received=total, limit=limit)
        entry.peer.exceed_prefix_limit(family, limit, now, entry.spec.restart_after)
    elif total * 100 >= limit * warn_at and entry.warned != (limit, warn_at):
        entry.warned = limit, warn_at
        journal.near_limit(entry.address, total, limit)
