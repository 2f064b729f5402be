"""The committed page says what the tests say."""

import runpy
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_rfc_coverage_is_current() -> None:
    module = runpy.run_path(str(TOP / "docs" / "rfc_coverage.py"))
    assert (TOP / "docs" / "rfc-coverage.md").read_text() == module["page"](), (
        "run: .venv/bin/python docs/rfc_coverage.py"
    )
