"""Everything one scenario has built, in one place: hosts, programs, files; and how a failure is reported."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from ctl.lab.netns import SWITCH, Lab, Namespace, NetnsError
from tests.scenario.harness.program import Program

T = TypeVar("T")

NOT_YET = (NetnsError, OSError, LookupError, ValueError, subprocess.SubprocessError)
"""What a question to a daemon that is still starting may raise; `wait_until` takes these for a "no"."""


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route of a namespace as the kernel tells it. Next hops are (gateway or "", interface)."""

    destination: str
    type: str
    protocol: str
    metric: int
    next_hops: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace of the scenario with a directory for its files."""

    world: World = field(repr=False)
    namespace: Namespace
    directory: Path

    @property
    def name(self) -> str:
        """Its short name in the scenario."""
        return self.namespace.host

    def ip(self, *commands: str) -> None:
        """Carry out `ip` commands on this host."""
        self.namespace.ip(*commands)

    def run(
        self, *program: str | Path, check: bool = True, input: str | None = None, timeout: float = 120.0
    ) -> str:
        """Run a program here to its end; its standard output."""
        return self.namespace.run(*program, check=check, input=input, timeout=timeout).stdout

    def start(self, name: str, *argv: str | Path, environment: Mapping[str, str] | None = None) -> Program:
        """Start a program here that runs until it is stopped, or the scenario ends."""
        log = self.directory / f"{name}.log"
        program = Program(f"{self.name}/{name}", self.namespace, argv, log, environment)
        self.world.programs.append(program)
        return program

    def write(self, name: str, text: str) -> Path:
        """Put a file into this host's directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def kernel_routes(self, version: int = 4, *, protocol: str | None = None) -> list[KernelRoute]:
        """The main table, in order; two routes to one destination are two items."""
        shown = self.namespace.run("ip", f"-{version}", "-d", "-j", "route", "show", "table", "main").stdout
        routes = [_kernel_route(item) for item in json.loads(shown or "[]")]
        return [route for route in routes if protocol in (None, route.protocol)]

    def next_hops(self, destination: str) -> frozenset[tuple[str, str]]:
        """Where the kernel's main table sends a destination prefix; empty if it has no such route."""
        version = 6 if ":" in destination else 4
        found = [route for route in self.kernel_routes(version) if route.destination == destination]
        return frozenset(hop for route in found for hop in route.next_hops)

    def pings(self, address: str, *, source: str | None = None, wait: float = 1.0) -> bool:
        """Whether one echo is answered within `wait` seconds."""
        options = ["-I", source] if source else []
        done = self.namespace.run("ping", "-n", "-c", "1", "-W", str(wait), *options, address, check=False)
        return done.returncode == 0


def _kernel_route(item: dict[str, Any]) -> KernelRoute:
    destination = item["dst"]
    if destination != "default" and "/" not in destination:
        destination += "/128" if ":" in destination else "/32"
    hops = item.get("nexthops", [item])
    return KernelRoute(
        destination=destination,
        type=item.get("type", "unicast"),
        protocol=item.get("protocol", ""),
        metric=item.get("metric", 0),
        next_hops=frozenset(
            (hop.get("gateway") or hop.get("via", {}).get("host", ""), hop.get("dev", "")) for hop in hops
        ),
    )


