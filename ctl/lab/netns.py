"""Network namespaces of one lab: hosts, wires, broadcast domains, and a clean-up that survives a crash.

A *lab* is a set of namespaces that share a name. Every interface is born inside one of them (a veth pair
is created with both ends already in place, a bridge lives in the lab's own switch namespace), so nothing
ever shows up in the machine's own namespace, and deleting the namespaces deletes the network.

Nothing about a lab is kept in a file. All of it can be found again from the outside, which is what makes
the clean-up crash-proof:

- namespaces are called ``cairn-<lab>-<host>``;
- the lab's name carries the process that made it (its pid and its start time, so that a reused pid is not
  mistaken for it): `labs` finds every lab of the machine, `owner_alive` says whether it is still in use;
- processes are found by the namespace they are in and by the mark ``CAIRN_LAB=<lab>`` in their
  environment, which covers those that run outside any namespace. A process in another PID namespace (a
  container's) has its mark from a lab in there, whose owner's pid means nothing out here: never touched.

`ip` (iproute2) does the work, several commands to a call through ``-batch``: it is one small process per
step, with messages that name the failing line, and no threads or sockets remain in ours. Programs are
started through ``ip netns exec``, which becomes the program itself: the pid one gets is the program's.

Left out on purpose: everything that is not plain Ethernet and IP (tunnels are the agent's business), and
running without root; `unavailable` gives the reason in one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Self

MARK = "CAIRN_LAB"
SWITCH = "switch"
_PROC = Path("/proc")
_NAMESPACES = Path("/run/netns")
_LAB = re.compile(r"[a-z0-9]+-\d+-\d+")
_HOST = re.compile(r"[A-Za-z0-9_.]+")
_NAME = re.compile(rf"cairn-(?P<lab>{_LAB.pattern})-(?P<host>{_HOST.pattern})")
_ROUTER = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
}
_EVERYWHERE = {
    # Paths in a lab are asymmetric at times, on purpose; a strict reverse path filter would drop packets.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    # Addresses are ours and unique: no second of waiting for duplicate address detection.
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    # A hash over ports too, so that two flows between the same addresses may take both of two equal paths.
    "net.ipv4.fib_multipath_hash_policy": "1",
}


class NetnsError(Exception):
    """A step on the lab's network failed; the text names the namespace, the commands and what `ip` said."""


def unavailable() -> str | None:
    """Why namespaces cannot be used here, in one line; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if which("ip") is None:
        return "the command `ip` is missing (Debian package iproute2)"
    probe = f"cairn-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return None


def _start_time(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None if there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # the name field may hold spaces and parentheses


def owner_alive(lab: str) -> bool:
    """Whether the process that made the lab of this name still runs."""
    _, pid, started = lab.split("-")
    return _start_time(int(pid)) == int(started)


def labs() -> list[str]:
    """The names of all labs of this machine, of living owners and of dead ones."""
    found = {match["lab"] for match in map(_NAME.fullmatch, _namespace_names()) if match}
    found.update(name for _, name in _marked())
    return sorted(found)


def clean(lab: str) -> None:
    """Kill every process of a lab and delete its namespaces, whoever made it; harmless if nothing is left."""
    deadline = time.monotonic() + 10.0
    while (pids := processes(lab)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for name in _namespaces_of(lab):
        removed = subprocess.run(["ip", "netns", "delete", name], capture_output=True, text=True, check=False)
        if removed.returncode != 0 and (_NAMESPACES / name).exists():
            raise NetnsError(f"namespace {name} could not be deleted: {removed.stderr.strip()}")


def clean_abandoned() -> list[str]:
    """Remove the labs whose owners are gone (killed, crashed); the names of what was removed."""
    removed = [lab for lab in labs() if not owner_alive(lab)]
    for lab in removed:
        clean(lab)
    return removed


def processes(lab: str) -> list[int]:
    """Pids of everything that runs in the lab's namespaces or carries its mark; never this process itself."""
    inodes = set()
    for name in _namespaces_of(lab):
        with contextlib.suppress(OSError):
            inodes.add((_NAMESPACES / name).stat().st_ino)
    found = {pid for pid, marked in _marked() if marked == lab}
    for pid in _pids():
        with contextlib.suppress(OSError):
            if (_PROC / str(pid) / "ns" / "net").stat().st_ino in inodes:
                found.add(pid)
    return sorted(found - {os.getpid()})


