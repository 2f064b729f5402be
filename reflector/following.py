"""Following the datastore: from watched resources to the plan of this reflector's node, to a spec.

Loaded only by a reflector that has a datastore: the clients of etcd take half as much memory again as a
reflector that is told its peers by a file. A plan that cannot be made changes nothing, and a datastore
that is lost takes nothing away; what cannot be read counts as it was, over a restart too. The reflector shows
its node as alive while it runs, which makes it a candidate where the cluster elects its reflectors.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from bgpd.datastore import (
    DatastoreError,
    Hold,
    Interests,
    LastGood,
    Secrets,
    Unread,
    open_datastore,
)
from bgpd.plan import NodePlan, PlanError, SecretRef, plan_node
from bgpd.resources import ResourceSet
from bgpd.telemetry.aside import aside
from bgpd.telemetry.config import ConfigError
from bgpd.telemetry.documents import plain
from bgpd.telemetry.reporter import Reporter
from bgpd.telemetry.status import StatusSource, StoreHealth
from reflector.config import ReflectorConfig, run_directory
from reflector.declared import PeerSpecs, spec_of
from reflector.sockets import SocketError
from reflector.spec import ReflectorSpec

# What the plan of a reflector's sessions depends on: nothing of any workload.
INTERESTS = Interests(
    kinds=frozenset(
        {"Node", "BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool", "CairnConfiguration", "NodeLease"}
    )
)

_PASSWORDS_EVERY = 2.0  # seconds
LEASE_TTL = 15.0  # seconds after which a reflector that died counts as dead

log = structlog.get_logger()


def _secrets_of(plan: NodePlan) -> list[SecretRef]:
    return [peering.password for peering in plan.peerings if peering.password is not None]


class Following:
    """Keeps a reflector in step with the datastore.

    `carry_out` is given each new spec, and may raise ValueError or SocketError to refuse it; `refused`
    is told in words what could not be done. Raises ConfigError when the datastore cannot be opened.
    """

    def __init__(
        self,
        config: ReflectorConfig,
        environ: Mapping[str, str],
        carry_out: Callable[[ReflectorSpec], None],
        refused: Callable[[str], None],
    ) -> None:
        self.config = config
        self._carry_out = carry_out
        self._refused = refused
        self._resources: ResourceSet | None = None
        self._last_good = LastGood(run_directory(config, environ))
        self._unread = Unread(config.node)
        self._plan: NodePlan | None = None
        self._peers = PeerSpecs()
        self._spec: ReflectorSpec | None = None  # the last that was carried out
        self._hold: Hold | None = None
        self._seen_alive: frozenset[str] = frozenset()
        self._dead: frozenset[str] = frozenset()
        self.problems: tuple[str, ...] = ()
        self.invalid: dict[str, str] = {}  # place → why it cannot be read
        try:
            self._store = open_datastore(config.datastore, environ)
        except DatastoreError as error:
            raise ConfigError(f"datastore: {error}") from error
        self.location = self._store.location
        self._secrets = Secrets(config.secrets, environ, self._store)
        self._passwords: Mapping[SecretRef, str] = {}

    async def run(self) -> None:
        """Follow until cancelled. The store sees to its own outages; what it said last stays."""
        tasks = (aside(self._show_alive(), "liveness"), aside(self._watch_passwords(), "passwords"))
        try:
            await self._follow()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _show_alive(self) -> None:
        while self._hold is None and self.config.node is not None:
            try:
                self._hold = await self._store.hold(self.config.node, LEASE_TTL)
            except DatastoreError as error:
                log.warning("the liveness lease cannot be had yet", reason=str(error))
                await asyncio.sleep(LEASE_TTL / 3)

    async def _follow(self) -> None:
        resources = ResourceSet.of()
        async with contextlib.aclosing(self._store.watch(INTERESTS)) as stream:
            async for news in stream:
                resources = self._last_good.counted(news, resources)
                for place, reason in dict.fromkeys((each.place, each.reason) for each in news.invalid):
                    if reason is None:
                        self.invalid.pop(place, None)
                    else:
                        self.invalid[place] = reason
                        what = "a resource cannot be read; its last good version counts, if one is known"
                        log.error(what, place=place, reason=reason)
                self._unread.heard(news, resources)
                self._resources = resources
                await self._fetch_passwords()
                self.declare()

    async def report(self, source: StatusSource) -> None:
        """Report `source` into the datastore, and answer questions there, until cancelled."""
        if self.config.node is not None:
            await Reporter(self._store, source, self.config.node).run()

    async def close(self, *, returning: bool = False) -> None:
        """Let go of the datastore, and of being alive in it (`returning`: of that when its time is over)."""
        if self._hold is not None and not returning:
            with contextlib.suppress(DatastoreError):
                await self._hold.release()
        await self._store.close()

    def declare(self) -> None:
        """Make the plan and carry it out, also anew after the configuration or a password changed."""
        if self._resources is None or self.config.node is None:
            return
        self._secrets.directory = self.config.secrets
        try:
            if self._plan is None and self._unread.reason:
                raise PlanError("settings", self._unread.reason)
            plan = plan_node(self._unread.planned(self._resources), self.config.node)
            passwords, missing = self._secrets.read_all(_secrets_of(plan))
            live = self._resources.live_nodes
            if self._store.health().current:  # nobody is declared dead on old news
                # One that is declared again has not been seen yet.
                self._seen_alive = (self._seen_alive & self._resources.nodes.keys()) | live
                self._dead = self._seen_alive - live
            spec, _ = spec_of(plan, self.config, passwords, live, self._dead, self._peers)
            spec = replace(spec, incomplete=self._unread.peers)
            if spec != self._spec:
                self._spec = None
                self._carry_out(spec)
                self._spec = spec
        except (PlanError, ValueError, SocketError) as error:
            self._refused(f"the plan cannot be carried out: {error}")
            return
        except Exception as error:  # a resource nobody thought of: it shall not end what runs
            log.exception("a defect of the plan")
            self._refused(f"the plan cannot be carried out: {type(error).__name__}: {error}")
            return
        for remark in plan.remarks:
            if self._plan is None or remark not in self._plan.remarks:
                log.warning("the plan has a remark", remark=remark)
        self._plan, self._passwords = plan, passwords
        self.problems = tuple(
            f"{peering.name}: {missing[peering.password]}; the session stays down"
            for peering in plan.peerings
            if peering.password in missing
        )
        for problem in self.problems:
            log.error("a peer is left out", reason=problem)

    async def _fetch_passwords(self) -> None:
        """Have those passwords at hand that only the datastore may have."""
        if self._resources is not None and self.config.node is not None:
            try:
                plan = plan_node(self._unread.planned(self._resources), self.config.node)
            except Exception:  # noqa: BLE001  what it is, `declare` says
                return
            await self._secrets.fetch(_secrets_of(plan), asyncio.get_running_loop().time())

    async def _watch_passwords(self) -> None:
        """A password that was changed begins its own sessions anew, and no other."""
        while True:
            await asyncio.sleep(_PASSWORDS_EVERY)
            await self._fetch_passwords()
            if self._plan is not None:
                found, _ = self._secrets.read_all(_secrets_of(self._plan))
                if found != self._passwords:
                    log.info("a session's password was changed")
                    self.declare()

    def plan(self) -> Mapping[str, object]:
        """The plan in force as JSON-able values."""
        return {} if self._plan is None else plain(self._plan)

    def health(self) -> StoreHealth:
        """How the datastore is."""
        return self._store.health()
