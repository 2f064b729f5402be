"""What happens when parts fail, in whole clusters and on a single node, with echoes through each fault."""

import os

import pytest

LONG = bool(os.environ.get("CAIRN_LONG_FAULTS"))
"""Whether every fault takes as long as it says (20 s of silence, 200 moves), not only as long as it must."""

long_only = pytest.mark.skipif(not LONG, reason="CAIRN_LONG_FAULTS is not set")

ON_THE_CLUSTER = [
    pytest.mark.scenario,
    *(pytest.mark.peer(name) for name in ("etcd", "mosquitto", "bird", "frr")),
    pytest.mark.timeout(900 if LONG else 240),
]
