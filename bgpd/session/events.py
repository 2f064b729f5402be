"""What a session tells its owner.

Events come out of `Session.events()` in the order in which things happened on the wire. UPDATEs arrive in
batches, one event per call of `receive_data` and not one per message: at 80,000 UPDATEs for a full table an
object for each would be felt. A `Malformed` among them follows, for the log alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bgpd.wire.capabilities import Negotiated
from bgpd.wire.malformed import Malformed
from bgpd.wire.messages import Notification, Open
from bgpd.wire.nlri import Family
from bgpd.wire.update import Told


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer's OPEN was good; the session is in OpenConfirm."""

    open: Open


@dataclass(frozen=True, slots=True)
class Established:
    """The session is up. `asn` is the peer's AS number in its four-octet form.

    The peer's graceful restart state and its per-family forwarding bits (RFC 4724) are in
    `negotiated.graceful_restart`; None there: it has not offered the capability.
    """

    negotiated: Negotiated
    open: Open
    asn: int
    internal: bool


@dataclass(frozen=True, slots=True)
class UpdatesReceived:
    """Decoded UPDATEs, in order, at least one. Treat-as-withdraw (RFC 7606) is already applied to them.

    Those in a row that do nothing but withdraw of one family are one.
    """

    updates: Sequence[Told]


@dataclass(frozen=True, slots=True)
class RefreshRequested:
    """A ROUTE-REFRESH for a negotiated family.

    `subtype` is a `RefreshSubtype`: a request (RFC 2918), or the beginning or end of the re-advertisement we
    asked for (RFC 7313).
    """

    family: Family
    subtype: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; always the last event of a session.

    `sent` and `received` are the NOTIFICATION that ended it, if there was one. `established`: the session had
    been up, so there are routes to deal with; `retain` names the families whose routes may be kept as stale
    (RFC 4724 section 4.2, RFC 8538 section 4), which is none after a hard reset. `counts`: RFC 4271
    adds one to ConnectRetryCounter. `crossed`: a connection that met this one before it was up goes on,
    so the peer has not restarted meanwhile.
    """

    reason: str
    sent: Notification | None
    received: Notification | None
    established: bool
    retain: frozenset[Family]
    counts: bool
    crossed: bool = False


Event = Opened | Established | UpdatesReceived | Malformed | RefreshRequested | Closed
