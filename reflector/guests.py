"""How many clients that nobody named may have routes kept while they are away.

Each address of a prefix is a client of its own. One that walks through them, with graceful restart and a new
session at each, would leave its routes at all of them, each for the time it said itself. Those of declared
peers are bounded by their number; of these, as many may be away as ever were there at the same time: all of
them, when a switch dies. If more are away, those go first whose session was the shortest.
"""

from collections.abc import Collection, Iterable

from reflector.member import Member

FEWEST = 32  # may be away in any case


class Guests:
    """The clients that nobody named."""

    def __init__(self) -> None:
        self._most = 0

    def surplus(self, members: Iterable[Member], named: Collection[str]) -> list[Member]:
        """Those of the members away whose routes are kept no longer."""
        guests = [member for member in members if member.name not in named]
        away = [member for member in guests if not member.established]
        self._most = max(self._most, len(guests) - len(away))
        surplus = len(away) - max(FEWEST, self._most)
        return sorted(away, key=lambda member: member.lasted)[:surplus] if surplus > 0 else []
