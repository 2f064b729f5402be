"""What `cairn status` finds wrong."""

import pytest

from ctl.cluster import Cluster, Service, findings

WELL = {"healthy": True, "ready": True, "reason": "", "mode": "running"}


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ({}, []),
        ({"kernel_blocked": 0.0, "kernel_refused": 0.0}, []),
        ({"kernel_blocked": 3.0}, ["agent on n1: routes in whose place another program has one: 3"]),
        ({"kernel_refused": 1200.0}, ["agent on n1: routes that the kernel refuses: 1200"]),
    ],
)
def test_routes_that_are_not_in_the_kernel_are_wrong(numbers: dict[str, float], wrong: list[str]) -> None:
    agent = Service("agent", "n1", "http://127.0.0.1:9178", WELL, numbers=numbers)
    assert [each.what for each in findings(Cluster((agent,)))] == wrong
