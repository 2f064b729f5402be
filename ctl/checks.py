"""What is looked at on a machine that is, or shall be, a node; a finding has its remedy. Nothing is changed.

The machine alone: programs, kernel settings, the firewall, the port, room on the disk, leftovers.
With the agent's configuration and the datastore also what concerns this node there: whether it can be
planned, its passwords, the clock beside those of other nodes, and routes that other programs have put
where the cluster's belong.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib import metadata
from ipaddress import ip_network
from pathlib import Path
from time import time

from agent.config import PROTOCOLS_TAKEN, AgentConfig
from bgpd.datastore import Secrets
from bgpd.plan import NodePlan, PlanError, plan_node
from bgpd.resources import ResourceSet, ServiceReport
from bgpd.resources.scalars import within
from bgpd.telemetry.reporter import EVERY
from ctl import state
from ctl.cluster import moment
from ctl.exits import Failure
from ctl.lab import netns
from ctl.output import ago

_EXABGP_FIRST, _EXABGP_AFTER = (5, 0, 15), (6,)
_SYSCTL = Path("/proc/sys/net")
_LASTING = "and into /etc/sysctl.d to last"
_ROOM = 16 << 20  # octets
_KEYS = "net.core.optmem_max"
_KEY, _USUAL_ROOM = 136, 128 << 10  # octets: the kernel's `struct tcp_md5sig_key`; newer kernels' default
_APART = timedelta(seconds=5)
_OURS = re.compile(r"([^\0]*/)?cairn\0|[^\0]+\0(([^\0]*/)?cairn|-m\0(agent|ctl|reflector)[^\0]*)\0")
"""The command line of a program of Cairn's: `cairn`, by an interpreter or not, or one of its modules."""
_KERNELS_OWN = (1, 2, 9)  # redirect, kernel, ra: routes that follow from addresses, not from routing
_BOOT = 3  # what `ip route add` writes and does not show
_NAMES = {_BOOT: "boot", 4: "static", **PROTOCOLS_TAKEN}


class Verdict(StrEnum):
    """What a check found."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, the verdict, what was seen, and what to do if that is not well."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def of_machine(port: int, config: AgentConfig) -> Iterator[Finding]:
    """Everything about the machine itself. `port`: where BGP shall be spoken."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("python", _verdict(good), version, "" if good else "use Python 3.11 or newer")
    yield _exabgp()
    root = os.geteuid() == 0
    yield Finding(
        "privileges",
        Verdict.GOOD if root else Verdict.NOTE,
        "root" if root else f"user {os.geteuid()}",
        "" if root else "the agent needs CAP_NET_ADMIN to write routes, CAP_NET_BIND_SERVICE for port 179",
    )
    yield from _forwarding()
    yield _reverse_path()
    yield from _firewall()
    yield _port(port)
    ip = shutil.which("ip")
    yield Finding("ip", _verdict(ip is not None), ip or "missing", "" if ip else "install iproute2")
    yield _room(config.exabgp.run_directory)
    left = [lab for lab in netns.labs() if not netns.owner_alive(lab)]
    yield Finding(
        "leftovers",
        Verdict.NOTE if left else Verdict.GOOD,
        ", ".join(left) or "none",
        "run `cairn lab`: it cleans up after labs that were killed" if left else "",
    )


def of_datastore(location: str | None, config: AgentConfig) -> Iterator[Finding]:
    """What concerns this node in the datastore."""
    try:
        resources, plan, planned = state.run(_planned(location, config.node))
    except Failure as failure:
        remedy = (
            failure.remedy
            or "start it, or let the way there; if it has moved: the configuration's `datastore`"
        )
        yield Finding("datastore", Verdict.BAD, failure.what, remedy)
        return
    yield Finding("datastore", Verdict.GOOD, f"{len(resources)} resources")
    yield _clock(resources, config.node, datetime.now(UTC))
    yield planned
    if plan is not None:
        yield state.run(_passwords(location, config, plan))
        yield from _keys(plan)
    yield from _routes(resources, config)


def _verdict(good: bool) -> Verdict:
    return Verdict.GOOD if good else Verdict.BAD


def _exabgp() -> Finding:
    remedy = "install exabgp >= 5.0.15, < 6, into the same Python environment as Cairn"
    try:
        text = metadata.version("exabgp")
    except metadata.PackageNotFoundError:
        return Finding("exabgp", Verdict.BAD, "missing", remedy)
    version = tuple(int(part) for part in text.split(".") if part.isdecimal())
    good = _EXABGP_FIRST <= version < _EXABGP_AFTER
    return Finding("exabgp", _verdict(good), text, "" if good else remedy)


def _forwarding() -> Iterator[Finding]:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        setting = f"net.{name.replace('/', '.')}"
        value = _read(name)
        if value == "1":
            yield Finding(setting, Verdict.GOOD, value)
        else:
            severity = Verdict.BAD if name.startswith("ipv4") else Verdict.NOTE
            yield Finding(setting, severity, value, f"`sysctl -w {setting}=1`, {_LASTING}: packets stop here")


