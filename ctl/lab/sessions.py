"""The sessions of a lab's members, asked from their status interfaces again and again, and told when they
change."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ctl.lab.layout import Layout, Member
from ctl.services import Service, Unreachable

_EVERY = 0.5  # seconds between two questions


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a member's service says about its sessions: how many there are, and the names of those up."""

    total: int = 0
    up: frozenset[str] = frozenset()


class SessionWatch:
    """Knows the sessions of all members that are alive. `tell` hears member, peer and whether it is up."""

    def __init__(
        self,
        layout: Layout,
        service_of: Callable[[Member], Service],
        alive: Callable[[Member], bool],
        tell: Callable[[str, str, bool], None],
    ) -> None:
        self._layout = layout
        self._service_of = service_of
        self._alive = alive
        self._tell = tell
        self._known: dict[str, Sessions] = {}

    def of(self, member: Member) -> Sessions:
        """What is known of a member's sessions."""
        return self._known.get(member.name, Sessions())

    def forget(self, member: Member) -> None:
        """The member has no power: whatever it had is gone."""
        for peer in sorted(self.of(member).up):
            self._tell(member.name, peer, False)
        self._known.pop(member.name, None)

    async def follow(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY)

    async def ask(self) -> None:
        """Ask every living member once."""
        await asyncio.gather(*(self._ask(member) for member in self._layout if self._alive(member)))

    async def _ask(self, member: Member) -> None:
        try:
            async with self._service_of(member) as service:
                peers = (await service.get("peers"))["peers"]
        except (Unreachable, OSError):
            return
        if not self._alive(member):  # its power went while it spoke
            return
        before, up = self.of(member).up, frozenset(peer["name"] for peer in peers if peer["established"])
        self._known[member.name] = Sessions(len(peers), up)
        for name in sorted(before ^ up):
            self._tell(member.name, name, name in up)
