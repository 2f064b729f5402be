"""What a reflector tells of itself (`StatusSource`) while it waits for its first plan."""

from collections.abc import Callable, Mapping, Sequence

from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.status import (
    EventRing,
    PeerStatus,
    PeerVerb,
    RoutePage,
    RouteQuery,
    Sample,
    ServiceStatus,
    StoreHealth,
)


class WaitingStatus:
    """It works, is not well, and has nothing to show."""

    def __init__(
        self,
        service: ServiceStatus,
        events: EventRing,
        store: Callable[[], StoreHealth],
        why: Callable[[], str],
    ) -> None:
        self._service = service
        self._events = events
        self._store = store
        self._why = why

    @property
    def events(self) -> EventRing:
        return self._events

    def service(self) -> ServiceStatus:
        return self._service

    def working(self) -> tuple[bool, str]:
        return True, "waiting"

    def healthy(self) -> tuple[bool, str]:
        return False, f"no plan: {self._why()}"

    def peers(self) -> Sequence[PeerStatus]:
        return ()

    def routes(self, query: RouteQuery) -> RoutePage:  # noqa: ARG002  nothing matches
        return RoutePage(0, ())

    def plan(self) -> Mapping[str, object]:
        return {}

    def samples(self) -> Sequence[Sample | Distribution]:
        return ()

    def datastore(self) -> StoreHealth | None:
        return self._store()

    async def drain(self, draining: bool = True) -> None:
        """It tells nobody anything yet."""

    async def operate(self, verb: PeerVerb, peer: str, reason: str) -> None:
        raise NotImplementedError("there are no peers yet")
