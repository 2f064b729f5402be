"""A plan as a complete, commented BIRD configuration, for BIRD 2 (one file) and 1.6 (``bird.conf``,
``bird6.conf``).

The meaning is that of Calico's templates: blocks are blackholes and announced whole, borrowed addresses are
host routes, next hops resolve through the kernel's own routes (``learn`` and ``gateway recursive``), equal
paths are merged, kernel routes stay over a restart, sessions restart gracefully. Two things stock BIRD cannot
do are left to the agent and said in the text: tunnels (Calico patches BIRD for them) and conntrack. BIRD 1.6
cannot do a third: workloads' IPv4 routes, which in Calico are Felix's.

A password that could not be resolved disables its session: better down than unprotected.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bgpd.plan import NextHopMode, NodePlan, Peering, SecretRef
from bgpd.plan.model import PATIENCE, Blackhole, Origination, OriginKind
from bgpd.plan.policy import local_pref_of
from bgpd.render import bird_filters
from bgpd.render.bird_filters import INDENT, filter_symbol
from bgpd.render.quoting import described, quoted, readable
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT
from bgpd.resources.scalars import IPAddress

MAX_PASSWORD = 80
_SEVERITIES = ("debug", "trace", "info", "remote", "warning", "error", "auth", "fatal", "bug")
_LOWEST_CLASS = {
    "Trace": "debug",
    "Debug": "debug",
    "Info": "info",
    "Warning": "warning",
    "Error": "error",
    "Fatal": "fatal",
    "Panic": "fatal",
}


@dataclass(frozen=True, slots=True)
class BirdOptions:
    """What is not in the plan.

    ``reflector``: the machine only reflects: nothing of its own is announced and nothing goes into its
    kernel. ``workloads``: BIRD itself routes local workloads (otherwise another program does, and BIRD learns
    from it). ``transit``: what was learned from a peer is passed on to others, as Calico's own nodes do;
    without it only a reflector does that, and a router hears of every block from its own node alone, as from
    our agents. ``accept_default``: a default route is taken from a peer (the agent's ``acceptDefault``).
    ``log`` is the destination as BIRD writes it; ``kernel_table`` a routing table's number.
    """

    reflector: bool = False
    workloads: bool = True
    add_paths: bool = True
    transit: bool = False
    accept_default: bool = False
    log: str = "stderr"
    kernel_table: int | None = None
    scan_time: int = 2


def bird_files(
    plan: NodePlan,
    version: int = 2,
    passwords: Mapping[SecretRef, str] | None = None,
    options: BirdOptions | None = None,
) -> dict[str, str]:
    """Give the configuration's files by name: ``bird.conf``, and for BIRD 1 also ``bird6.conf``."""
    if version == 2:
        return {"bird.conf": bird(plan, 2, passwords, options)}
    return {
        "bird.conf": bird(plan, 1, passwords, options, family=4),
        "bird6.conf": bird(plan, 1, passwords, options, family=6),
    }


def bird(
    plan: NodePlan,
    version: int = 2,
    passwords: Mapping[SecretRef, str] | None = None,
    options: BirdOptions | None = None,
    family: int = 4,
) -> str:
    """Write a plan for BIRD ``version`` 1 (one ``family``, 4 or 6) or 2 (both). The text ends in a newline.

    Raises ``RenderError`` for a password or pattern that BIRD's language cannot express.
    """
    if version not in (1, 2):
        raise ValueError(f"BIRD {version} is not known here; 1 (for 1.6) and 2 are")
    families = (4, 6) if version == 2 else (family,)
    writer = _Writer(plan, version, families, passwords or {}, options or BirdOptions())
    return "\n".join(writer.lines()) + "\n"


class _Writer:
    def __init__(
        self,
        plan: NodePlan,
        version: int,
        families: tuple[int, ...],
        passwords: Mapping[SecretRef, str],
        options: BirdOptions,
    ) -> None:
        self._plan = plan
        self._version = version
        self._families = families
        self._passwords = passwords
        self._options = options
        self._peerings = [peering for peering in plan.peerings if peering.peer_address.version in families]

    def lines(self) -> Iterator[str]:
        yield from self._head()
        for family in self._families:
            yield ""
            yield f"# ---- IPv{family} policy " + "-" * 60
            yield from self._policy(family)
        yield ""
        yield "# ---- Kernel and interfaces " + "-" * 52
        yield from self._system()
        for family in self._families:
            yield from self._statics(family)
        yield ""
        yield "# ---- Sessions " + "-" * 65
        yield from self._template()
        for peering in self._peerings:
            yield ""
            yield from self._session(peering)
        if not self._peerings:
            yield "# No sessions are planned for this node."

    def _head(self) -> Iterator[str]:
        plan = self._plan
        which = "BIRD 2" if self._version == 2 else f"BIRD 1.6, IPv{self._families[0]}"
        yield f"# {which} configuration of node {readable(plan.node)}, AS {plan.asn}."
        yield "# Written by Cairn from the declared resources; edits are lost with the next rendering."
        for remark in plan.remarks:
            yield f"# Note: {readable(remark)}"
        if self._version == 1 and plan.workloads and not self._options.reflector and 4 in self._families:
            yield "# Note: BIRD 1.6 cannot route over interfaces without an IPv4 address; another program"
            yield "# has to put the workloads' routes into the kernel, and BIRD learns them from there."
        for rejection in plan.rejected:
            yield f"# Not announced: {rejection.prefix}: {readable(rejection.reason)}"
        yield ""
        lowest = _LOWEST_CLASS.get(plan.log_severity)
        if lowest is not None:
            classes = ", ".join(_SEVERITIES[_SEVERITIES.index(lowest) :])
            yield f"log {self._options.log} {{ {classes} }};"
        yield f"router id {plan.router_id};"
        if self._version == 1:
            address = next((ip for ip in plan.listen_addresses if ip.version == self._families[0]), None)
            place = f" address {address}" if address is not None else ""
            yield f"listen bgp{place} port {plan.listen_port};"

    def _policy(self, family: int) -> Iterator[str]:
        plan = self._plan
        seen: set[str] = set()
        for peering in self._peerings:
            if peering.peer_address.version != family:
                continue
            policies = (("import", peering.import_policy.filters), ("export", peering.export_policy.filters))
            for direction, filters in policies:
                for compiled in filters:
                    name = filter_symbol(compiled, direction, family)
                    if name not in seen:
                        seen.add(name)
                        yield ""
                        own_first = self._version == 1 and direction == "export"
                        yield from bird_filters.filter_function(compiled, direction, family, own_first)
        yield ""
        yield from bird_filters.origin_function(plan, family)
        yield ""
        yield from bird_filters.export_function(plan, family)
        yield ""
        services = [str(route.prefix) for route in self._announced_only(family)]
        holes = [str(hole.prefix) for hole in self._holes(family)]
        gateways = [f"{peer}/{peer.max_prefixlen}" for peer in self._reach(family)]
        yield from bird_filters.raised_function(plan, family, [*holes, *services, *gateways])
        if not self._options.reflector:
            yield ""
            yield from bird_filters.kernel_filter(plan, family, services, self._version == 1)

    def _system(self) -> Iterator[str]:
        debug = self._debug()
        yield "protocol device {"
        yield from debug
        yield f"{INDENT}scan time {self._options.scan_time};"
        yield "}"
        yield ""
        yield "# Connected subnets, so that next hops resolve; never workload or service interfaces."
        patterns = [*self._plan.ignored_interfaces, "cali*", "kube-ipvs*"]
        excluded = "".join(f"-{quoted(item, 'BGPConfiguration: ignoredInterfaces')}, " for item in patterns)
        yield "protocol direct {"
        yield from debug
        yield from (f"{INDENT}ipv{family};" for family in self._families if self._version == 2)
        yield f'{INDENT}interface {excluded}"*";'
        yield "}"
        for family in self._families:
            yield ""
            yield from self._kernel(family)

    def _kernel(self, family: int) -> Iterator[str]:
        target = "none" if self._options.reflector else f"filter cairn_kernel_v{family}"
        yield f"protocol kernel kernel{family} {{"
        yield from self._debug()
        yield f"{INDENT}learn;             # the host's own routes: next hops resolve through them"
        yield f"{INDENT}persist;           # routes stay while BIRD restarts"
        yield f"{INDENT}graceful restart;"
        yield f"{INDENT}scan time {self._options.scan_time};"
        yield f"{INDENT}merge paths on;    # equal paths share the load"
        if self._options.kernel_table is not None:
            yield f"{INDENT}kernel table {self._options.kernel_table};"
        if self._version == 2:
            metric = f"metric {self._plan.priority(family)};"
            yield f"{INDENT}{metric:18} # one for all: BIRD 2 misses routes of any other when it removes them"
            yield f"{INDENT}ipv{family} {{"
            yield f"{INDENT * 2}import all;"
            yield f"{INDENT * 2}export {target};"
            yield f"{INDENT}}};"
        else:
            yield f"{INDENT}import all;"
            yield f"{INDENT}export {target};"
        yield "}"

    def _statics(self, family: int) -> Iterator[str]:
        for name, comment, routes in self._static_groups(family):
            if routes:
                yield ""
                yield f"# {comment}"
                yield f"protocol static {name}{family} {{"
                if self._version == 2:
                    yield f"{INDENT}ipv{family};"
                yield from (f"{INDENT}{route}" for route in routes)
                yield "}"

    def _static_groups(self, family: int) -> Iterator[tuple[str, str, list[str]]]:
        holes = [f"route {hole.prefix} blackhole; # {readable(hole.reason)}" for hole in self._holes(family)]
        yield "blocks", "Blocks of this node: unassigned addresses end here.", holes
        announced = [
            f"route {route.prefix} blackhole; # {readable(route.reason)}"
            for route in self._announced_only(family)
        ]
        yield "services", "Announced here, delivered by others: not for the kernel.", announced
        if self._routes_workloads(family):
            local = [
                f"route {route.prefix} via {quoted(route.interface, route.reason)};"
                for route in self._plan.workloads
                if route.prefix.version == family
            ]
            yield "workloads", "Workloads on this node.", local
        gateways = [
            f"route {peer}/{peer.max_prefixlen} via {gateway};"
            for peer, gateway in self._reach(family).items()
        ]
        yield "reach", "Peers behind a declared gateway (reachableBy).", gateways

    def _holes(self, family: int) -> list[Blackhole]:
        if self._options.reflector:
            return []
        return [hole for hole in self._plan.blackholes if hole.prefix.version == family]

    def _announced_only(self, family: int) -> list[Origination]:
        """What is announced here and leads nowhere here: services, but no workload's address or block."""
        if self._options.reflector:
            return []
        plan = self._plan
        own = {route.prefix for route in plan.workloads} | {hole.prefix for hole in plan.blackholes}
        return [
            route
            for route in plan.originated
            if route.kind in (OriginKind.SERVICE, OriginKind.STATIC, OriginKind.TUNNEL)
            and route.prefix.version == family
            and route.prefix not in own
        ]

    def _reach(self, family: int) -> dict[IPAddress, IPAddress]:
        """Gateways by the peers behind them."""
        return {
            peering.peer_address: peering.reachable_by
            for peering in self._peerings
            if peering.reachable_by is not None and peering.peer_address.version == family
        }

    def _routes_workloads(self, family: int) -> bool:
        """BIRD 1.6 takes an interface without an IPv4 address, as workloads have it, for one that is down."""
        able = self._version == 2 or family == 6
        return able and self._options.workloads and not self._options.reflector

    def _template(self) -> Iterator[str]:
        yield "template bgp cairn_peer {"
        yield from self._debug()
        yield f"{INDENT}graceful restart;"
        yield f"{INDENT}connect delay time 2;"
        yield f"{INDENT}connect retry time 5;"
        yield f"{INDENT}error wait time 5,30;"
        if self._version == 1:
            yield f"{INDENT}gateway recursive;"
        yield "}"

    def _session(self, peering: Peering) -> Iterator[str]:
        plan = self._plan
        family = peering.peer_address.version
        yield f"# {readable(peering.reason)}"
        yield f"protocol bgp {peering.name} from cairn_peer {{"
        yield f"{INDENT}description {described(peering.peer_node or peering.reason)};"
        yield from (f"{INDENT}{line}" for line in self._ends(peering))
        yield from (f"{INDENT}{line}" for line in self._protection(peering))
        yield f"{INDENT}graceful restart time {peering.graceful_restart};"
        yield f"{INDENT}hold time {peering.hold_time};"
        if peering.keepalive_time is not None:
            yield f"{INDENT}keepalive time {peering.keepalive_time};"
        if peering.patient:
            yield f"{INDENT}connect delay time {PATIENCE}; # the peer connects, unless it waits too"
            yield f"{INDENT}connect retry time {PATIENCE};"
        elif peering.passive:
            yield f"{INDENT}passive on; # the peer connects: crossing connections abort a graceful restart"
        if peering.rr_client and plan.cluster_id is not None:
            yield f"{INDENT}rr client;"
            yield f"{INDENT}rr cluster id {plan.cluster_id};"
        if peering.allowed_own_as:
            yield f"{INDENT}allow local as {peering.allowed_own_as};"
        yield f"{INDENT}default bgp_local_pref {local_pref_of(plan.priority(family))};"
        channel = list(self._channel(peering))
        if self._version == 2:
            yield f"{INDENT}ipv{family} {{"
            yield from (f"{INDENT * 2}{line}" for line in channel)
            yield f"{INDENT}}};"
        else:
            yield from (f"{INDENT}{line}" for line in channel)
        yield "}"

    def _ends(self, peering: Peering) -> Iterator[str]:
        plan = self._plan
        if self._version == 2:
            local = peering.local_address
            if plan.listen_addresses and local is None:
                # BIRD 2 listens for each session: one without an address would take the place of all others.
                local = plan.address(peering.peer_address.version)
            address = f" {local}" if local is not None else ""
            port = f" port {plan.listen_port}" if plan.listen_port != DEFAULT_LISTEN_PORT else ""
            yield f"local{address}{port} as {peering.local_asn};"
            if plan.listen_addresses and local is not None:
                yield "strict bind on;"
        else:
            yield f"local as {peering.local_asn};"
            if peering.local_address is not None:
                yield f"source address {peering.local_address};"
        port = f" port {peering.peer_port}" if peering.peer_port != DEFAULT_LISTEN_PORT else ""
        yield f"neighbor {peering.peer_address}{port} as {peering.peer_asn};"

    def _protection(self, peering: Peering) -> Iterator[str]:
        yield f"multihop {peering.multihop};"
        yield f"ttl security {'on' if peering.ttl_security is not None else 'off'};"
        if peering.password is not None:
            secret = self._passwords.get(peering.password)
            if secret is None:
                yield f"disabled on; # the password in secret {readable(str(peering.password))} is not known"
            else:
                place = f"the password of {peering.name} (secret {peering.password})"
                yield f"password {quoted(secret, place, MAX_PASSWORD)};"

    def _channel(self, peering: Peering) -> Iterator[str]:
        family = peering.peer_address.version
        if self._version == 2:
            yield "gateway recursive; # through the kernel's own routes: racks and routers between"
            if family == 6:
                yield "next hop prefer global; # as our agents: the address the resources name"
        if self._options.add_paths and peering.internal:
            yield "add paths on;"
        if peering.next_hop_mode is NextHopMode.SELF:
            yield "next hop self;"
        elif peering.next_hop_mode is NextHopMode.KEEP:
            yield "next hop keep;"
        if peering.max_prefixes is not None:
            yield f"import limit {peering.max_prefixes} action block;"
        yield from self._filters(peering, family)

    def _filters(self, peering: Peering, family: int) -> Iterator[str]:
        internal = "true" if peering.internal else "false"
        reflects = self._options.reflector or self._plan.cluster_id is not None
        yield "import filter {"
        if not (self._options.reflector or self._options.accept_default):
            nowhere = "0.0.0.0/0" if family == 4 else "::/0"
            yield f"{INDENT}if (net = {nowhere}) then reject; # --accept-default takes it"
        for compiled in peering.import_policy.filters:
            yield f"{INDENT}{filter_symbol(compiled, 'import', family)}({internal});"
        yield f"{INDENT}cairn_raised_v{family}();"
        yield f"{INDENT}accept;"
        yield "};"
        yield "export filter {"
        if self._options.reflector:
            yield f"{INDENT}if (source != RTS_BGP) then reject; # this machine only reflects"
        elif not self._options.transit and not reflects:
            yield f"{INDENT}if (source = RTS_BGP) then reject; # a node passes nothing on"
        if self._plan.export_rules.nothing is None:
            yield f"{INDENT}cairn_origin_v{family}();"
            for compiled in peering.export_policy.filters:
                yield f"{INDENT}{filter_symbol(compiled, 'export', family)}({internal});"
        if reflects and not self._options.transit:
            if not peering.internal:
                yield from bird_filters.hidden_pools(self._plan, family)
            yield f"{INDENT}if (source = RTS_BGP) then accept; # reflected as it is"
        yield f"{INDENT}cairn_export_v{family}({internal});"
        yield f"{INDENT}reject;"
        yield "};"

    def _debug(self) -> Sequence[str]:
        severity = self._plan.log_severity
        if severity in ("Debug", "Trace"):
            return (f"{INDENT}debug all;",)
        return (f"{INDENT}debug {{ states }};",) if severity in ("Info", "Warning") else ()
