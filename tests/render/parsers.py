"""The real parsers: BIRD 2 as installed, BIRD 1.6 from Debian's package `bird` (kept outside the project),
ExaBGP.

BIRD 2 and 1.6 cannot be installed side by side (both are /usr/sbin/bird), so 1.6 is unpacked into a cache.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest


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


@cache
def bird1(program: str) -> str | None:
    """Give the path of BIRD 1.6's ``bird`` or ``bird6``, fetching the package once if apt can."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cairn-tests"
    path = home / "bird16" / "usr" / "sbin" / program
    if not path.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as work:
            subprocess.run(["apt-get", "download", "-qq", "bird"], cwd=work, capture_output=True, check=False)
            packages = list(Path(work).glob("bird_1.6*.deb"))
            if packages:
                unpacked = Path(work) / "bird16"
                subprocess.run(
                    ["dpkg", "-x", str(packages[0]), str(unpacked)], capture_output=True, check=True
                )
                if not path.exists():
                    shutil.rmtree(home / "bird16", ignore_errors=True)
                    unpacked.rename(home / "bird16")
    return str(path) if path.exists() else None


def needs(path: str | None, what: str) -> str:
    """Give ``path``, or skip the test (fail it where CI says that every peer must be there)."""
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing")
        pytest.skip(f"{what} is missing")
    return path


def check_bird(text: str, version: int = 2, family: int = 4) -> Verdict:
    """Ask the real BIRD whether it takes a configuration."""
    if version == 2:
        program = needs(bird2(), "BIRD 2 (Debian package bird2)")
    else:
        program = needs(bird1("bird" if family == 4 else "bird6"), "BIRD 1.6 (Debian package bird)")
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
