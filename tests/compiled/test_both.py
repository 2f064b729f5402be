"""The core is tested in both forms: as compiled in this run, where it is, and here as plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bgpd import compiled

TOP = Path(__file__).resolve().parents[2]
FOLDERS = ("fuzz", "reflector", "rib", "session", "wire")


def python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=TOP, env={**inherited, **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_core_as_plain_python(folder: str) -> None:
    if not compiled.in_use():
        pytest.skip("nothing is compiled here, so this whole run is plain Python")
    alone = ("-m", "plain or not (etcd or peer)")  # what others do is no matter of its form
    done = python("-m", "pytest", "-q", "-n", "0", *alone, f"tests/{folder}", CAIRN_PLAIN="1")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.peer("compiler")
def test_the_test_run_has_compiled_modules() -> None:
    """`./run test` makes them; who runs pytest by hand after a change runs plain Python, which is fine."""
    if os.environ.get("CI") != "true" and not compiled.in_use():
        pytest.skip("not compiled since the last change: python -m bgpd.compiled")
    assert compiled.in_use()


def test_every_module_comes_from_the_build() -> None:
    if not compiled.in_use():
        pytest.skip("nothing is compiled here")
    listing = "import bgpd, importlib; from bgpd import compiled as c\n"
    listing += "for name in c.modules(): print(importlib.import_module(name).__file__)"
    files = python("-c", listing).stdout.split()
    assert len(files) == len(compiled.modules())
    assert all(Path(file).is_relative_to(compiled.build_directory()) for file in files)
    plain = python("-c", listing, CAIRN_PLAIN="1").stdout.split()
    assert [Path(file).suffix for file in plain] == [".py"] * len(files)
