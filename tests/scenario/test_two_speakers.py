"""Same plan, two speakers, same routes: every declared cluster run by our agents, by BIRD, and half and half.

What is compared are the kernels' routes and what the routers (FRR) received with all attributes: each run has
to come to what is written in the cluster's folder, and then all runs to the same.
"""

import os

import pytest

from tests.scenario.harness.declared import DeclaredCluster, all_clusters
from tests.scenario.harness.two_speakers import Run, Seen, Speaker
from tests.scenario.harness.world import World

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.peer("bird"),
    pytest.mark.peer("frr"),
    pytest.mark.timeout(400),
]

# An election needs leases that live; it is run in the election's own tests.
CLUSTERS = [cluster for cluster in all_clusters() if cluster.name != "elected"]
# Every cluster takes four runs of some seconds. These stand for the rest in an ordinary run of the tests;
# CAIRN_ALL_CLUSTERS=1 runs them all. The plans of all are compared always (test_declared).
USUAL = {"two-reflectors", "as-per-rack", "filters", "filters-ipv6", "protected"}
if os.environ.get("CAIRN_ALL_CLUSTERS") != "1":
    CLUSTERS = [cluster for cluster in CLUSTERS if cluster.name in USUAL]


def seen(cluster: DeclaredCluster, purpose: str, speakers: dict[str, Speaker]) -> Seen:
    with World(purpose) as world:
        run = Run(world, cluster, speakers)
        found = run.settle()
        if cluster.secrets.is_dir():  # one cluster, the one with most to say, stands for all
            run.check_exabgp()
        return found


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_agents_bird_and_a_mixture_come_to_the_same(cluster: DeclaredCluster) -> None:
    names = list(cluster.resources.nodes)
    runs = {
        "bird": dict.fromkeys(names, Speaker.BIRD),
        "cairn": dict.fromkeys(names, Speaker.CAIRN),
        "half": {name: Speaker.BIRD if number % 2 else Speaker.CAIRN for number, name in enumerate(names)},
    }
    results = {name: seen(cluster, name, speakers) for name, speakers in runs.items()}
    assert results["bird"] == results["cairn"]
    assert results["half"] == results["cairn"]


@pytest.mark.peer("bird1")
@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_bird_1_comes_to_what_is_written_too(cluster: DeclaredCluster) -> None:
    seen(cluster, "bird1", dict.fromkeys(cluster.resources.nodes, Speaker.BIRD1))
