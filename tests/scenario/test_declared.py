"""Every cluster that is kept as a folder: its plan and its routes are the ones written beside it."""

import pytest

from bgpd.resources import examine
from bgpd.resources.examination import errors_among
from tests.scenario.harness.declared import DeclaredCluster, all_clusters, plan_view, route_view

CLUSTERS = all_clusters()


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_the_plan_is_the_one_expected(cluster: DeclaredCluster) -> None:
    assert plan_view(cluster.resources) == cluster.expected("plan")


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_the_routes_are_the_ones_expected(cluster: DeclaredCluster) -> None:
    assert route_view(cluster.resources) == cluster.expected("routes")


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_nothing_is_wrong_between_its_resources(cluster: DeclaredCluster) -> None:
    assert errors_among(examine(cluster.resources)) == []


def test_the_clusters_are_there() -> None:
    assert len(CLUSTERS) >= 12
