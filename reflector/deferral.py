"""When a speaker that started may say End-of-RIB: once every peer has told what it has (RFC 4724 4.1).

Who says it earlier has its peers drop what they kept of it, for want of routes that others were yet to tell.
"""

from collections.abc import Collection, Mapping

from reflector.member import Member

SETTLED_AFTER = 5.0  # seconds after the start before unexpected clients can be said to be complete
QUIET = 2.0  # seconds without news from any of them that mean they are
UNPROMISED = 3.0  # seconds without news of a peer whose End-of-RIB may never come, or only after ours


class Deferral:
    """The wait of one start. `until`: its end in any case; None once it is over."""

    def __init__(self, started: float, seconds: float, *, unexpected_clients: bool) -> None:
        """It lasts `seconds` at most. `unexpected_clients`: others than those `expected` may come, so it also
        waits for a moment of quiet.
        """
        self.until: float | None = started + seconds if seconds > 0 else None
        self.expected: set[str] = set()
        self.incomplete = False
        """Whether there may be peers to expect that nobody could name so far."""
        self.absent: Collection[str] = ()
        """Those of the expected that are not waited for."""
        self._settled_at = started + SETTLED_AFTER if unexpected_clients else started
        self._quiet = QUIET if unexpected_clients else 0.0
        self._stirred_at = started

    def stirred(self, now: float) -> None:
        """A session came up."""
        self._stirred_at = now

    def ends(self, members: Mapping[str, Member], now: float) -> bool:
        """End it if it is time; whether it ended now."""
        if self.until is None or not (now >= self.until or self._all_heard(members, now)):
            return False
        self.until = None
        return True

    def _all_heard(self, members: Mapping[str, Member], now: float) -> bool:
        """Whether every peer we wait for is up and has told everything."""
        if self.incomplete or now < self._settled_at or now < self._stirred_at + self._quiet:
            return False
        for name in self.expected:
            member = members.get(name)
            if (member is None or not member.established) and name not in self.absent:
                return False
        return all(_has_told_all(member, now) for member in members.values())


def _has_told_all(member: Member, now: float) -> bool:
    """Whether no more routes are to come of those a peer had when its session began.

    End-of-RIB says so. One that restarts itself may be waiting for ours (FRR says that it does for two
    minutes), and one without graceful restart has promised none: they have, once they fall silent.
    """
    negotiated = member.negotiated
    if negotiated is None or negotiated.families <= member.heard_eor:
        return True
    promised = negotiated.graceful_restart is not None and not member.restarting
    return not promised and now >= member.news_at + UNPROMISED
