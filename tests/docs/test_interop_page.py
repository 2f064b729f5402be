"""The committed interop page says what the matrix says."""

import runpy
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_interop_page_is_current() -> None:
    module = runpy.run_path(str(TOP / "docs" / "interop.py"))
    assert (TOP / "docs" / "interop.md").read_text() == module["page"](), (
        "run: .venv/bin/python docs/interop.py"
    )
