"""The real parsers: BIRD 2 as installed, BIRD 1.6 as `./run test` has unpacked it, ExaBGP."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache

import pytest

from tests.bird1 import PROGRAMS


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    message: str


@cache
def bird2() -> str | None:
    """Give the path of a BIRD 2, if there is one."""
    found = shutil.which("bird", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return found if "version 2." in version.stdout + version.stderr else None


def needs(path: str | None, what: str) -> str:
    """Give ``path``, or skip the test (fail it where CI says that every peer must be there)."""
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing; `./run test` brings it on Debian")
        pytest.skip(f"{what} is missing; `./run test` brings it on Debian")
    return path


def check_bird(text: str, version: int = 2, family: int = 4) -> Verdict:
    """Ask the real BIRD whether it takes a configuration."""
    if version == 2:
        program = needs(bird2(), "BIRD 2 (Debian package bird2)")
    else:
        program = needs(shutil.which("bird" if family == 4 else "bird6", path=PROGRAMS), "BIRD 1.6")
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([program, "-p", "-c", file.name], capture_output=True, text=True, check=False)
    return Verdict(done.returncode == 0, done.stderr + done.stdout)


def check_exabgp(text: str) -> Verdict:
    """Ask the real ExaBGP whether it takes a configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        command = [sys.executable, "-m", "exabgp", "validate", "-v", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Verdict(done.returncode == 0, done.stderr + done.stdout)
