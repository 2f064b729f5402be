"""A small tournament with a real daemon: every client's set is exact, nothing stays behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.namespace import INSIDE


@pytest.mark.peer("bird", "compiler")
@pytest.mark.scenario
def test_bird_does_the_quick_work_exactly(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = [
        "reflector",
        "--quick",
        "--without-cairn",
        "--rivals",
        "bird",
        "--json",
        str(out),
        "--charts",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280, check=False,
        env={key: value for key, value in os.environ.items() if key != INSIDE},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["figures"]
    for figure in report["figures"]:  # a set that is not exact would be a failure with its reason
        assert figure["failures"] == {}
        assert len(figure["values"]["bird"]) == 1
    assert report["contenders"]["bird"]["version"].count(".") >= 1
    assert "announce 200" in done.stdout


@pytest.mark.scenario
def test_an_unknown_rival_is_one_clear_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "reflector", "--rivals", "quagga"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no rival named quagga; there are plain, bird, frr, openbgpd, gobgp" in done.stderr
