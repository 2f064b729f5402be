"""What each make of BGP speaker can do with the reflector, as data: the tests check it, a page shows it.

A cell of `MATRIX` is a `Cell`: `works` says that a test makes it happen between real daemons each time; what
does not work has the reason, and no test. Only the standard library is used here, so that the page can be
written without anything installed.
"""

from dataclasses import dataclass

MAKES = {
    "bird2": "BIRD 2.0.12",
    "bird1": "BIRD 1.6.8",
    "frr": "FRR 8.4.4",
    "gobgp": "GoBGP 3.10.0",
    "openbgpd": "OpenBGPD 7.7",
    "exabgp": "ExaBGP 5.0.15",
}

FEATURES = {
    "ipv4": "IPv4 routes both ways, next hops untouched",
    "ipv6": "IPv6 routes both ways, next hops untouched",
    "attributes": "communities, large communities, an unknown attribute pass unchanged",
    "refresh_asked": "route refresh: it asks, we send again",
    "refresh_answered": "route refresh: we ask, it sends again",
    "enhanced_refresh": "enhanced refresh: our marks arrive, its marks arrive",
    "their_communication": "shutdown communication: its words in our log",
    "max_prefix": "our limit on its prefixes: Cease 6/1, idle, up again when lifted",
    "peer_restart": "it is killed and restarts gracefully: nobody loses a route",
    "our_restart": "we are killed and restart: it keeps all routes, ends exact",
    "our_communication": "shutdown communication: our words in its log",
    "external": "eBGP session between a 4-octet and a 2-octet AS number",
    "md5": "TCP MD5, right key",
    "gtsm": "GTSM on both sides",
    "md5_wrong": "TCP MD5, wrong key: no session",
    "gtsm_missing": "GTSM on our side only: no session",
    "role": "roles (RFC 9234): matching, up; mismatch, 2/11 and down",
    "add_path_receive": "add-path: it gets every path",
    "add_path_send": "add-path: it sends every path",
    "old_as": "2-octet session, 4-octet AS in the path",
    "extended_next_hop": "IPv4 routes with IPv6 next hops (RFC 8950), both ways",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One make, one feature. `note` says what is special, or why it does not work."""

    works: bool
    note: str = ""


_NO: dict[tuple[str, str], str] = {
    ("refresh_asked", "gobgp"): "keeps what it received and never asks",
    ("enhanced_refresh", "gobgp"): "does not offer it",
    ("enhanced_refresh", "openbgpd"): "counts our marks, then refuses them and our requests as above",
    ("refresh_answered", "openbgpd"): (
        "its RDE refuses the families that were negotiated (an inverted test, OpenBGPD portable issue 46, "
        "fixed in later versions)"
    ),
    ("peer_restart", "openbgpd"): "offers only End-of-RIB, preserves nothing; its routes go and come back",
    ("peer_restart", "frr"): (
        "after its restart it sends End-of-RIB before its own routes: they have to go then, and come back"
    ),
    ("our_restart", "exabgp"): "keeps no routes itself; that is the business of the program behind it",
    ("their_communication", "exabgp"): "its command takes a code but no words",
    ("role", "bird1"): "older than RFC 9234",
    ("role", "gobgp"): "not implemented",
    ("role", "exabgp"): "not implemented",
    ("old_as", "gobgp"): "always offers 4-octet AS numbers",
    ("extended_next_hop", "bird1"): "not implemented",
    ("extended_next_hop", "openbgpd"): "not implemented in 7.7",
}
_NOTES: dict[tuple[str, str], str] = {
    ("ipv4", "bird1"): "two daemons, two sessions",
    ("ipv6", "bird1"): "two daemons, two sessions",
    ("attributes", "frr"): "seen in what FRR passes on; its own display leaves unknown attributes out",
}
MATRIX: dict[str, dict[str, Cell]] = {
    feature: {
        make: Cell(False, _NO[feature, make])
        if (feature, make) in _NO
        else Cell(True, _NOTES.get((feature, make), ""))
        for make in MAKES
    }
    for feature in FEATURES
}


def working(feature: str) -> tuple[str, ...]:
    """The makes a feature works with."""
    return tuple(make for make, cell in MATRIX[feature].items() if cell.works)


REMARKS = """
What else was seen:

- **FRR 8.4** keeps one flag for all families between the marks of an enhanced refresh; two families refreshed
  at once made it ignore half of the marks. The reflector now refreshes one family after the other.
- **FRR**, left by a peer that restarts gracefully, does not connect until its restart time is over: the
  restarted speaker has to. The reflector remembers the clients that only a prefix lets in (`runDirectory`)
  and connects to those that do not come by themselves.
- **BIRD** takes a second connection beside an Established one for another restart, and **FRR** and **BIRD**
  give up what crosses an Established one, whatever the identifiers say. Of two connections that cross, the
  reflector therefore ends the one that may be Established over there last.
- **OpenBGPD** connects again only after two minutes once a session was refused; the reflector connects
  too, so give it the peer's address rather than a prefix of clients, or use `bgpctl neighbor ... clear`,
  once: it ends what is under way, and idles for five seconds.
- **A wrong TCP MD5 key put right, or TTL security lifted, under sessions that could not come up**: the
  reflector gives up what it was trying and begins anew at once; the rest is the patience of the other side.
  After the key BIRD, FRR, GoBGP and ExaBGP were up in 13 seconds, OpenBGPD after 44: it stays with its own
  attempt, which TCP repeats at doubling intervals. After TTL security FRR was up in 7.5 seconds, the others
  after 54 to 76 on a busy machine: on their side a connection had got as far as OpenConfirm, its end counts
  as a failure, and OpenBGPD for one holds itself idle after that.
- **What ExaBGP hears** is held against what was announced, attribute by attribute, for 1,364 recorded
  attribute sets too (`tests/reflector/test_exabgp_oracle.py`).
- **GoBGP** logs a shutdown communication as octets when it comes in a Hard Reset (RFC 8538), that is when its
  `notification-enabled` is on; the cell was seen with it off.
- **BIRD 1.6** and **FRR** may announce IPv6 routes with a link-local next hop beside the global one; the
  reflector passes both on unchanged.
- **os-ken 4.2.2** (OpenStack's speaker), **Ryu 4.34** and **ExaBGP 4.0.10 and 4.2.22** have exact routes with
  the reflector, os-ken and ExaBGP 4.2.22 with the agent too (no test repeats it); os-ken's session passwords
  fail under Python 3. **yabgp 0.8.2** announces `::/0` beside IPv6 prefixes: filter it.
"""