def _reverse_path() -> Finding:
    """Of the setting for all interfaces and the interface's own the greater holds; 1 is strict, 2 loose."""
    general = _read("ipv4/conf/all/rp_filter")
    own = {path.parent.name: path.read_text().strip() for path in _SYSCTL.glob("ipv4/conf/*/rp_filter")}
    names = sorted(own.keys() - {"all", "default", "lo"})
    strict = [name for name in names if max(general, own[name]) == "1"]
    if not strict:
        return Finding("rp_filter", Verdict.GOOD, "strict on no interface")
    settings = " ".join(f"net.ipv4.conf.{name}.rp_filter=2" for name in ("all", *strict[:3]))
    return Finding(
        "rp_filter",
        Verdict.NOTE,
        f"strict on {', '.join(strict[:5])}{' …' if len(strict) > 5 else ''}",
        f"`sysctl -w {settings}`, {_LASTING}: packets of asymmetric paths are dropped",
    )


def _firewall() -> Iterator[Finding]:
    """Chains that drop what is passed on if no rule accepts it (Docker makes one), if nft can read them."""
    try:
        done = subprocess.run(
            ["nft", "--json", "list", "chains"], capture_output=True, text=True, check=False
        )
        listed = json.loads(done.stdout)["nftables"]
    except (OSError, ValueError):
        return
    chains = (each["chain"] for each in listed if "chain" in each)
    dropping = [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop"
    ]
    if not dropping:
        yield Finding("firewall", Verdict.GOOD, "no chain drops what is passed on")
        return
    yield Finding(
        "firewall",
        Verdict.NOTE,
        f"drops what is passed on and no rule accepts: {', '.join(dropping)}",
        "have it accept what goes to and comes from the pools (Docker's: in its chain DOCKER-USER): "
        "workloads are not reached otherwise",
    )


def _read(name: str) -> str:
    try:
        return (_SYSCTL / name).read_text().strip()
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _port(port: int) -> Finding:
    check = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError:
            return Finding(check, Verdict.NOTE, "only for root", "the service needs CAP_NET_BIND_SERVICE")
        except OSError as error:
            name, ours = _listener(port)
            if ours:
                return Finding(check, Verdict.GOOD, f"held by {name}")
            return Finding(
                check,
                Verdict.BAD,
                f"{error.strerror or error}: {name or 'by whom is seen by root alone'}",
                "stop that program and keep it from starting (`systemctl disable --now`), or declare another "
                f"port: `listenPort` of the BGPConfiguration; `ss -tlnp sport = :{port}`",
            )
    return Finding(check, Verdict.GOOD, "free")


def _listener(port: int) -> tuple[str, bool]:
    """Which program listens, "" if that is not known, and whether it is Cairn's."""
    try:
        done = subprocess.run(
            ["ss", "-Htlnp", f"sport = :{port}"], capture_output=True, text=True, check=False
        )
        found = re.search(r'\("(?P<name>[^"]+)",pid=(?P<pid>\d+)', done.stdout)
        line = Path(f"/proc/{found['pid']}/cmdline").read_text() if found else ""
    except OSError:
        return "", False
    if found is None:
        return "", False
    ours = _OURS.match(line) is not None
    program = "ExaBGP" if "exabgp" in line else "Cairn" if ours else found["name"]
    return f"{program} (pid {found['pid']})", ours


def _room(folder: Path) -> Finding:
    """What the agent writes there: sockets, and the configuration of sessions that are new or change."""
    check = f"room in {folder}"
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):  # not there yet, or not for this user to see
            free = os.statvfs(place)
            break
    else:
        return Finding(check, Verdict.BAD, "no disk answers", "see `dmesg`, and what is mounted there")
    room = free.f_bavail * free.f_frsize
    if room < _ROOM or (free.f_files and not free.f_favail):
        remedy = (
            f"make room (`df {place}; df -i {place}`): new or changed sessions cannot be set up until then"
        )
        return Finding(check, Verdict.BAD, f"{room >> 20} MiB and {free.f_favail} files left", remedy)
    if place.stat().st_uid == os.geteuid() and not os.access(place, os.W_OK):
        return Finding(check, Verdict.BAD, "read-only", "mount it writable, or `runDirectory` of the agent")
    return Finding(check, Verdict.GOOD, f"{room >> 20} MiB left")


async def _planned(location: str | None, node: str) -> tuple[ResourceSet, NodePlan | None, Finding]:
    async with state.opened(location) as store:
        resources = state.resource_set(await state.snapshot(store))
    check = f"node {node}"
    if node not in resources.nodes:
        remedy = "the agent declares it when it starts; if that is not its name: `node` of its configuration"
        return resources, None, Finding(check, Verdict.NOTE, "not declared", remedy)
    try:
        plan = plan_node(resources, node)
    except PlanError as error:
        remedy = f"mend it and look at it with `cairn plan {node}`"
        return resources, None, Finding(check, Verdict.BAD, str(error), remedy)
    seen = f"{len(plan.peerings)} sessions and {len(plan.originated)} routes of its own planned"
    return resources, plan, Finding(check, Verdict.GOOD, seen)