class World:
    """The scenario's namespaces, programs and files. A context manager; its end removes all of it."""

    def __init__(self, purpose: str) -> None:
        self.lab = Lab(purpose)
        self.directory = Path(tempfile.mkdtemp(prefix=f"cairn-{self.lab.name}-"))
        self.directory.chmod(0o711)  # daemons that drop their privileges must be able to reach their files
        self.hosts: dict[str, Host] = {}
        self.programs: list[Program] = []
        self._ports: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            for program in reversed(self.programs):
                program.close()
        finally:
            self.lab.remove()
            shutil.rmtree(self.directory, ignore_errors=True)

    def host(self, name: str, *, router: bool = False) -> Host:
        """Add a host; a `router` forwards."""
        namespace = self.lab.host(name, router=router)
        directory = self.directory / name
        directory.mkdir(mode=0o755)
        self.hosts[name] = Host(self, namespace, directory)
        return self.hosts[name]

    def segment(self, name: str) -> None:
        """Add a broadcast domain."""
        self.lab.segment(name)

    def attach(self, segment: str, host: Host, interface: str, *addresses: str) -> None:
        """Plug a host into a broadcast domain."""
        self._ports[host.name, interface] = f"port{self.lab.ports}"
        self.lab.attach(segment, host.namespace, interface, *addresses)

    def cable(self, host: Host, interface: str, *, plugged: bool) -> None:
        """Pull an interface's cable out of its switch, or put it back."""
        port = self._ports[host.name, interface]
        self.lab.hosts[SWITCH].ip(f"link set {port} {'up' if plugged else 'down'}")

    def link(self, a: Host, a_interface: str, b: Host, b_interface: str) -> None:
        """Lay a wire between two hosts."""
        self.lab.link(a.namespace, a_interface, b.namespace, b_interface)

    def wait_until(self, what: str, condition: Callable[[], object], timeout: float = 120.0) -> None:
        """Return as soon as the condition holds; fail with everything one wants to know if it never does.

        A program that has died is a failure at once: nothing that is waited for will come of it.
        """
        deadline = time.monotonic() + timeout
        last: object = None
        while True:
            try:
                last = condition()
                if last:
                    return
            except NOT_YET as error:
                last = error
            if dead := [program.name for program in self.programs if program.died]:
                raise AssertionError(f"{', '.join(dead)} died; so not {what}\n{self.dump()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"after {timeout:g} s: not {what}; last seen: {last!r}\n{self.dump()}")
            time.sleep(0.05)

    def wait_equal(self, what: str, view: Callable[[], T], wanted: T, timeout: float = 120.0) -> None:
        """Return as soon as a view shows exactly what is wanted; the failure says in what it differs."""
        seen: list[object] = [None]

        def looks_right() -> bool:
            seen[0] = view()
            return seen[0] == wanted

        try:
            self.wait_until(what, looks_right, timeout)
        except AssertionError as error:
            raise AssertionError(f"{_difference(seen[0], wanted)}\n{error}") from None

    def dump(self, lines: int = 25) -> str:
        """Routes of every host and the end of every program's output."""
        parts: list[str] = []
        for host in self.hosts.values():
            for version in (4, 6):
                shown = host.namespace.run("ip", f"-{version}", "route", "show", check=False).stdout
                parts.append(f"== {host.name}: IPv{version} routes\n{_shorten(shown)}")
        for program in self.programs:
            state = "running" if program.returncode is None else f"ended with {program.returncode}"
            parts.append(f"== {program.name} ({state})\n{program.tail(lines)}")
        return "\n".join(parts)


def _shorten(text: str, lines: int = 40) -> str:
    all_lines = text.rstrip().splitlines()
    rest = [f"… and {len(all_lines) - lines} more"] if len(all_lines) > lines else []
    return "\n".join(all_lines[:lines] + rest)


def _difference(seen: object, wanted: object) -> str:
    if isinstance(seen, Mapping) and isinstance(wanted, Mapping):
        missing = {key: wanted[key] for key in wanted.keys() - seen.keys()}
        extra = {key: seen[key] for key in seen.keys() - wanted.keys()}
        other = {
            key: (seen[key], wanted[key]) for key in seen.keys() & wanted.keys() if seen[key] != wanted[key]
        }
        return f"missing {_some(missing)}; too many {_some(extra)}; seen and wanted differ {_some(other)}"
    if isinstance(seen, (set, frozenset)) and isinstance(wanted, (set, frozenset)):
        return (
            f"missing {sorted(map(str, wanted - seen))[:20]}; too many {sorted(map(str, seen - wanted))[:20]}"
        )
    return f"seen {seen!r}, wanted {wanted!r}"


def _some(items: Mapping[Any, object], limit: int = 20) -> str:
    shown = ", ".join(f"{key}: {items[key]}" for key in sorted(items, key=str)[:limit])
    return f"[{len(items)}: {shown}]"
