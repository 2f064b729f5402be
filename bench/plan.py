"""`./run bench plan`: what planning costs, on a cluster of 1,000 nodes and 100 BGPPeers.

Nothing here needs a rival, a network or root: the plan is a pure function, and its bars are absolute. What
counts is processor time, which on an idle machine is the clock's: there is nothing here to wait for. Every
incremental case starts from a snapshot whose nodes are all planned, changes one resource, and plans one node
to its last session, as an agent does on a watch event.

./run bench plan --json bench/results/plan.json
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import process_time

from bench import machine
from bench.figures import SUBJECT, Figure, dump, to_text
from bgpd.plan import NodePlan, plan_node
from bgpd.plan.diff import diff_cluster
from bgpd.plan.facts import election_of
from bgpd.resources import MODELS, Key, Resource, ResourceSet

RACKS = 50
PEERS = 100
REFLECTORS = 3
ENDPOINTS = 5000
FULL_LIMIT = 2.0  # seconds: the full comparison of the cluster
INCREMENTAL_LIMIT = 5.0  # milliseconds: one node after one change


def made(kind: str, name: str, spec: object, labels: dict[str, str] | None = None) -> Resource:
    model = MODELS[kind]
    document = {"apiVersion": model.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    if labels is not None:
        document["metadata"] = {"name": name, "labels": labels}
    return model.model_validate(document, by_alias=True)


def node(number: int, rack: int | None = None, host: int = 1) -> Resource:
    """Node `number`; the first few are reflectors."""
    bgp = {"ipv4Address": f"10.{number // 250}.{number % 250}.{host}/16"}
    labels = {"rack": f"r{number % RACKS if rack is None else rack}"}
    if number < REFLECTORS:
        bgp["routeReflectorClusterID"] = "244.0.0.1"
        labels["reflector"] = "true"
    return made("Node", name_of(number), {"bgp": bgp}, labels)


def name_of(number: int) -> str:
    return f"node-{number:04}"


def peer(number: int, asn: int) -> Resource:
    """A router's session with the nodes of its rack."""
    spec = {
        "nodeSelector": f"rack == 'r{number % RACKS}'",
        "peerIP": f"192.0.2.{number + 1}",
        "asNumber": asn,
    }
    return made("BGPPeer", f"tor-{number:02}", spec)


def reflection(**more: object) -> Resource:
    spec = {"nodeSelector": "!has(reflector)", "peerSelector": "has(reflector)", **more}
    return made("BGPPeer", "reflectors", spec)


def cluster(nodes: int, mesh: bool) -> list[Resource]:
    """Nodes with a block each; reflected with a router's two sessions per rack, or in a full mesh."""
    found: list[Resource] = [
        made("IPPool", "pool", {"cidr": "172.16.0.0/12"}),
        made("BGPConfiguration", "default", {"nodeToNodeMeshEnabled": mesh, "asNumber": 65000}),
    ]
    for number in range(nodes):
        found.append(node(number) if not mesh else made("Node", name_of(number), _meshed(number)))
        cidr = f"172.{16 + number // 256}.{number % 256}.0/26"
        spec = {"node": name_of(number), "cidr": cidr, "state": "confirmed"}
        found.append(made("BlockAffinity", "block", spec))
    if not mesh:
        found.append(reflection())
        found.extend(peer(number, 64900 + number) for number in range(PEERS - 1))
    return found


def _meshed(number: int) -> object:
    return {"bgp": {"ipv4Address": f"10.{number // 250}.{number % 250}.1/16"}}


def election() -> Resource:
    return made("CairnConfiguration", "default", {"reflectors": {"count": 3, "spreadLabel": "rack"}})


def elected_of(resources: ResourceSet) -> list[str]:
    found = election_of(resources)
    return list(found.elected) if found is not None else []


def workload(node: str, number: int) -> Resource:
    """A workload with the address of that number in the blocks of ``workloads``."""
    address = f"172.30.{number // 256}.{number % 256}/32"
    spec = {"orchestrator": "k8s", "node": node, "ipNetworks": [address], "interfaceName": f"cali{number}"}
    return made("WorkloadEndpoint", f"{node.replace('-', '--')}-k8s-pod{number}-eth0", spec)


