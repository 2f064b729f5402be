"""The cluster that the tests of this folder share; each leaves it exact."""

from collections.abc import Iterator

import pytest

from tests.scenario.harness.cluster import Cluster
from tests.scenario.harness.topology import NODES
from tests.scenario.harness.workload import Workload
from tests.scenario.harness.world import World


@pytest.fixture(scope="package")
def running() -> Iterator[Cluster]:
    with World("cluster") as world:
        cluster = Cluster(world)
        for number, node in enumerate(NODES, 1):
            cluster.add(Workload(world, f"w{number}", f"10.244.{number}.5", f"fd00:244:0:{number}::5"), node)
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The cluster, all sessions up and every table exact."""
    if running.broken:
        pytest.fail("an earlier test left the cluster in a state it did not recover from", pytrace=False)
    running.broken = True
    running.expect_sessions()
    running.expect_exact()
    running.broken = False
    return running