def _pids() -> Iterable[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _marked() -> Iterable[tuple[int, str]]:
    mark, ours = f"{MARK}=".encode(), (_PROC / "self" / "ns" / "pid").stat().st_ino
    for pid in _pids():
        with contextlib.suppress(OSError):
            if (_PROC / str(pid) / "ns" / "pid").stat().st_ino != ours:
                continue
            for setting in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                lab = setting.removeprefix(mark).decode(errors="replace")
                if setting.startswith(mark) and _LAB.fullmatch(lab):
                    yield pid, lab


def _namespace_names() -> list[str]:
    try:
        return sorted(entry.name for entry in _NAMESPACES.iterdir())
    except FileNotFoundError:
        return []


def _namespaces_of(lab: str) -> list[str]:
    parsed = [(name, _NAME.fullmatch(name)) for name in _namespace_names()]
    return [name for name, match in parsed if match is not None and match["lab"] == lab]


@dataclass(frozen=True, slots=True)
class Namespace:
    """One host of a lab: a place with interfaces, addresses and routes of its own, where programs can run."""

    lab: str
    host: str

    @property
    def name(self) -> str:
        """The name `ip netns` knows it by."""
        return f"cairn-{self.lab}-{self.host}"

    def ip(self, *commands: str) -> None:
        """Carry out `ip` commands here, in one process: ``ns.ip("addr add 10.0.0.1/24 dev eth0", ...)``.

        No leading options: the family of a route is told from its addresses.
        """
        _ip_batch(self.name, commands)

    def argv(self, *program: str | Path) -> list[str]:
        """The argument list that starts a program here, for whatever way of starting processes one uses.

        Give the process `environment()` too, so that a clean-up finds it wherever it goes.
        """
        return ["ip", "netns", "exec", self.name, *map(str, program)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's environment with the lab's mark and the given additions."""
        return {**os.environ, **(extra or {}), MARK: self.lab}

    def run(
        self,
        *program: str | Path,
        check: bool = True,
        input: str | None = None,
        timeout: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end and return its output; with `check` a failure raises NetnsError."""
        done = subprocess.run(
            self.argv(*program),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.environment(),
        )
        if check and done.returncode != 0:
            said = (done.stderr + done.stdout).strip()
            raise NetnsError(f"{self.host}: `{' '.join(map(str, program))}` gave {done.returncode}: {said}")
        return done

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Set kernel parameters of this namespace: ``{"net.ipv4.conf.eth0.proxy_arp": "1"}``.

        A dot inside an interface's name is written as a slash, as `sysctl` does it.
        """
        by_value: dict[str, list[str]] = {}
        for key, value in settings.items():
            by_value.setdefault(value, []).append("/proc/sys/" + key.translate(str.maketrans("./", "/.")))
        for value, files in by_value.items():
            self.run("tee", *files, input=value)  # in there /proc/sys/net is this namespace's


def _ip_batch(namespace: str | None, commands: Sequence[str]) -> None:
    where = [] if namespace is None else ["-n", namespace]
    done = subprocess.run(
        ["ip", *where, "-batch", "-"],
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    if done.returncode != 0:
        raise NetnsError(f"{namespace or 'ip'}: {' ; '.join(commands)}: {done.stderr.strip()}")


@dataclass(slots=True)
class Lab:
    """The namespaces of one experiment. Use as a context manager, or call `remove` at the end.

    `purpose` (lower-case letters and digits) begins the lab's name and tells the operator what it is.
    """

    purpose: str = "lab"
    name: str = ""
    hosts: dict[str, Namespace] = field(default_factory=dict)
    ports: int = 0  # of the switch, ever plugged in; a number is not used twice

    def __post_init__(self) -> None:
        serial = 0  # several labs of one process differ in their purpose's tail
        while not self.name or self.name in labs():
            tail = f"x{serial}" if serial else ""
            self.name = f"{self.purpose}{tail}-{os.getpid()}-{_start_time(os.getpid())}"
            serial += 1
        if not _LAB.fullmatch(self.name):
            raise NetnsError(f"a lab cannot be called {self.purpose!r}: lower-case letters and digits only")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def host(self, name: str, *, router: bool = False) -> Namespace:
        """Add a namespace with loopback up; `router` turns forwarding on, for IPv4 and IPv6."""
        if not _HOST.fullmatch(name) or name in self.hosts:
            raise NetnsError(
                f"no host can be called {name!r} here: letters, digits, _ and . only, each name once"
            )
        made = Namespace(self.name, name)
        _ip_batch(None, [f"netns add {made.name}"])
        self.hosts[name] = made
        made.ip("link set lo up")
        made.sysctl({**_EVERYWHERE, **(_ROUTER if router else {})})
        return made

    def link(self, a: Namespace, a_interface: str, b: Namespace, b_interface: str) -> None:
        """Lay a wire between two hosts (or two interfaces of one); both ends come up without addresses."""
        a.ip(f"link add {a_interface} type veth peer name {b_interface} netns {b.name}")
        a.ip(f"link set {a_interface} up")
        b.ip(f"link set {b_interface} up")

    def segment(self, name: str) -> None:
        """Make a broadcast domain (a switch); `attach` connects hosts to it. At most 15 characters."""
        switch = self._switch()
        switch.ip(f"link add {name} type bridge stp_state 0 mcast_snooping 0", f"link set {name} up")

    def attach(self, segment: str, host: Namespace, interface: str, *addresses: str) -> None:
        """Plug an interface of a host into a broadcast domain and give it addresses (``10.1.0.2/24``)."""
        switch = self._switch()
        port = f"port{self.ports}"
        self.ports += 1
        switch.ip(
            f"link add {port} type veth peer name {interface} netns {host.name}",
            f"link set {port} master {segment} up",
        )
        host.ip(f"link set {interface} up", *(f"addr add {address} dev {interface}" for address in addresses))

    def _switch(self) -> Namespace:
        if SWITCH not in self.hosts:
            switch = self.host(SWITCH)
            switch.sysctl({"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
        return self.hosts[SWITCH]

    def drop(self, host: Namespace) -> None:
        """Take one host away, as if its plug were pulled: its processes are killed, its links are gone.

        The links are deleted one by one: a deleted namespace is torn down when the kernel finds the time
        and nothing holds it any more, and until then the other ends would stay.
        """
        inode = (_NAMESPACES / host.name).stat().st_ino
        for pid in _pids():
            with contextlib.suppress(OSError):
                if (_PROC / str(pid) / "ns" / "net").stat().st_ino == inode:
                    os.kill(pid, signal.SIGKILL)
        for link in json.loads(host.run("ip", "-json", "link").stdout):
            if link["ifname"] != "lo":  # one that went along with another cannot be deleted once more
                host.run("ip", "link", "delete", link["ifname"], check=False)
        _ip_batch(None, [f"netns delete {host.name}"])
        del self.hosts[host.host]

    def remove(self) -> None:
        """Kill everything that runs in the lab and delete its namespaces."""
        clean(self.name)
        self.hosts.clear()
