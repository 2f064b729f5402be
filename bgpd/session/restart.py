"""What the end of a session means for the routes learnt on it (RFC 4724 section 4.2, RFC 8538).

Only the question "for which families may the routes be kept as stale" is answered here; keeping, sweeping and
the restart timer are the owner's. Long-lived graceful restart (RFC 9494) starts from the same answer.
"""

from bgpd.wire.capabilities import Capabilities, Negotiated
from bgpd.wire.iana import CeaseSubcode, ErrorCode
from bgpd.wire.messages import Notification
from bgpd.wire.nlri import Family

HARD_BY_DEFAULT = frozenset(
    {
        CeaseSubcode.MAXIMUM_PREFIXES_REACHED,
        CeaseSubcode.ADMINISTRATIVE_SHUTDOWN,
        CeaseSubcode.PEER_DECONFIGURED,
    },
)
"""Ends that are meant: nobody is coming back, so the peer shall not keep our routes."""


def notifications_are_graceful(local: Capabilities, negotiated: Negotiated | None) -> bool:
    """Both sides have set the N bit, so that a NOTIFICATION starts a graceful restart (RFC 8538 section
    2)."""
    ours = local.graceful_restart
    theirs = negotiated.graceful_restart if negotiated else None
    return ours is not None and theirs is not None and ours.notification and theirs.notification


def is_hard_reset(notification: Notification) -> bool:
    """Cease / Hard Reset: nothing is kept (RFC 8538 section 3)."""
    return notification.code == ErrorCode.CEASE and notification.subcode == CeaseSubcode.HARD_RESET


def retained_families(
    local: Capabilities,
    negotiated: Negotiated | None,
    notification: Notification | None,
) -> frozenset[Family]:
    """The families whose routes may outlive the session: those of either capability (RFC 9494 section 4.2).

    `notification` is the one sent or received at its end; None: TCP went away, or the peer came anew.
    """
    if negotiated is None or negotiated.graceful_restart is None:
        return frozenset()
    if notification is not None and (
        is_hard_reset(notification) or not notifications_are_graceful(local, negotiated)
    ):
        return frozenset()
    restartable = {family for family, _ in negotiated.graceful_restart.families}
    long_lived = {family for family, _, _ in negotiated.long_lived}  # with a restart time of zero, if alone
    return frozenset(restartable | long_lived) & negotiated.families


def as_hard_reset(notification: Notification) -> Notification:
    """`notification` wrapped into a Cease / Hard Reset, which carries it as data (RFC 8538 section 3.1)."""
    return Notification(ErrorCode.CEASE, CeaseSubcode.HARD_RESET, notification.body())
