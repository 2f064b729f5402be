"""The two ways a node can be run: Cairn's agent with its ExaBGP, and BIRD 2.

Both speak to the same reflector and write the same kernel. BIRD is configured as well as we can: direct and
static routes only, no import from the kernel, its static routes in an included file, and told of a change as
an operator tells it, by `birdc configure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import yaml

from bench.agent.ground import ASN, COMMAND, CORE, Ground, GroundError, Program, resource
from bgpd.datastore import Create, Delete
from bgpd.resources import Key, endpoint_name
from ctl.lab.netns import Namespace

BIRD = """\
log stderr {{ error, fatal }};
router id {address};
protocol device {{ scan time 60; }}
protocol direct {{ ipv4; }}
protocol static announced {{
  ipv4;
  include "{routes}";
}}
protocol kernel {{ scan time 600; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp reflector {{
  local {address} as {asn}; neighbor {core} as {asn};
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export where proto = "announced"; }};
}}
"""


class Node(Protocol):
    """One node under measurement."""

    place: Namespace

    async def start(self) -> None:
        """Start; returns at once."""

    async def announce(self, addresses: Iterable[str]) -> None: ...

    async def withdraw(self, addresses: Iterable[str]) -> None: ...

    def pids(self) -> list[int]: ...

    async def stop(self) -> None: ...


def descendants(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += descendants(int(child))
    return found


class CairnNode:
    """The agent; what it announces are WorkloadEndpoints written to etcd."""

    def __init__(self, ground: Ground, place: Namespace, number: int) -> None:
        self.place = place
        self._ground = ground
        self._directory = ground.directory / place.host
        self._directory.mkdir(exist_ok=True)
        self._program: Program | None = None
        self._run = self._directory / "exabgp"
        configuration = {
            "node": place.host, "datastore": f"etcd://{CORE}:2379", "ipv4": f"10.0.0.{number}/16",
            "exabgp": {"runDirectory": str(self._run)},
        }  # fmt: skip
        (self._directory / "agent.yaml").write_text(yaml.safe_dump(configuration))

    async def start(self) -> None:
        self._program = self._ground.start(
            self.place, "agent", COMMAND, "agent", "--config", self._directory / "agent.yaml"
        )

    def _endpoint(self, address: str) -> tuple[str, dict[str, object]]:
        node, pod = self.place.host, f"p{address.replace('.', 'x')}"
        spec: dict[str, object] = {
            "orchestrator": "k8s", "node": node, "pod": pod, "endpoint": "eth0", "interfaceName": "work0",
            "ipNetworks": [f"{address}/32"],
        }  # fmt: skip
        return endpoint_name(node, "k8s", pod, "eth0"), spec

    async def announce(self, addresses: Iterable[str]) -> None:
        store = self._ground.store
        assert store is not None
        made = [
            Create(resource("WorkloadEndpoint", name, spec, "default"))
            for name, spec in map(self._endpoint, addresses)
        ]
        await store.commit(made, atomic=False)

    async def withdraw(self, addresses: Iterable[str]) -> None:
        store = self._ground.store
        assert store is not None
        writes = [Delete(Key("WorkloadEndpoint", self._endpoint(each)[0], "default")) for each in addresses]
        await store.commit(writes, atomic=False)

    def pids(self) -> list[int]:
        found = [] if self._program is None else [self._program.pid]
        for known in self._run.glob("*/process.json"):
            found += descendants(int(json.loads(known.read_text())["pid"]))
        return found

    async def stop(self) -> None:
        """Leave the node as it was: routes withdrawn, ExaBGP ended."""
        if self._program is not None:
            self._program.process.send_signal(signal.SIGUSR2)
            await asyncio.to_thread(self._program.process.wait, 30)
            self._program = None


class BirdNode:
    """BIRD 2; what it announces are static routes in a file it includes."""

    def __init__(self, ground: Ground, place: Namespace, number: int) -> None:
        if shutil.which("bird") is None:
            raise GroundError("not installed")
        self.place = place
        self._ground = ground
        self._directory = ground.directory / f"{place.host}-bird"
        self._directory.mkdir(exist_ok=True)
        self._routes = self._directory / "routes.conf"
        self._control = self._directory / "bird.ctl"
        self._announced: dict[str, None] = {}
        self._program: Program | None = None
        self._write()
        text = BIRD.format(address=f"10.0.0.{number}", routes=self._routes, asn=ASN, core=CORE)
        (self._directory / "bird.conf").write_text(text)

    def _write(self) -> None:
        self._routes.write_text("".join(f"route {each}/32 blackhole;\n" for each in self._announced))

    async def start(self) -> None:
        self._program = self._ground.start(
            self.place, "bird", "bird", "-f", "-c", self._directory / "bird.conf",
            "-s", self._control, "-P", self._directory / "pid",
        )  # fmt: skip
        for _ in range(6000):
            if self._control.exists():
                return
            await asyncio.sleep(0.005)

    async def _configure(self) -> None:
        if self._program is None:
            return
        command = await asyncio.create_subprocess_exec(
            "birdc", "-s", str(self._control), "configure", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await command.communicate()
        if command.returncode or b"Reconfig" not in said:
            raise GroundError(f"bird: {said.decode().strip()}")

    async def announce(self, addresses: Iterable[str]) -> None:
        self._announced.update(dict.fromkeys(addresses))
        self._write()
        await self._configure()

    async def withdraw(self, addresses: Iterable[str]) -> None:
        for each in addresses:
            del self._announced[each]
        self._write()
        await self._configure()

    def pids(self) -> list[int]:
        return [] if self._program is None else [self._program.pid]

    async def stop(self) -> None:
        if self._program is not None:
            await asyncio.to_thread(self._program.stop)
            self._program = None


def peak_memory(pids: Iterable[int]) -> float:
    """VmHWM in MB, added up (pages that processes share count in each)."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    total += int(line.split()[1]) / 1e3
    return total


def processor_time(pids: Iterable[int]) -> float:
    """Seconds of processor time used so far by all threads."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
