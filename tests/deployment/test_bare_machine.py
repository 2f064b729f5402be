"""The installer's page on a bare Debian, made for it: everything is fetched.

Not for every day: it takes minutes and reaches package registries, so it runs only with CAIRN_FETCHES=1,
where debootstrap is. How registries are reached (names, certificates, apt's and pip's settings) is this
machine's.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.ground import needs_root
from tests.docs.commands import TOP, commands

CODENAME = "bookworm"
WAY_OUT = (
    "etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/apt/apt.conf.d", "usr/local/share/ca-certificates",
)  # fmt: skip
OUTSIDE = ("nsenter", f"--net=/proc/{os.getppid()}/ns/net")  # a process that runs tests has one of its own
ENTER = 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"'
INSIDE = 'cd /opt/source && exec "$@"'
ENVIRONMENT = {
    "HOME": "/nohome",
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
}

pytestmark = [
    needs_root,
    pytest.mark.skipif("CAIRN_FETCHES" not in os.environ, reason="CAIRN_FETCHES is not set"),
    pytest.mark.timeout(1200),
]


class Bare:
    """A Debian with nothing in it but this project's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        subprocess.run(
            [*OUTSIDE, "debootstrap", "--variant=minbase", CODENAME, root],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for name in WAY_OUT:
            here, there = Path("/") / name, root / name
            there.parent.mkdir(parents=True, exist_ok=True)
            if here.is_dir():
                shutil.copytree(here, there, dirs_exist_ok=True)
            elif here.exists():
                shutil.copy(here, there)
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True
        ).stdout
        for file in filter(None, listed.split("\0")):
            copy = root / "opt/source" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / file, copy)

    def __call__(self, *words: str) -> str:
        """What a command says, run by root in the project's folder."""
        done = subprocess.run(
            [*OUTSIDE, "unshare", "-m", "sh", "-euc", ENTER, "sh", self.root,
             "sh", "-euc", INSIDE, "sh", *words],
            env=ENVIRONMENT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    yield Bare(tmp_path / "debian")
    shutil.rmtree(tmp_path / "debian")


def test_a_bare_machine_by_the_page(bare: Bare) -> None:
    tools, agent, compiler, reflector = (
        ["configs/systemd/install.sh", *words[1:]] if words[0] == "install.sh" else words
        for words in commands("test_a_bare_machine_by_the_page", "docs/operations/*")
    )
    bare("apt", "update")
    bare(*tools, "--yes")
    bare(*agent)
    assert "compiled" not in (version := bare("cairn", "--version"))
    assert version.startswith("cairn")
    assert (bare.root / "etc/systemd/system/cairn-agent.service").exists()
    assert "agent.yaml" in bare("ls", "/etc/cairn")
    bare(*compiler, "--yes")
    bare(*reflector)
    assert "compiled" in bare("cairn", "--version")
    bare("cairn", "doctor", "--help")
    for other in (False, True):
        bare("configs/systemd/install.sh", "--rollback")
        assert ("compiled" in bare("cairn", "--version")) == other
    bare("configs/systemd/install.sh", "--remove")
    assert not (bare.root / "opt/cairn").exists()
    assert (bare.root / "etc/cairn/agent.yaml").exists()
