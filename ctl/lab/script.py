"""What happens in the lab, as a pure script: changes to a small cluster, and what must be true after each.

`Cluster` is the declared truth (which workload is where, which node has claimed its block, which node is
alive); `Cluster.after` applies a change; `routes_at` gives the routes a member's kernel must have once the
change has reached it, exactly those and no others. The runner carries changes out and waits until what it
sees is what this module says. The rules are those of Calico's address management: a node's first workload
claims the node's block, which is announced as a whole; a workload that has an address of some other node's
block is announced by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from ctl.lab.layout import BLOCK_LENGTH, Layout, Member, Role, block_of


@dataclass(frozen=True, slots=True)
class Workload:
    """A container or VM with an address of its own."""

    name: str
    address: IPv4Address
    node: str

    @property
    def prefix(self) -> IPv4Network:
        """Its address as a /32."""
        return IPv4Network(self.address)

    @property
    def interface(self) -> str:
        """The node's end of the wire to it."""
        return f"cali{self.name}"


@dataclass(frozen=True, slots=True)
class AddWorkload:
    """Start a workload on a node, with the next free address of the node's block."""

    name: str
    node: str

    def __str__(self) -> str:
        return f"add {self.name} on {self.node}"


@dataclass(frozen=True, slots=True)
class MoveWorkload:
    """Move a workload to another node; it keeps its address."""

    name: str
    node: str

    def __str__(self) -> str:
        return f"move {self.name} to {self.node}"


@dataclass(frozen=True, slots=True)
class RemoveWorkload:
    """Stop a workload for good."""

    name: str

    def __str__(self) -> str:
        return f"remove {self.name}"


@dataclass(frozen=True, slots=True)
class KillNode:
    """Take a node's power away: nothing on it says goodbye."""

    node: str

    def __str__(self) -> str:
        return f"kill {self.node}"


@dataclass(frozen=True, slots=True)
class ReviveNode:
    """Bring a dead node back, with the workloads that are still declared for it."""

    node: str

    def __str__(self) -> str:
        return f"bring {self.node} back"


Change = AddWorkload | MoveWorkload | RemoveWorkload | KillNode | ReviveNode


@dataclass(frozen=True, slots=True)
class Step:
    """Changes made at once, under one title."""

    title: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """A route to a workload of this node."""

    interface: str


@dataclass(frozen=True, slots=True)
class Blackhole:
    """A route that stops packets for addresses of the node's own block that no workload has."""


@dataclass(frozen=True, slots=True)
class Via:
    """A learned route: the node that announces it."""

    node: str


Route = Local | Blackhole | Via


@dataclass(frozen=True, slots=True)
class Cluster:
    """The declared state of the lab. Values are never changed in place."""

    blocks: Mapping[str, IPv4Network]  # of every node, claimed or not
    alive: frozenset[str]
    workloads: Mapping[str, Workload]

    @classmethod
    def of(cls, layout: Layout) -> "Cluster":
        """A cluster with all nodes alive and no workload."""
        nodes = layout.of(Role.NODE)
        return cls({node.name: block_of(node) for node in nodes}, frozenset(node.name for node in nodes), {})

    def after(self, change: Change) -> "Cluster":
        """The cluster once `change` is made; ValueError if it makes no sense now."""
        match change:
            case AddWorkload(name, node):
                if name in self.workloads:
                    raise ValueError(f"{name} exists already")
                self._must_live(node)
                return self._with(Workload(name, self._free_address(node), node))
            case MoveWorkload(name, node):
                self._must_live(node)
                moved = self._existing(name)
                if moved.node == node:
                    raise ValueError(f"{name} is on {node} already")
                return self._with(replace(moved, node=node))
            case RemoveWorkload(name):
                self._existing(name)
                left = {key: workload for key, workload in self.workloads.items() if key != name}
                return replace(self, workloads=left)
            case KillNode(node):
                self._must_live(node)
                return replace(self, alive=self.alive - {node})
            case ReviveNode(node):
                if node in self.alive or node not in self.blocks:
                    raise ValueError(f"{node} is not a dead node")
                return replace(self, alive=self.alive | {node})

    def claims(self) -> dict[str, IPv4Network]:
        """The blocks nodes have claimed: those with an address in use, wherever its workload is by now."""
        used = {IPv4Network((int(w.address), BLOCK_LENGTH), strict=False) for w in self.workloads.values()}
        return {node: block for node, block in self.blocks.items() if block in used}

    def on(self, node: str) -> list[Workload]:
        """The workloads of a node, by name."""
        return [self.workloads[name] for name in sorted(self.workloads) if self.workloads[name].node == node]

    def running(self) -> list[Workload]:
        """The workloads of living nodes, by name."""
        return [
            self.workloads[name] for name in sorted(self.workloads) if self.workloads[name].node in self.alive
        ]

    def _with(self, workload: Workload) -> "Cluster":
        return replace(self, workloads={**self.workloads, workload.name: workload})

    def _existing(self, name: str) -> Workload:
        if name not in self.workloads:
            raise ValueError(f"there is no workload called {name}")
        return self.workloads[name]

    def _must_live(self, node: str) -> None:
        if node not in self.alive:
            raise ValueError(f"{node} is not a living node")

    def _free_address(self, node: str) -> IPv4Address:
        used = {workload.address for workload in self.workloads.values()}
        for address in self.blocks[node].hosts():
            if address not in used:
                return address
        raise ValueError(f"the block of {node} is full")


def routes_at(cluster: Cluster, at: Member) -> dict[IPv4Network, Route]:
    """The routes that must be in the kernel of a living member `at`: exactly these."""
    claims = cluster.claims()
    routes: dict[IPv4Network, Route] = {
        claims[node]: Via(node) for node in cluster.alive if node != at.name and node in claims
    }
    for workload in cluster.running():
        if workload.node != at.name and workload.address not in claims.get(workload.node, ()):
            routes[workload.prefix] = Via(workload.node)
    if at.role is Role.NODE:
        claimed = claims.get(at.name)
        if claimed is not None:
            routes[claimed] = Blackhole()
        routes.update({workload.prefix: Local(workload.interface) for workload in cluster.on(at.name)})
    return routes


def story(layout: Layout) -> tuple[Step, ...]:
    """The steps of the demonstration: add, move, remove, kill, bring back."""
    nodes = [node.name for node in layout.of(Role.NODE)]
    first, last = nodes[0], nodes[-1]
    steps = [_step(AddWorkload(f"web{number}", node)) for number, node in enumerate(nodes[:3], 1)]
    if rest := [AddWorkload(f"web{number}", node) for number, node in enumerate(nodes[3:], 4)]:
        steps.append(Step(f"add {len(rest)} more, one on each other node", tuple(rest)))
    steps.append(_step(AddWorkload("db1", first)))
    steps.append(_step(MoveWorkload("web1", last)))
    steps.append(_step(RemoveWorkload("web2")))
    steps.append(_step(KillNode(last)))
    steps.append(_step(ReviveNode(last)))
    steps.append(_step(MoveWorkload("web1", first)))
    return tuple(steps)


def _step(change: Change) -> Step:
    return Step(str(change), (change,))
