"""The generated pages say what the code says, and the manual pages are manual pages."""

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module() -> dict[str, Any]:
    return runpy.run_path(str(TOP / "docs" / "reference.py"))


def test_the_reference_is_current(module: dict[str, Any]) -> None:
    for name, text in module["pages"]().items():
        path = TOP / "docs" / name
        assert path.exists(), f"{name}: run .venv/bin/python docs/reference.py"
        assert path.read_text() == text, f"{name}: run .venv/bin/python docs/reference.py"


def test_what_the_services_measure_is_found(module: dict[str, Any]) -> None:
    samples = module["own_samples"]()
    assert samples["cairn_kernel_writes_total"][0] == "counter"
    assert samples["cairn_kernel_refused"][0] == "gauge"
    assert samples["cairn_received_to_wire_seconds"][0] == "histogram"
    labels = {name: samples[f"cairn_{name}"][1] for name in ("rejected_routes", "kernel_blocked", "in_sync")}
    assert labels == {"rejected_routes": "reason", "kernel_blocked": "family", "in_sync": ""}
    kinds = module["event_kinds"]()
    assert {"session.up", "session.down", "agent.in-sync", "paths.over_limit", "prefixes.near_limit"} <= kinds


def test_types_are_told_in_words(module: dict[str, Any]) -> None:
    for name, text in module["pages"]().items():
        if name.endswith(".md"):
            assert "<class" not in text, name
            assert "AwareDatetime" not in text, name
    assert "| `missing` | list of text |" in module["mqtt"]()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_manual_pages_are_set_without_complaint(module: dict[str, Any]) -> None:
    for name, text in module["manual"]().items():
        done = subprocess.run(
            ["groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z"],
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        assert done.stderr == b"", name
