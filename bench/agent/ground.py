"""The lab: one broadcast domain, a core with etcd and our reflector, and nodes to put contenders on.

etcd and the reflector serve all contenders alike. Programs live in network namespaces and end with the lab.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from bgpd.datastore import Datastore, DatastoreError, Interests, open_datastore
from bgpd.resources import Key, Resource, decode
from ctl.lab.netns import SWITCH, Lab, Namespace

ASN = 64512
CORE, FEEDER, SECOND = "10.0.255.254", "10.0.255.253", "10.0.255.251"
COMMAND = Path(sys.executable).with_name("cairn")


class GroundError(Exception):
    """Something the bench stands on did not come up; the text ends with what it said."""


class Program:
    """A process in a namespace with its output in a file."""

    def __init__(self, place: Namespace, directory: Path, name: str, *argv: str | Path) -> None:
        self.log = directory / f"{name}.log"
        self.name = name
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                place.argv(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env=place.environment(), cwd=directory,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-3:])


class Ground:
    """Namespaces, etcd and reflector, as long as the context lasts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lab = Lab("bench")
        self.lab.segment("lan")
        self.core = self.lab.host("core")
        self.lab.attach("lan", self.core, "eth0", f"{CORE}/16", f"{FEEDER}/16", f"{SECOND}/16")
        self.programs: list[Program] = []
        self.store: Datastore | None = None

    def node(self, name: str, number: int) -> Namespace:
        """A machine at 10.0.0.<number> that forwards packets."""
        made = self.lab.host(name, router=True)
        self.lab.attach("lan", made, "eth0", f"10.0.0.{number}/16")
        made.ip(f"route add default via {CORE}")  # without one a kernel does not answer ARP for 169.254.1.1
        return made

    def start(self, place: Namespace, name: str, *argv: str | Path) -> Program:
        directory = self.directory / place.host
        directory.mkdir(exist_ok=True)
        program = Program(place, directory, name, *argv)
        self.programs.append(program)
        return program

    async def serve(self) -> None:
        """Start etcd and the reflector, and declare what every case needs."""
        if shutil.which("etcd") is None:
            raise GroundError("etcd is not installed (Debian package etcd-server)")
        url, local = f"http://{CORE}:2379", "http://127.0.0.1:2380"
        etcd = self.start(
            self.core, "etcd", "etcd", "--name", "one", "--data-dir", self.directory / "etcd",
            "--listen-client-urls", f"{url},http://127.0.0.1:2379", "--advertise-client-urls", url,
            "--listen-peer-urls", local, "--initial-advertise-peer-urls", local,
            "--initial-cluster", f"one={local}", "--logger", "zap", "--log-level", "error",
        )  # fmt: skip
        self.reflector("reflector", CORE)
        self._join()
        self.store = open_datastore(f"etcd://{CORE}:2379", {})
        deadline = time.monotonic() + 30
        while True:
            try:
                await self.store.list(Interests(kinds=frozenset({"Node"})))
                break
            except DatastoreError:
                if time.monotonic() > deadline:
                    raise GroundError(f"etcd does not answer: {etcd.tail()}") from None
                await asyncio.sleep(0.1)
        await self.declare(
            resource("IPPool", "pool", {"cidr": "10.64.0.0/10", "blockSize": 26}),
            resource("BGPConfiguration", "default", {"nodeToNodeMeshEnabled": False}),
            resource("BGPPeer", "reflector", {"peerIP": CORE, "asNumber": ASN}),
        )

    def reflector(self, name: str, address: str) -> None:
        """Start one of our reflectors on the core; everybody on the network may be its client."""
        configuration = self.directory / f"{name}.yaml"
        text = {
            "asn": ASN, "routerId": address, "clusterId": CORE,
            "listen": {"address": address, "port": 179}, "clients": [{"prefix": "10.0.0.0/16"}],
        }  # fmt: skip
        configuration.write_text(yaml.safe_dump(text))
        self.start(self.core, name, COMMAND, "reflector", "--config", configuration)

    def _join(self) -> None:
        """Put this process's own namespace on the lab's network: it writes to etcd."""
        switch = self.lab.hosts[SWITCH]
        for command in (
            f"link add bench0 type veth peer name bench0 netns {switch.name}",
            f"-n {switch.name} link set bench0 master lan up",
            "addr add 10.0.255.252/16 dev bench0",
            "link set bench0 up",
        ):
            subprocess.run(["ip", *command.split()], check=True)

    async def declare(self, *resources: Resource) -> None:
        assert self.store is not None
        for each in resources:
            await self.store.create(each)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in reversed(self.programs):
            program.stop()
        self.lab.remove()
        subprocess.run(["ip", "link", "delete", "bench0"], capture_output=True, check=False)


def resource(kind: str, name: str, spec: dict[str, Any], namespace: str = "") -> Resource:
    """A resource from what its YAML file would say."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return decode(Key(kind, name, namespace), json.dumps({"metadata": metadata, "spec": spec}).encode())
