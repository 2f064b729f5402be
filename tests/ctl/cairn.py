"""`cairn` as a process, the way an operator runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_OURS = ("CAIRN_", "ETCD_", "DATASTORE_TYPE", "NO_COLOR", "FORCE_COLOR")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without anything that changes what the command does."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    return {**kept, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": str(ROOT), **(extra or {})}


def cairn(
    *words: str | Path, stdin: str = "", environment: Mapping[str, str] | None = None, timeout: float = 120.0
) -> Done:
    """Run `cairn` with these words to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "ctl", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=clean_environment(environment),
    )
    return Done(done.returncode, done.stdout, done.stderr)
