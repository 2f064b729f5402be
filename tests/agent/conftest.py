"""What agents are tested in: a cluster for whole ones, a bench for one speaker."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest
from pyroute2 import netns

from tests.agent.bench import Bench
from tests.agent.cluster import Cluster
from tests.agent.ground import (
    kill_exabgp,
    namespace,
    sh,
    short_directory,
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        names = {name: stack.enter_context(namespace(name)) for name in ("s", "a", "b", "t")}
        switch = names["s"]
        sh(f"ip -n {switch} link add name sw type bridge && ip -n {switch} link set sw up")
        for number, name in enumerate("abt", 1):
            inside = names[name]
            sh(f"ip -n {inside} link add eth0 type veth peer name {name}0 netns {switch}")
            sh(f"ip -n {switch} link set {name}0 master sw up && ip -n {inside} link set eth0 up")
            sh(f"ip -n {inside} addr add 10.0.0.{number}/24 dev eth0")
            sh(f"ip -n {inside} link add cali0 type veth peer name w0 && ip -n {inside} link set w0 up")
            sh(f"ip -n {inside} link set cali0 up")
        made = Cluster(directory, names)
        try:
            yield made
        finally:
            made.bird.stop(signal.SIGKILL)
            for node in (made.a, made.b):
                node.stop(signal.SIGKILL)
                for run in node.run.glob("*"):
                    kill_exabgp(run)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with short_directory() as directory:
        made = Bench(directory)
        made.bird.start()
        try:
            yield made
        finally:
            made.bird.stop(signal.SIGKILL)
            kill_exabgp(made.run)


@pytest.fixture
def ground() -> Iterator[str]:
    """A namespace with two links to nowhere, in which this thread is for the test's time."""
    with namespace("fib") as name:
        for n in (0, 1):
            sh(f"ip -n {name} link add e{n} type veth peer name p{n}")
            sh(f"ip -n {name} link set e{n} up && ip -n {name} link set p{n} up")
            sh(f"ip -n {name} addr add 10.0.{n}.1/24 dev e{n}")
            sh(f"ip -n {name} -6 addr add 2001:db8:{n}::1/64 dev e{n} nodad")
        netns.pushns(name)
        try:
            yield name
        finally:
            netns.popns()