async def _passwords(location: str | None, config: AgentConfig, plan: NodePlan) -> Finding:
    wanted = [peering.password for peering in plan.peerings if peering.password is not None]
    async with state.opened(location) as store:
        secrets = Secrets(config.secrets.directory, os.environ, store)
        await secrets.fetch(wanted, time())
    found, missing = secrets.read_all(wanted)
    if missing:
        remedy = "put it there, mode 0600, readable by the agent; its sessions stay down until then"
        return Finding("passwords", Verdict.BAD, "; ".join(missing.values()), remedy)
    files = [config.secrets.directory / name / key for name, key in found]
    open_to_all = [str(path) for path in files if path.exists() and path.stat().st_mode & 0o077]
    if open_to_all:
        paths = " ".join(open_to_all)
        return Finding("passwords", Verdict.NOTE, f"readable by others: {paths}", f"`chmod 0600 {paths}`")
    return Finding("passwords", Verdict.GOOD, f"{len(found)} wanted, all there")


def _keys(plan: NodePlan) -> Iterator[Finding]:
    """Room for the TCP MD5 keys of a reflector's peers: the socket that listens has those of a family."""
    versions = Counter(p.peer_address.version for p in plan.peerings if p.password is not None)
    octets = max(versions.values(), default=0) * _KEY
    room = _read("core/optmem_max")
    if not octets or (plan.cluster_id or plan.standby_cluster_id) is None or not room.isdecimal():
        return  # older kernels show it in no network namespace but the first
    seen = f"{room}: room for {(int(room) - 1) // _KEY} passwords, {octets // _KEY} declared"
    if octets < int(room):
        yield Finding(_KEYS, Verdict.GOOD, seen)
        return
    remedy = f"`sysctl -w {_KEYS}={max(2 * octets, _USUAL_ROOM)}`, {_LASTING}: the rest would be refused"
    yield Finding(_KEYS, Verdict.BAD, seen, remedy)


def _clock(resources: ResourceSet, node: str, now: datetime) -> Finding:
    """This clock beside those of other nodes that are alive: they report at least every minute.

    The middle one of them counts, so that one whose own clock is wrong misleads nobody.
    """
    reports = resources.of_kind("ServiceReport").values()
    moments = sorted(
        moment(report.spec.reported_at)
        for report in reports
        if isinstance(report, ServiceReport)
        and report.spec.node != node
        and report.spec.node in resources.live_nodes
    )
    if not moments:
        return Finding("clock", Verdict.GOOD, f"{now:%F %T} UTC; no other node reports to compare it with")
    middle = moments[len(moments) // 2]
    behind, ahead = middle - now, now - moments[-1] - timedelta(seconds=EVERY)
    remedy = "set the clock and keep it set: `timedatectl set-ntp true`, or chrony"
    if behind > _APART:
        return Finding(
            "clock", Verdict.BAD, f"{ago(behind.total_seconds())} or more behind other nodes", remedy
        )
    if ahead > _APART:
        return Finding(
            "clock", Verdict.BAD, f"{ago(ahead.total_seconds())} or more ahead of other nodes", remedy
        )
    return Finding("clock", Verdict.GOOD, f"{now:%F %T} UTC, as other nodes have it")


def _routes(resources: ResourceSet, config: AgentConfig) -> Iterator[Finding]:
    """Routes in the agent's part of the kernel, and others' where the pools are."""
    pools = [pool.spec.cidr for pool in resources.pools]
    table = config.kernel.table
    ours = 0
    foreign: list[str] = []
    flushes: dict[str, None] = {}
    for version in (4, 6):
        words = ["ip", "-json", "-N", f"-{version}", "route", "show", "table", str(table)]
        try:
            text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        except OSError:
            return  # that `ip` is missing is told already
        for route in json.loads(text or "[]"):
            number = int(route.get("protocol", _BOOT))
            if number == config.kernel.protocol:
                ours += 1
            elif number not in _KERNELS_OWN and route["dst"] != "default":
                prefix = ip_network(route["dst"])
                for pool in pools:
                    if within(prefix, pool):
                        foreign.append(f"{prefix} ({_NAMES.get(number, f'protocol {number}')})")
                        flush = f"ip -{version} route flush root {pool} proto {number} table {table}"
                        flushes[f"`{flush}`"] = None
    if not foreign:
        yield Finding("routes", Verdict.GOOD, f"{ours} of Cairn's; none of other programs in the pools")
        return
    more = f" and {len(foreign) - 5} more" if foreign[5:] else ""
    yield Finding(
        "routes",
        Verdict.NOTE,
        f"{ours} of Cairn's, and others' in the pools: {', '.join(foreign[:5])}{more}",
        f"Cairn leaves them alone, and they may win; once their program is gone: {'; '.join(flushes)}",
    )
