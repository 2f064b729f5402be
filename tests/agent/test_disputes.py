"""An address two nodes claimed: asked after once the other is silent, and settled only by the datastore."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from agent.disputes import Disputes
from agent.forwarding import Forwarding
from bgpd.datastore import Datastore, DatastoreError, Interests, Snapshot, open_datastore
from bgpd.resources import ResourceSet
from bgpd.resources.documents import load_documents

MOVED = "10.77.0.9/32"
THERE, UNKNOWN = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 99))
NODE = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: elsewhere}
spec: {bgp: {ipv4Address: 10.0.0.3/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: there}
spec: {bgp: {ipv4Address: 10.0.0.2/24}}
"""
CLAIM = """
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: NODE-k8s-w-eth0, namespace: default}
spec: {orchestrator: k8s, node: NODE, pod: w, endpoint: eth0, ipNetworks: [10.77.0.9/32]}
"""
NODES = ResourceSet.of(load_documents(NODE, "test")).nodes


class Claims:
    """Stands for `Forwarding`: one dispute, whose other side is silent."""

    def __init__(self, rival: bytes) -> None:
        self.silent = {MOVED: rival}
        self.settled: list[str] = []

    def silent_rivals(self) -> dict[str, bytes]:
        return self.silent

    def settle(self, prefix: str) -> bool:
        self.settled.append(prefix)
        return True


class Asked:
    """A directory as datastore that counts the questions, and can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.questions, self.away = folder, 0, False

    async def list(self, interests: Interests) -> Snapshot:
        self.questions += 1
        if self.away:
            raise DatastoreError("away")
        return await open_datastore(str(self.folder), {}).list(interests)

    def claim(self, node: str) -> Path:
        path = self.folder / f"{node}.yaml"
        path.write_text(CLAIM.replace("NODE", node))
        return path


@pytest.mark.parametrize("rival", [THERE, UNKNOWN])
async def test_a_dispute_lasts_as_long_as_the_other_endpoint(tmp_path: Path, rival: bytes) -> None:
    store, claims = Asked(tmp_path), Claims(rival)
    store.claim("here")
    other = store.claim("there")
    disputes = Disputes(cast("Datastore", store), cast("Forwarding", claims), "here")
    now = 0.0
    for _ in range(100):
        assert not await disputes.look(NODES, now)
        now += 1.0
    assert (store.questions, claims.settled) == (7, []), "ever more rarely"
    other.unlink()
    store.away = True
    assert not await disputes.look(NODES, now + 64.0)
    assert claims.settled == [], "nobody could be asked"
    store.away = False
    assert await disputes.look(NODES, now + 64.0 + 128.0)
    assert claims.settled == [MOVED]


async def test_one_that_is_heard_again_is_asked_after_anew(tmp_path: Path) -> None:
    store, claims = Asked(tmp_path), Claims(THERE)
    disputes = Disputes(cast("Datastore", store), cast("Forwarding", claims), "here")
    store.claim("there")
    for now in (0.0, 1.0, 2.0):
        await disputes.look(NODES, now)
    heard, claims.silent = claims.silent, {}
    await disputes.look(NODES, 3.0)
    claims.silent = heard
    await disputes.look(NODES, 100.0)
    questions = store.questions
    await disputes.look(NODES, 101.0)
    assert store.questions == questions + 1
