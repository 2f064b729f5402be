"""The node agent: declared state in, sessions and kernel routes out.

One loop, four inputs: the datastore (→ plan → announcements, own routes, which sessions), the sessions
(→ Loc-RIB → kernel), the kernel (→ next hops resolved anew), and the clock (→ what may be forgotten). Each
input changes a declaration; what follows from it is the business of the part that holds the other side.

Nothing that a former life left behind is removed before the picture is complete: the datastore has been
read, and every session has told everything or been given `syncWait` seconds for it. Until then routes are
only added and replaced. With no session at all it stays so: a node that cannot ask anyone keeps what it has
(where what was learned is to `Expire`, for the time that its peers promised a former agent); and with none
within the AS, where peers of it are planned (see ``learned``: fail static). And a peer that is away has the
time it promised, over our own restart too: until then what nobody else told by then stays. (A node that is
planned without any peer waits as long before it believes that.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import aclosing
from importlib.metadata import version

import structlog

from agent.announcements import with_disputed
from agent.config import AgentConfig
from agent.dead import Addresses, Leases, addresses_of
from agent.disputes import Disputes
from agent.exabgp.adj_rib_out import Refused
from agent.files import hold
from agent.forwarding import Forwarding
from agent.journal import PlanJournal
from agent.kernel.fib import Fib
from agent.kernel.message import Place
from agent.kernel.moving import forget, move
from agent.learned import Bounds, Learned
from agent.needed import Needs
from agent.registration import namesake, register, why_absent
from agent.retention import Retention, unseen
from agent.sessions import Sessions
from agent.tunnels import Tunnels, mac_of, set_up
from agent.workloads import Workloads
from bgpd.datastore import (
    Changes,
    Datastore,
    DatastoreError,
    Hold,
    Interests,
    LastGood,
    Secrets,
    Unread,
)
from bgpd.plan import NodePlan, PlanError, plan_node
from bgpd.resources import Node, ResourceSet
from bgpd.telemetry.distribution import Distribution, Stopwatch
from bgpd.telemetry.flapping import Flapping
from bgpd.telemetry.status import EventRing, Severity
from bgpd.wire.errors import ProtocolError
from bgpd.wire.iana import MessageType

KINDS = frozenset(
    {
        "BGPConfiguration", "BGPFilter", "BGPPeer", "BlockAffinity", "CairnConfiguration", "IPPool", "Node",
        "NodeLease", "WorkloadEndpoint",
    }
)  # fmt: skip
_LONGEST_TICK = 1.0
_PASSWORDS_EVERY = 2.0  # seconds
_ALONE_EVERY = 0.2
_FIRST_CORRECTION, _LONGEST_CORRECTION = 0.5, 3600.0  # seconds after somebody declared this node otherwise

log = structlog.get_logger("agent")


class Agent:
    """One node's agent. `run` until cancelled, then `leave` or `withdraw`."""

    def __init__(
        self, config: AgentConfig, store: Datastore, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.config = config
        self.store = store
        self.events = EventRing()
        self.started_at = time.time()
        self._journal = PlanJournal(self.events, time.time)
        self._flapping = Flapping()
        self.version = version("cairn")
        self.mode = "running"
        self.plan: NodePlan | None = None
        self.plan_error = "the datastore has not been read yet"
        self.in_sync = False
        self.invalid: dict[str, str] = {}
        self._unread = Unread(config.node)
        self._last_good = LastGood(config.exabgp.run_directory)
        self._retention = Retention(config.exabgp.run_directory / "retained.json")
        self._sparing = False  # in sync, but for what peers of a former life may come to tell again
        kernel = config.kernel
        self.fib = Fib(
            Place(kernel.table, kernel.metric, kernel.protocol),
            self._hops_of,
            self._links_changed,
            dry_run=kernel.dry_run,
            default_route=kernel.resolve_by_default_route,
            compare_every=kernel.compare_every,
        )
        self.to_wire = Stopwatch(
            Distribution(
                "datastore_to_wire_seconds", "From a datastore change to ExaBGP's word that it is told."
            )
        )
        self.to_kernel = Stopwatch(
            Distribution("received_to_kernel_seconds", "From an UPDATE received to the kernel's routes.")
        )
        self.fib.applied = self._written
        self.fib.went = self._link_went
        self.learned = Learned(
            Bounds(bytes(4), None, config.max_routes, config.accept_default), self._cost, config.sync_wait
        )
        self.tunnels = Tunnels()
        self.workloads = Workloads()
        self.forwarding = Forwarding(
            self.fib,
            self.learned,
            self.tunnels,
            lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call),
        )
        self._disputes = Disputes(store, self.forwarding, config.node)
        self.sessions = Sessions(config, self, Secrets(config.secrets.directory, environ, store))
        self.sessions.parted = self._parted
        self.resources = ResourceSet.of()
        self._begun = 0.0  # the first plan
        self._lock: int | None = None  # on the run directory
        self._looked_at: tuple[Addresses, frozenset[str]] | None = None  # for the dead
        self._leases = Leases(config.node, config.lease_ttl)
        self._hold: Hold | None = None
        self._expected: dict[str, float] = {}  # peers not heard of yet → since when they are planned
        self._dirty = False
        self._claims: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()
        self._unrivalled = asyncio.Event()  # no other machine lives as this node
        self._registering = asyncio.Event()
        self._declared_as: Node | None = None
        self._correct_after = _FIRST_CORRECTION
        self._tunnelling = asyncio.Event()
        self._needs = Needs(store.hosts, self.fib, kernel.compare_every)
        self._planning = asyncio.Lock()

    # life

    async def be_alone(self) -> None:
        """Wait while another agent has the run directory: two would end each other's ExaBGP for ever."""
        directory, said = self.config.exabgp.run_directory, False
        try:
            while (lock := hold(directory)) is None:
                if not said:
                    said = True
                    log.error(
                        "another agent is running; this one waits for its end", directory=str(directory)
                    )
                await asyncio.sleep(_ALONE_EVERY)
            self._lock = lock
        except OSError as error:
            log.error("the run directory cannot be had", directory=str(directory), reason=str(error))

    async def run(self) -> None:
        """Serve until cancelled. Sessions, ExaBGP and routes are then still there."""
        if not self.fib.dry_run:
            await move(self.config.exabgp.run_directory, self.fib.place)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.fib.run(), name="kernel")
            await self.fib.ready.wait()
            await self._needs.look()
            tasks.create_task(self._follow_datastore(), name="datastore")
            tasks.create_task(self._keep_ways(), name="ways")
            tasks.create_task(self._keep_time(), name="clock")
            tasks.create_task(self._watch_passwords(), name="passwords")
            if self.config.register_node:
                tasks.create_task(self._register(), name="registration")
            tasks.create_task(self._hold_lease(), name="lease")
            tasks.create_task(self._keep_tunnels(), name="tunnels")
            tasks.create_task(self._settle_disputes(), name="disputes")
            if not self.config.kernel.dry_run:
                tasks.create_task(self.workloads.run(), name="workloads")

    async def leave(self) -> None:
        """End, and leave everything in place for the next agent (an upgrade, a restart)."""
        self.mode = "stopping"
        await self.sessions.leave()
        self.fib.close()
        await self.store.close()
        if self._lock is not None:
            os.close(self._lock)

    async def withdraw(self) -> None:
        """End for good: routes withdrawn from the peers, sessions and ExaBGP ended, kernel routes removed."""
        self.mode = "stopping"
        directory = self.config.exabgp.run_directory
        await self.sessions.stop()
        if not self.fib.dry_run:
            await move(directory, self.fib.place)  # `run` may have been ended before it had
            await self.fib.remove_all()
            await set_up([], None)
            forget(directory, self.fib.place)
            self._retention.forget()
        if self._hold is not None:
            with contextlib.suppress(DatastoreError):
                await self._hold.release()
        await self.leave()

    async def drain(self, draining: bool = True) -> None:
        """Withdraw what this node announces and stay up, or announce it again."""
        if self.mode != ("running" if draining else "draining"):
            return
        self.mode = "draining" if draining else "running"
        self.sessions.withdrawing = draining
        if draining:
            self._event("agent.draining", "this node's routes are withdrawn", Severity.WARNING)
        else:
            self._event("agent.undrained", "this node's routes are announced again")
        self._announce()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _event(
        self, kind: str, text: str, severity: Severity = Severity.INFO, peer: str | None = None
    ) -> None:
        self.events.add(time.time(), kind, text, severity=severity, peer=peer)

    # the datastore

    async def _follow_datastore(self) -> None:
        interests = Interests(kinds=KINDS, node=self.config.node)
        async with aclosing(self.store.watch(interests)) as updates:
            async for update in updates:
                for invalid in update.invalid:
                    if invalid.reason is None:
                        self.invalid.pop(invalid.place, None)
                    elif self.invalid.get(invalid.place) != invalid.reason:
                        self.invalid[invalid.place] = invalid.reason
                        log.error("a resource cannot be read", place=invalid.place, reason=invalid.reason)
                if isinstance(update, Changes):
                    self.to_wire.start(self._now())
                self.resources = self._last_good.counted(update, self.resources)
                self._unread.heard(update, self.resources)
                self.sessions.unread = self._unread.peers
                self.sessions.sparing = self.sessions.sparing or self._unread.workloads
                if self._looked_at != (addresses_of(self.resources), self.resources.live_nodes):
                    self._look_for_the_dead()
                if self._declared_as is not (declared := self.resources.nodes.get(self.config.node)):
                    self._declared_as = declared
                    if declared is not None:
                        asyncio.get_running_loop().call_later(self._correct_after, self._look_at_declaration)
                await self._replan()
                if self.tunnels.unread != self._unread.peers:
                    self.tunnels.unread = self._unread.peers
                    self.forwarding.resolved_anew()
                if self.sessions.left_alone:
                    self.sessions.sweep()
                if self.sessions.sparing and not self._unread.workloads and not self.plan_error:
                    self.sessions.sparing = False
                    self._announce()
                if self.sessions.told:
                    self.to_wire.cancel()  # nothing to tell came of it

    async def _register(self) -> None:
        """Declare this node, and again when it comes to have tunnels to declare or somebody declared it."""
        await self._unrivalled.wait()
        while True:
            self._registering.clear()
            if await register(
                self.store,
                self.config,
                self.tunnels.versions,
                mac_of(self.config.node),
                ipip=self.tunnels.wanted_ipip() is not None,
            ):  # ever more rarely: another machine of this name may want it otherwise
                self._correct_after = min(self._correct_after * 2, _LONGEST_CORRECTION)
            await self._registering.wait()

    def _look_at_declaration(self) -> None:
        if self.config.node in self.resources.nodes:  # one that was taken out stays out
            self._registering.set()

    async def _keep_tunnels(self) -> None:
        said: set[str] = set()
        while True:
            self._tunnelling.clear()
            if not self.fib.dry_run and self.plan is not None:
                reasons = await set_up(self.tunnels.wanted(), self.tunnels.wanted_ipip())
                for reason in reasons - said:
                    log.error("a tunnel cannot be set up", reason=reason)
                said = reasons
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.kernel.compare_every):
                    await self._tunnelling.wait()

    async def _keep_ways(self) -> None:
        """Plan again when this node needs other addresses than it did."""
        while True:
            await self._needs.change()
            if self.plan is not None:
                await self._replan()

    async def _hold_lease(self) -> None:
        said = ""
        while self._hold is None:
            try:
                if not (other := await namesake(self.store, self.config)):
                    self._unrivalled.set()
                    self._hold = await self.store.hold(self.config.node, self.config.lease_ttl)
                elif said != (said := other):
                    text = "another machine lives as this node; this one waits for its end"
                    log.error(text, address=other, remedy="give every node a name of its own")
            except DatastoreError as error:
                if said != (said := str(error)):
                    log.warning("the liveness lease cannot be had yet", reason=said)
            if self._hold is None:
                await asyncio.sleep(self.config.lease_ttl / 3)

    async def _settle_disputes(self) -> None:
        while True:
            await asyncio.sleep(_LONGEST_TICK)
            if await self._disputes.look(self.resources.nodes, self._now()):
                self._announce()

    async def _replan(self) -> None:
        async with self._planning:
            await self._plan_anew()

    async def _plan_anew(self) -> None:
        try:
            if self.plan is None and self._unread.reason:
                raise PlanError("settings", self._unread.reason)
            resources = self._unread.planned(self.resources)
            plan = plan_node(resources, self.config.node, self.config.static_routes, self._needs.present)
        except PlanError as error:
            self._no_plan(str(error))
            return
        except Exception as error:  # a resource nobody thought of: it shall not end what runs
            if self._no_plan(f"{type(error).__name__}: {error}"):
                log.exception("a defect of the plan")
            return
        self.plan_error = ""
        self.learned.bounds = Bounds(
            plan.router_id.packed,
            plan.cluster_id.packed if plan.cluster_id is not None else None,
            self.config.max_routes,
            self.config.accept_default,
            plan.normal_priority,
            self.resources.cairn.spec.when_reflectors_lost != "Expire",
        )
        if plan == self.plan:
            return
        await self.sessions.fetch_passwords(plan)
        before, self.plan = self.plan, plan
        self._journal.warn(before, plan)
        again = self.learned.configure(plan.peerings)
        known = {str(peering.peer_address) for peering in before.peerings} if before is not None else set()
        new = self.learned.peers.keys() - known
        if before is None:
            self._begun = self._now()
            self.learned.recall(self._retention.recall(), self._begun)
        elif self._sparing or self.sessions.left_alone:
            self.learned.recall(unseen(new, self.config.sync_wait), self._now())
        self._expected |= {address: self._now() for address in new}
        for address in new:
            self.learned.peers[address].planned = time.time()
        if before is None or before.peerings != plan.peerings:
            self.sessions.configure(plan)
            self.sessions.tell_again(new)
        ends = (self.tunnels.versions, self.tunnels.wanted_ipip())
        if self.tunnels.planned(plan):
            self._tunnelling.set()
            self.forwarding.resolved_anew()
        if ends != (self.tunnels.versions, self.tunnels.wanted_ipip()):
            self._registering.set()
        self.forwarding.own(plan, self.sessions.parting)
        self.workloads.planned(plan)
        self._announce()
        for address in again:
            self._refresh(address)
        self._routes_changed()

    def _no_plan(self, reason: str) -> bool:
        """Nothing follows from what is declared. True if that is news."""
        if self.plan_error == reason:
            return False
        self.plan_error = reason
        declared = self.config.node in self.resources.nodes
        if self.plan is None and not declared and not self._unread.reason:
            log.info("this node is not declared yet", node=self.config.node)  # but is about to be
            return True
        log.error("no plan can be made; the last one stays", reason=reason)
        self._event("plan.failed", reason, Severity.ERROR)
        return True

    async def _watch_passwords(self) -> None:
        """A password that was changed begins its own session anew, and no other."""
        while True:
            await asyncio.sleep(_PASSWORDS_EVERY)
            if self.plan is None:
                continue
            await self.sessions.fetch_passwords(self.plan)
            if self.sessions.passwords_changed(self.plan):
                log.info("a session's password was changed")
                self.sessions.configure(self.plan)
                self._announce()

    # the sessions (`Listener`)

    def session_up(self, peer: str, sent: bytes, received: bytes, adopted: bool) -> Sequence[str]:
        if peer not in self.learned.peers:
            return ()
        try:
            negotiated = self.learned.session_up(peer, sent, received, adopted, self._now())
        except ProtocolError as error:
            log.error("an OPEN cannot be read", peer=peer, reason=str(error))
            self.sessions.reset(peer)
            return ()
        known = self.learned.peers[peer]
        known.since, known.lost = time.time(), ""
        log.info("session up", peer=peer, adopted=adopted)
        self._event("session.up", f"session with {peer} is established", peer=self._name(peer))
        families = [str(family).replace("-", " ") for family in sorted(negotiated.families)]
        if adopted and negotiated.route_refresh:
            self.sessions.refresh(peer, families)
        elif adopted:
            log.warning("a peer without route refresh must begin anew to tell what it told before", peer=peer)
            self.sessions.reset(peer)
        self._look_for_the_dead()
        self._dirty = True
        return families

    def session_down(self, peer: str, reason: str) -> None:
        self.learned.session_down(peer, reason, self._now())
        if (known := self.learned.peers.get(peer)) is not None:
            known.since, known.flaps, known.lost = time.time(), known.flaps + 1, reason
        log.warning("session down", peer=peer, reason=reason, fail_static=self.learned.fail_static)
        self._event(
            "session.down", f"session with {peer} ended: {reason}", Severity.WARNING, self._name(peer)
        )
        if self._flapping.lost(peer, self._now()):
            text = f"session with {peer} flaps: {reason}"
            self._event("session.flapping", text, Severity.WARNING, self._name(peer))
        if self.learned.fail_static:
            self._event("agent.fail-static", "no session is left: all routes are kept", Severity.ERROR)
        self._routes_changed()

    def message_received(self, peer: str, type: int, body: bytes) -> None:
        try:
            malformed = self.learned.message(peer, type, body, self._now())
        except ProtocolError as error:
            log.error("a message cannot be read; the session is reset", peer=peer, reason=str(error))
            self.sessions.reset(peer)
        else:
            if malformed is not None:
                log.error("malformed UPDATE", peer=peer, **malformed.facts)
                text = f"{peer}: malformed UPDATE: {malformed.reason}"
                self._event("update.malformed", text, Severity.WARNING, self._name(peer))
        self._dirty = True
        if type == MessageType.UPDATE:
            self.to_kernel.start(self._now())

    def refused(self, routes: Refused) -> None:
        text = f"ExaBGP refused {len(routes.routes)} routes ({routes.routes[0]} …): {routes.attributes}"
        self._event("exabgp.refused", text, Severity.ERROR)

    def progressed(self) -> None:
        if self._dirty:
            self._routes_changed()
            if not self.fib.pending:
                self.to_kernel.cancel()  # no kernel route came of it
        if self.to_wire.since is not None and self.sessions.told:
            self.to_wire.stop(self._now())

    def _parted(self) -> None:
        if self.plan is not None and self.mode != "stopping":
            self.forwarding.own(self.plan, self.sessions.parting)

    def _refresh(self, peer: str) -> None:
        known = self.learned.peers.get(peer)
        if known is not None and known.up and known.negotiated is not None and known.negotiated.route_refresh:
            families = [str(family).replace("-", " ") for family in sorted(known.negotiated.families)]
            self.sessions.refresh(peer, families)

    def _name(self, peer: str) -> str | None:
        known = self.learned.peers.get(peer)
        return known.peering.name if known is not None else None

    # the routes

    def _cost(self, next_hop: bytes) -> int | None:
        """RFC 4271 §9.1.2.2 e: what is in this node's own subnet is nearer than what lies behind a router."""
        hops = self.fib.resolver.resolve(next_hop)
        return int(all(hop.gateway != next_hop[:16] for hop in hops)) if hops else None

    def _hops_of(self, af: int, nlri: bytes) -> tuple[bytes, ...] | None:
        return self.forwarding.hops_of(af, nlri)

    def _written(self, all_went: bool) -> None:
        if all_went:
            self.to_kernel.stop(self._now())
        else:
            self.to_kernel.cancel()

    def _links_changed(self, moved: Set[bytes]) -> None:
        self._needs.doubtful.set()
        carried = self.tunnels.carrying
        if self.tunnels.links_changed(self.fib.links.indexes, self.fib.links.up):
            self._tunnelling.set()
        self.workloads.links_changed(self.fib.links.indexes)
        if carried != self.tunnels.carrying:
            self.forwarding.resolved_anew()
        else:
            self.forwarding.links_changed(moved)

    def _link_went(self, index: int, removed: bool) -> None:
        """What was made of an interface is gone with it, and a tunnel's neighbours as soon as it is down."""
        if self.tunnels.has(index):
            self._tunnelling.set()
        if removed:
            self.workloads.removed(index)

    def _routes_changed(self) -> None:
        self._dirty = False
        self.forwarding.changed(self.learned.take_changes())
        if self._claims != (self.forwarding.superseded, self.forwarding.disputed):
            self._announce()
        self._consider_sync()

    def _announce(self) -> None:
        superseded, disputed = self._claims = self.forwarding.superseded, self.forwarding.disputed
        if self.plan is not None:
            self.sessions.announce(with_disputed(self.plan, disputed), superseded)

    @property
    def _to_be_spared(self) -> bool:
        """Whether the kernel may have routes of a former life that somebody will want yet."""
        return self.learned.recalling or bool(self.sessions.left_alone) or self._unread.routes

    def _consider_sync(self) -> None:
        """May what nobody wants be removed?"""
        if self._sparing and not self._to_be_spared:
            self._sparing = False
            self.fib.sweep()
        if self.in_sync or self.plan is None:
            return
        planned = self.learned.peers.values()
        grown = self._now() >= self._begun + self.config.sync_wait
        everyone = bool(planned) and all(peer.up for peer in planned)
        if self.learned.synced and (everyone or (grown and not self.learned.unheard)):
            self.in_sync = True
            self._sparing = self._to_be_spared
            self.fib.sweep(sparing=self._sparing)
            log.info("in sync", routes=sum(len(rib.best) for rib in self.learned.ribs.values()))
            self._event("agent.in-sync", "every session has told everything")

    def _look_for_the_absent(self) -> None:
        """Say of each peer once that it has not come."""
        for address, since in list(self._expected.items()):
            peer = self.learned.peers.get(address)
            if peer is None or peer.since is not None:
                del self._expected[address]
            elif self._now() >= since + self.config.sync_wait:
                del self._expected[address]
                reason = why_absent(peer.peering.local_address)
                log.warning("no session came about", peer=address, name=peer.peering.name, reason=reason)

    def _look_for_the_dead(self) -> None:
        """Nodes that were alive and are not: their routes are not kept for them."""
        self._looked_at = (addresses_of(self.resources), self.resources.live_nodes)
        dead = self._leases.dead(self.resources, self.store.health().current, self._now())
        self.learned.dead(dead)
        self.fib.forsake(dead)
        self._dirty = True
        if self.plan is not None:
            self._routes_changed()

    # the clock

    async def _keep_time(self) -> None:
        while True:
            next_timer = self.learned.next_timer()
            now = self._now()
            wait = _LONGEST_TICK if next_timer is None else min(_LONGEST_TICK, max(0.0, next_timer - now))
            await asyncio.sleep(max(wait, 0.01))
            self.learned.tick(self._now())
            for address in self.learned.with_room(self._now()):
                self._refresh(address)
            self._routes_changed()
            if self.plan is not None:
                self._retention.note(self.learned.retained())
            if self._leases.doubted or not self.store.health().current:
                self._look_for_the_dead()
            self._look_for_the_absent()
            self._journal.look(self.plan, self._now())
