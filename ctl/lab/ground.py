"""The ground a lab stands on: namespaces and wires as root, addresses of 127.0.0.0/8 otherwise.

Both grounds offer the same to the runner: make a member's machine, wire a workload to its node, take a
machine's power away, and say how to start a program on a member. What only namespaces can do (ping, kernel
routes) says so.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Protocol

from ctl.lab.daemons import processes_of
from ctl.lab.layout import Layout, Member, Role
from ctl.lab.netns import Lab, Namespace
from ctl.lab.script import Workload

LINK_LOCAL_GATEWAY = "169.254.1.1"  # what Calico gives every container as its router


class Ground(Protocol):
    """What the runner needs of either ground."""

    @property
    def real_kernel(self) -> bool:
        """Whether agents write kernel routes and workloads answer pings."""

    def make(self, member: Member) -> None:
        """Make a member's machine and connect it."""

    def argv(self, member: Member, *program: str | Path) -> list[str]:
        """The argument list that starts a program on a member."""

    def environment(self) -> dict[str, str]:
        """The environment for every process of the lab; its mark lets a later run find and end them."""

    def wire(self, workload: Workload) -> None:
        """Start the workload on its node, with a wire between them."""

    def unwire(self, name: str) -> None:
        """Stop a workload."""

    def power_off(self, member: Member) -> None:
        """Take a member's power away: its processes die at once, its wires are cut."""

    def power_on(self, member: Member) -> None:
        """Give a member its machine back, empty."""

    async def ping(self, source: str, target: Workload) -> bool:
        """Whether a ping from a workload or the router reaches a workload."""

    def remove(self) -> None:
        """Kill everything that runs here and take the ground away."""


class LoopbackGround:
    """Members are processes on addresses of 127.0.0.0/8; workloads are declarations only."""

    real_kernel = False

    def __init__(self) -> None:
        self._lab = Lab("lab")  # its name marks our processes; it makes no namespace
        self._anywhere = Namespace(self._lab.name, "none")

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._lab.name

    def make(self, member: Member) -> None:
        """Nothing to make: all of 127.0.0.0/8 is there."""

    def argv(self, member: Member, *program: str | Path) -> list[str]:  # noqa: ARG002  # the other ground needs it
        """The program itself."""
        return [*map(str, program)]

    def environment(self) -> dict[str, str]:
        """Ours, and the lab's mark."""
        return self._anywhere.environment()

    def wire(self, workload: Workload) -> None:
        """A workload without root is its declaration."""

    def unwire(self, name: str) -> None:
        """A workload without root is its declaration."""

    def power_off(self, member: Member) -> None:
        """Kill the member's processes, and those that they have started."""
        for pid in processes_of(self._lab.name, member.name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def power_on(self, member: Member) -> None:
        """There is no machine to give back."""

    async def ping(self, source: str, target: Workload) -> bool:
        """Nobody answers without root."""
        raise NotImplementedError(
            f"{source} cannot ping {target.name}: there are no real workloads without root"
        )

    def remove(self) -> None:
        """Kill every process that carries the lab's mark."""
        self._lab.remove()


class NamespaceGround:
    """Members and workloads are network namespaces; a router namespace is between all of them."""

    real_kernel = True

    def __init__(self, layout: Layout) -> None:
        self._lab = Lab("lab")
        self._layout = layout
        self._router = layout.of(Role.ROUTER)[0]

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._lab.name

    def namespace(self, host: str) -> Namespace:
        """The namespace of a member or workload."""
        return self._lab.hosts[host]

    def make(self, member: Member) -> None:
        """Make a member's namespace and a wire to the router, which must exist first."""
        here = self._lab.host(member.name, router=member.role is not Role.REFLECTOR)
        if member.role is Role.ROUTER:
            here.ip(f"addr add {member.interface} dev lo")
            return
        router = self._lab.hosts[self._router.name]
        self._lab.link(router, member.name, here, "eth0")
        router.ip(f"addr add {member.gateway}/{member.interface.network.prefixlen} dev {member.name}")
        here.ip(f"addr add {member.interface} dev eth0", f"route add default via {member.gateway}")

    def argv(self, member: Member, *program: str | Path) -> list[str]:
        """The program, in the member's namespace."""
        return self._lab.hosts[member.name].argv(*program)

    def environment(self) -> dict[str, str]:
        """Ours, and the lab's mark."""
        return Namespace(self._lab.name, self._router.name).environment()

    def wire(self, workload: Workload) -> None:
        """Make the workload's namespace and wire it up as a container is: one address, one gateway."""
        node = self._lab.hosts[workload.node]
        here = self._lab.host(workload.name)
        self._lab.link(node, workload.interface, here, "eth0")
        node.sysctl({f"net.ipv4.conf.{workload.interface}.proxy_arp": "1"})
        here.ip(
            f"addr add {workload.prefix} dev eth0",
            f"route add {LINK_LOCAL_GATEWAY} dev eth0 scope link",
            f"route add default via {LINK_LOCAL_GATEWAY} dev eth0",
        )

    def unwire(self, name: str) -> None:
        """Drop the workload's namespace, if it is there, and with it the wire."""
        if name in self._lab.hosts:
            self._lab.drop(self._lab.hosts[name])

    def power_off(self, member: Member) -> None:
        """Drop the member's namespace: its processes are killed, its wires vanish at both ends."""
        self._lab.drop(self._lab.hosts[member.name])

    def power_on(self, member: Member) -> None:
        """Make the member's namespace again."""
        self.make(member)

    async def ping(self, source: str, target: Workload) -> bool:
        """One ping, given a second."""
        process = await asyncio.create_subprocess_exec(
            *self._lab.hosts[source].argv("ping", "-n", "-c", "1", "-W", "1", str(target.address)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
        )
        return await process.wait() == 0

    def remove(self) -> None:
        """Kill everything in the lab's namespaces and delete them."""
        self._lab.remove()
