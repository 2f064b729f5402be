"""Making a build where it cannot be made, and what a build that no longer fits is worth: nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bgpd.compiled import LIBRARY, SUFFIX

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources alone, without a build."""
    for package in ("bgpd", "reflector"):
        leave = shutil.ignore_patterns("build", "__pycache__")
        shutil.copytree(TOP / package, tmp_path / package, ignore=leave)
    return tmp_path


def python(place: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place, env={**os.environ, "PYTHONPATH": str(place), **environ},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def where(place: Path, **environ: str) -> str:
    done = python(place, "-c", "import bgpd.wire.nlri as m; print(m.__file__)", **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_build_it_is_plain_python(copy: Path) -> None:
    assert where(copy) == str(copy / "bgpd/wire/nlri.py")


def test_a_build_is_looked_at_until_a_source_changes_and_must_be_loadable(copy: Path) -> None:
    asked = "from bgpd import compiled; print(compiled.build_directory())"
    build = Path(python(copy, "-c", asked).stdout.strip())
    build.mkdir(parents=True)
    (build / f"{LIBRARY}{SUFFIX}").write_bytes(b"no library")
    done = python(copy, "-c", "import bgpd.wire.nlri as m; print(m.__file__)")
    assert done.stdout.strip() == str(copy / "bgpd/wire/nlri.py")
    assert "plain Python is run, for the compiled modules cannot be" in done.stderr
    asked_for = python(copy, "-c", "import bgpd", CAIRN_PLAIN="1")
    assert (asked_for.returncode, asked_for.stderr) == (0, "")
    with (copy / "bgpd/rib/path.py").open("a") as file:
        file.write("# changed\n")
    changed = python(copy, "-c", "import bgpd")
    assert (changed.returncode, changed.stderr) == (0, "")
    (copy / "reflector/core.py").unlink()  # an agent alone was copied
    in_part = python(copy, "-c", "import bgpd")
    assert (in_part.returncode, in_part.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [
        ({"CC": "no-such-compiler"}, "apt install gcc libc6-dev"),
        ({"CC": "false"}, "plain Python is run as before"),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(copy: Path, environ: dict[str, str], remedy: str) -> None:
    done = python(copy, "-m", "bgpd.compiled", **environ)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot compile: ")
    assert remedy in done.stderr
    assert [*(copy / "bgpd/compiled").glob("build/*")] == [], "what was not finished leaves nothing"
    assert where(copy) == str(copy / "bgpd/wire/nlri.py")
