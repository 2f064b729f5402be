"""Round trips between workloads on two nodes against round trips between the nodes themselves.

Ways between the same two machines: the hosts directly; workloads routed by our agents; the same workloads
while their pool says ``vxlanMode: Always``. On two further nodes each: workloads with the same routes by hand
and no agent, which is what the kernel can do; and workloads on a bridge with the host's interface in it. All
of it is the kernel's work, wired by veth pairs without any latency, so every hop shows far more than it
would behind network cards.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

from bench.agent.contenders import CairnNode
from bench.agent.ground import Ground, GroundError, resource
from bgpd.datastore import Update
from bgpd.resources import Key, endpoint_name
from ctl.lab.netns import Namespace

PORT = 7100
SOURCE = Path(__file__).with_name("echo.c")


def build(directory: Path) -> Path:
    """Compile echo.c. Raises GroundError."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise GroundError("no C compiler: install gcc and libc6-dev")
    program = directory / "echo"
    done = subprocess.run(
        [compiler, "-O2", "-o", program, SOURCE], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GroundError(f"echo.c does not compile: {done.stderr}")
    return program


def workload(ground: Ground, node: Namespace, address: str) -> Namespace:
    """A workload with its wire to a node, as Calico makes one: its router is 169.254.1.1."""
    made = ground.lab.host(f"w_{node.host}")
    ground.lab.link(node, "work0", made, "eth0")
    made.ip(
        f"addr add {address}/32 dev eth0",
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1 dev eth0",
    )
    return made


def by_hand(ground: Ground, name: str, number: int, address: str, far: str, gateway: str) -> Namespace:
    """A workload on a node of its own that no agent has touched, with a route to the far one."""
    node = ground.node(name, number)
    made = workload(ground, node, address)
    node.ip(f"route add {address} dev work0 scope link", f"route add {far} via {gateway}")
    node.run("sysctl", "-qw", "net.ipv4.conf.work0.proxy_arp=1", "net.ipv4.neigh.work0.proxy_delay=0")
    return made


def bridged(ground: Ground, name: str, number: int) -> Namespace:
    """A workload on a bridge of a node of its own; its address is one of the hosts' network."""
    node = ground.lab.host(name)
    ground.lab.attach("lan", node, "eth0")
    made = ground.lab.host(f"w_{name}")
    ground.lab.link(node, "work0", made, "eth0")
    node.ip(
        "link add br0 type bridge stp_state 0",
        "link set eth0 master br0",
        "link set work0 master br0",
        f"addr add 10.0.0.{number}/16 dev br0",
        "link set br0 up",
    )
    made.ip(f"addr add 10.0.0.{number + 100}/16 dev eth0")
    return made


class Way:
    """A pair of places and the address of the far one."""

    def __init__(self, ground: Ground, echo: Path, near: Namespace, far: Namespace, address: str) -> None:
        self.near, self.address, self._echo = near, address, echo
        ground.start(far, f"echo-{address}", echo, "serve", address, str(PORT))

    async def microseconds(self, seconds: float) -> float:
        """One measurement: the time of a round trip."""
        process = await asyncio.create_subprocess_exec(
            *self.near.argv(self._echo, "ask", self.address, str(PORT), str(seconds)),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, complaint = await process.communicate()
        if process.returncode:
            raise GroundError(f"no way to {self.address}: {complaint.decode().strip()}")
        return 1e6 / float(said)


async def reachable(near: Namespace, address: str) -> None:
    for _ in range(50):
        done = await asyncio.to_thread(near.run, "ping", "-c1", "-W1", address, check=False)
        if done.returncode == 0:
            return
        await asyncio.sleep(0.2)
    raise GroundError(f"{address} does not answer {near.host}")


async def measure(ground: Ground, rounds: int, seconds: float) -> dict[str, float]:
    """Way → the best time of a round trip in ``rounds`` runs, in µs: other programs can only add to it."""
    echo = build(ground.directory)
    a, b = ground.node("a", 1), ground.node("b", 2)
    agents = [CairnNode(ground, a, 1), CairnNode(ground, b, 2)]
    ends = {"a": "10.64.0.2", "b": "10.64.64.2"}
    places = {name: workload(ground, node, ends[name]) for name, node in (("a", a), ("b", b))}
    for name, address in ends.items():
        cidr = address.rpartition(".")[0] + ".0/26"
        await ground.declare(
            resource("BlockAffinity", f"{name}/{cidr}", {"state": "confirmed", "node": name, "cidr": cidr}),
            resource(
                "WorkloadEndpoint",
                endpoint_name(name, "k8s", "w", "eth0"),
                {
                    "orchestrator": "k8s", "node": name, "pod": "w", "endpoint": "eth0",
                    "interfaceName": "work0", "ipNetworks": [f"{address}/32"],
                },
                "default",
            ),
        )  # fmt: skip
    near, far = bridged(ground, "c", 3), bridged(ground, "d", 4)
    plain = ("10.127.0.2", "10.127.64.2")
    plain_near = by_hand(ground, "e", 5, plain[0], plain[1], "10.0.0.6")
    plain_far = by_hand(ground, "f", 6, plain[1], plain[0], "10.0.0.5")
    try:
        for agent in agents:
            await agent.start()
        await reachable(places["a"], ends["b"])
        await reachable(near, "10.0.0.104")
        await reachable(plain_near, plain[1])
        ways = {
            "hosts": Way(ground, echo, a, b, "10.0.0.2"),
            "routed": Way(ground, echo, places["a"], places["b"], ends["b"]),
            "by-hand": Way(ground, echo, plain_near, plain_far, plain[1]),
            "bridge": Way(ground, echo, near, far, "10.0.0.104"),
        }
        await asyncio.sleep(0.5)
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, way in ways.items():
                times.setdefault(name, []).append(await way.microseconds(seconds))
        assert ground.store is not None
        known = await ground.store.get(Key("IPPool", "pool"))
        assert known is not None
        spec = {"cidr": "10.64.0.0/10", "blockSize": 26, "vxlanMode": "Always"}
        await ground.store.commit([Update(resource("IPPool", "pool", spec), known.revision)])
        for _ in range(100):
            if "vxlan" in a.run("ip", "route", "get", ends["b"]).stdout:
                break
            await asyncio.sleep(0.1)
        else:
            raise GroundError("the pool's routes do not lead through VXLAN")
        await reachable(places["a"], ends["b"])
        for _ in range(rounds):
            times.setdefault("vxlan", []).append(await ways["routed"].microseconds(seconds))
            times.setdefault("hosts-again", []).append(await ways["hosts"].microseconds(seconds))
    finally:
        for agent in agents:
            await agent.stop()
    return {name: min(values) for name, values in times.items()}
