"""The units by systemd's own judgement, the installer in a folder, and what the package carries."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
UNITS = sorted((TOP / "configs/systemd").glob("*.service"))
INSTALL = TOP / "configs/systemd/install.sh"
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
EXPOSURE = {"cairn-agent": 4.5, "cairn-reflector": 4.0}


@needs_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_has_nothing_to_say_of_the_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text().replace("/opt/cairn/.venv/bin/cairn", sys.executable)
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, [])


@needs_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_is_not_exposed_more_than_it_must(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", unit], capture_output=True, text=True, check=True
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE[unit.stem]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_notifies_is_watched_and_reloads(unit: Path) -> None:
    lines = set(unit.read_text().splitlines())
    assert {"Type=notify", "WatchdogSec=30", "ExecReload=/bin/kill -HUP $MAINPID"} <= lines
    assert {"Restart=always", "StartLimitIntervalSec=0"} <= lines  # and for as long as it takes
    assert "OOMScoreAdjust=-900" in lines
    assert any(line.startswith("CapabilityBoundingSet=CAP_") for line in lines)
    assert ("KillMode=process" in lines) == (unit.stem == "cairn-agent")


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([INSTALL, *arguments], capture_output=True, text=True, check=False)


def test_rollback_swaps_and_remove_leaves_the_configuration(tmp_path: Path) -> None:
    home = tmp_path / "opt/cairn"
    (home / "releases/new").mkdir(parents=True)
    (home / "releases/old").mkdir()
    (home / ".venv").symlink_to("/opt/cairn/releases/new")
    (home / "previous").write_text("/opt/cairn/releases/old\n")
    (tmp_path / "etc/cairn").mkdir(parents=True)
    (tmp_path / "etc/cairn/agent.yaml").write_text("node: mine\n")
    for release in ("old", "new", "old"):
        done = script("--rollback", "--root", tmp_path)
        assert done.returncode == 0, done.stderr
        assert (home / ".venv").readlink() == Path("/opt/cairn/releases") / release
    shutil.rmtree(home / "releases/new")
    assert script("--rollback", "--root", tmp_path).returncode == 1
    assert (home / ".venv").readlink() == Path("/opt/cairn/releases/old")
    assert script("--remove", "--root", tmp_path).returncode == 0
    assert not home.exists()
    assert (tmp_path / "etc/cairn/agent.yaml").read_text() == "node: mine\n"


def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path) -> None:
    assert script("--rollback", "--root", tmp_path).returncode == 1
    assert script("--what").returncode == 2
    done = script("--agent", "--root", tmp_path, "--python", "/bin/false")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert list(tmp_path.iterdir()) == []


PYTHON = """\
#!/bin/sh
case $* in
    *"-m venv"*) mkdir -p "$3/bin"; ln -s "$0" "$3/bin/python"; ln -s /bin/true "$3/bin/cairn" ;;
    *base_prefix*) echo /usr ;;
esac
"""


def test_a_full_disk_leaves_the_release_that_was_there(tmp_path: Path) -> None:
    python, root = tmp_path / "python", tmp_path / "root"
    python.write_text(PYTHON)
    python.chmod(0o755)
    arguments = ("--agent", "--root", root, "--python", python)
    done = script(*arguments)
    assert done.returncode == 0, done.stderr
    home, unit = root / "opt/cairn", root / "etc/systemd/system/cairn-agent.service"
    before = unit.read_text()
    [release] = (home / "releases").iterdir()
    another = release.rename(release.with_name("another"))  # not of this very second
    (home / ".venv").unlink()
    (home / ".venv").symlink_to("/opt/cairn/releases/another")
    words = ["prlimit", "--fsize=1024", *map(str, (INSTALL, *arguments))]
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0
    assert (home / ".venv").readlink() == Path("/opt/cairn/releases/another")
    assert unit.read_text() == before
    assert list((home / "releases").iterdir()) == [another]
    assert not (home / "previous").exists()


def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=TOP,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {path.name for path in (TOP / "bgpd/telemetry/web").iterdir()}
    assert len(files) == 5
    assert {f"bgpd/telemetry/web/{name}" for name in files} <= names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