def workloads(node: str, inside: bool) -> list[Resource]:
    """Very many workloads on one node, inside blocks of it or outside all blocks."""
    found = [workload(node, number) for number in range(ENDPOINTS)]
    for number in range(ENDPOINTS // 64 + 2 if inside else 0):
        cidr = f"172.30.{number // 4}.{number % 4 * 64}/26"
        found.append(made("BlockAffinity", "block", {"node": node, "cidr": cidr, "state": "confirmed"}))
    return found


def _block(owner: str) -> Resource:
    return made("BlockAffinity", "block", {"node": owner, "cidr": "172.31.0.0/26", "state": "confirmed"})


def _planned(declared: Iterable[Resource], names: Iterable[str]) -> ResourceSet:
    """A snapshot of which these nodes are planned to their last session."""
    resources = ResourceSet.of(declared)
    for name in names:
        whole(plan_node(resources, name))
    return resources


def whole(plan: NodePlan) -> int:
    """Write out the plan's sessions, which it otherwise leaves for later; how many there are."""
    return len(list(plan.peerings))


def change(resources: ResourceSet, resource: Resource) -> ResourceSet:
    return resources.with_changes({resource.key: resource})


class Bench:
    """The figures, and how each is taken."""

    def __init__(self, nodes: int, repeat: int) -> None:
        self.figures: list[Figure] = []
        self._nodes = nodes
        self._repeat = repeat

    def run(self) -> list[Figure]:
        declared = cluster(self._nodes, mesh=False)
        size = f"{self._nodes:,} nodes, {PEERS} BGPPeers"
        names = [name_of(number) for number in range(self._nodes)]
        self._take("plan.full", f"all plans, {size}", "s", None, lambda: self._plan_all(declared, names))
        edits = {
            "diff.peer": ("one BGPPeer altered", [peer(7, 65099)]),
            "diff.node": ("one node to another rack", [node(500 % self._nodes, rack=3, host=9)]),
            "diff.all": ("every session bounces", [reflection(keepaliveTime="10s")]),
        }
        for name, (title, resources) in edits.items():
            self._take(
                name, f"diff of the cluster: {title}", "s", FULL_LIMIT, self._diff(declared, resources)
            )
        meshed = cluster(self._nodes, mesh=True)
        leaving = Key("Node", name_of(self._nodes - 1))
        title = f"diff of a full mesh of {self._nodes:,}: a node leaves"
        self._take("diff.mesh", title, "s", FULL_LIMIT, self._diff(meshed, (), gone=(leaving,)))
        ordinary, reflector = name_of(self._nodes // 2), name_of(0)
        moved = node(self._nodes - 7, rack=3, host=9)
        lease = made("NodeLease", name_of(self._nodes - 7), {})
        planned = _planned(declared, names)
        self._again("node", "one node after another's address and labels changed", planned, moved, ordinary)
        self._again("itself", "one node after its own address and labels changed", planned, moved, moved.name)
        self._again("peer", "one node after a BGPPeer changed", planned, peer(0, 65099), ordinary)
        self._again("block", "one node after its block came", planned, _block(ordinary), ordinary)
        self._again("lease", "one node after another's lease came", planned, lease, ordinary)
        of = f"a reflector of {self._nodes:,} clients"
        self._again("reflector.node", f"{of} after a node changed", planned, moved, reflector)
        self._again("reflector.peer", f"{of} after a BGPPeer changed", planned, peer(0, 65099), reflector)
        elected = _planned([*declared, election()], (reflector,))
        (first, *_) = elected_of(elected)
        elected = _planned([*declared, election()], (first,))
        self._again(
            "elected.node",
            f"an elected reflector of {self._nodes:,} after a node changed",
            elected,
            moved,
            first,
        )
        self._again("elected.lease", "the same after a node's lease came", elected, lease, first)
        whole_mesh = _planned(meshed, (ordinary,))
        changed = made("Node", moved.name, _meshed(self._nodes - 8))
        self._again(
            "mesh.node",
            f"one of a full mesh of {self._nodes:,} after a node changed",
            whole_mesh,
            changed,
            ordinary,
        )
        of = f"one node of {ENDPOINTS:,} workloads"
        for where, inside in (("inside its blocks", True), ("outside all blocks", False)):
            full = _planned([*declared, *workloads(ordinary, inside)], (ordinary,))
            short = "inside" if inside else "outside"
            self._again(
                f"{short}.come", f"{of} {where} after one came", full, workload(ordinary, ENDPOINTS), ordinary
            )
            self._again(
                f"{short}.block", f"{of} {where} after a block came", full, _block(ordinary), ordinary
            )
            self._again(f"{short}.node", f"{of} {where} after another node changed", full, moved, ordinary)
        return self.figures

    def _again(self, name: str, title: str, planned: ResourceSet, edit: Resource, who: str) -> None:
        """Plan one node again after one change."""
        self._take(
            f"plan.{name}",
            title,
            "ms",
            INCREMENTAL_LIMIT,
            lambda: whole(plan_node(change(planned, edit), who)),
        )

    def _take(
        self, name: str, title: str, unit: str, limit: float | None, work: Callable[[], object]
    ) -> None:
        figure = Figure(name, title, unit, limit=limit)
        for _ in range(self._repeat):
            gc.collect()
            begun = process_time()
            work()
            taken = process_time() - begun
            figure.add(SUBJECT, taken * 1000 if unit == "ms" else taken)
        self.figures.append(figure)

    @staticmethod
    def _plan_all(declared: Iterable[Resource], names: Iterable[str]) -> int:
        resources = ResourceSet.of(declared)
        return sum(whole(plan_node(resources, name)) for name in names)

    @staticmethod
    def _diff(
        declared: Iterable[Resource], edits: Iterable[Resource], gone: Iterable[Key] = ()
    ) -> Callable[[], object]:
        def work() -> object:
            before = ResourceSet.of(declared)
            changes: dict[Key, Resource | None] = {item.key: item for item in edits}
            changes.update(dict.fromkeys(gone))
            found = diff_cluster(before, before.with_changes(changes))
            assert found, "the change has consequences"
            return found

        return work


def run(repeat: int, quick: bool, json: Path | None) -> int:
    """Measure and print; 0, also when a bar is missed (the table says so)."""
    figures = Bench(100 if quick else 1000, repeat).run()
    print(to_text(figures, {SUBJECT: "Cairn"}))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        report = {
            "machine": machine.describe(),
            "repetitions": repeat,
            "figures": [figure.to_json() for figure in figures],
        }
        json.write_text(dump(report))
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run bench plan", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    parser.add_argument("--quick", action="store_true", help="100 nodes, once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    return run(1 if options.quick else max(1, options.repeat), options.quick, options.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
