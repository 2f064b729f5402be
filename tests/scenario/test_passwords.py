"""An agent's session password from an etcd key: real etcd, real TCP MD5 (BIRD on the other side)."""

import sys
import time
from collections.abc import Iterator

import pytest

from tests.scenario.harness.cairn import Agent
from tests.scenario.harness.lone import SESSIONS, Lone, bird_configuration, lone_node

pytestmark = [
    pytest.mark.scenario,
    *(pytest.mark.peer(name) for name in ("etcd", "bird")),
    pytest.mark.timeout(240),
]
KEY = "/cairn/secrets/bgp/tor"


class Asking(Agent):
    """An agent that asks etcd for its passwords every two seconds instead of every half minute."""

    command = (
        sys.executable,
        "-c",
        "from bgpd.datastore import secrets; secrets.REREAD = 1.0; from ctl.main import main; main()",
    )


@pytest.fixture
def place() -> Iterator[Lone]:
    with lone_node() as made:
        yield made


def test_an_agent_takes_its_password_from_etcd(place: Lone) -> None:
    """Missing it is not tried unprotected; put and changed, sessions come up; removed, they stay."""
    world = place.world
    etcd = place.start_etcd()
    place.declare(password={"secretKeyRef": {"name": "bgp", "key": "tor"}})
    agent = place.agent = Asking(place.node, place.configuration())
    world.wait_until(
        "a word on the key", lambda: agent.said("a session cannot be set up", f"no key {KEY}"), 60
    )
    assert not any(place.bird.sessions().values())

    for password in ("erster", "zweiter"):
        place.bird.configure(bird_configuration(password=password))
        world.wait_equal("sessions", place.bird.sessions, dict.fromkeys(SESSIONS, False), 60)
        etcd.put({KEY: password})
        place.expect()

    before = place.bird.since()
    etcd.delete(KEY)
    time.sleep(5.0)  # it is asked for more than once; nothing may come of it
    assert place.bird.sessions() == SESSIONS
    assert place.bird.since() == before
    text = agent.program.log.read_text()
    assert "erster" not in text
    assert "zweiter" not in text
