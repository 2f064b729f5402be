"""Rules for all tests: what is not installed skips a test with the reason, and fails it where CI=true.

`./run test` runs the tests in several processes side by side, each file of tests in one of them. Where it is
allowed (root), each process has a network namespace of its own, also if there is but one (`-n 0`): an address
or port on the loopback that one test uses is no other's. Nothing reaches a network outside, then.
"""

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from shutil import which

import pytest
from hypothesis import HealthCheck, settings

from bgpd import compiled
from ctl.lab import netns
from tests.bird1 import PROGRAMS as BIRD1

# No test asserts timings: a busy machine must not fail an example for the time it took.
settings.register_profile("cairn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cairn")

PEERS = {
    "bird": ("bird", "birdc"),
    "bird1": tuple(str(BIRD1 / program) for program in ("bird", "bird6", "birdc")),
    "compiler": ("cc",),
    "etcd": ("etcd", "etcdctl"),
    "frr": ("/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "vtysh"),
    "gobgp": ("gobgpd", "gobgp"),
    "mosquitto": ("mosquitto", "mosquitto_sub"),
    "prometheus": ("prometheus", "promtool"),
    "openbgpd": ("/usr/sbin/bgpd", "bgpctl"),
}
"""The programs a test may ask for with ``@pytest.mark.peer(name)``; each comes as several files."""


_CLONE_NEWNET = 0x40000000  # os.unshare is there from Python 3.12 on


def pytest_configure(config: pytest.Config) -> None:
    """Give a process that runs tests a loopback of its own; daemons in there can write no route out here.

    And what it starts hears Ctrl-C, also where these tests do not: a shell's background jobs ignore it. It
    starts from bytecode, as an installed service does.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None):
        netns.unavailable()  # makes /run/netns, before several want to make it at the same time
    elif ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What mostly waits for daemons comes first, so that nothing long is left for the end."""
    items.sort(key=lambda item: item.get_closest_marker("scenario") is None)


def _missing(item: pytest.Item) -> str | None:
    """Why this machine cannot run a test; None if it can."""
    wanted = {name for mark in item.iter_markers("peer") for name in mark.args}
    if item.get_closest_marker("etcd") is not None:
        wanted.add("etcd")
    for name in sorted(wanted):
        for program in PEERS[name]:
            if which(program) is None and not Path(program).is_file():
                return f"{name} is not installed ({program} is missing); `./run test` brings it on Debian"
    if item.get_closest_marker("scenario") is not None:
        return netns.unavailable()
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of a test: is what it is marked for here?"""
    if compiled.in_use() and item.get_closest_marker("plain") is not None:
        pytest.skip("looks inside plain Python; tests/compiled runs it so")
    reason = _missing(item)
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"with CI=true nothing may be missing: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real and hostile BGP input, which is not part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "corpora"
    folder = Path(os.environ.get("CAIRN_CORPORA") or beside)
    if not (folder / "malformed.tsv").is_file():
        pytest.skip(f"no corpora in {folder}; CAIRN_CORPORA can name the folder that holds malformed.tsv")
    return folder
