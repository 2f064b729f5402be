"""The coverage-guided fuzzer, for a bounded number of inputs; how to let it run for long is in `guided`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = int(os.environ.get("CAIRN_FUZZ_EXAMPLES", "400"))
RUNS = {"update": EXAMPLES, "open": 10 * EXAMPLES, "session": 2 * EXAMPLES}

pytestmark = [
    pytest.mark.timeout(max(240, EXAMPLES)),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 alone"
    ),
]


@pytest.mark.parametrize("target", RUNS)
def test_what_the_fuzzer_finds_harms_nobody(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(tmp_path / "inputs")]
    command += [f"-runs={RUNS[target]}", f"-artifact_prefix={tmp_path}/", "-seed=1"]
    command += ["-reload=0"]  # else a slow machine runs some inputs twice
    top = Path(__file__).resolve().parents[2]
    plain = {**os.environ, "CAIRN_PLAIN": "1"}  # what it is guided by is seen in plain Python only
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=top, env=plain)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert f"Done {RUNS[target]} runs" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    coverage = [
        int(line.partition("cov: ")[2].split()[0]) for line in done.stderr.splitlines() if "cov: " in line
    ]
    assert coverage[-1] > coverage[0], "it found its way no further than it began"
