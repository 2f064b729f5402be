"""The making of a build: mypyc translates the modules to C, the C compiler does the rest. Takes a minute."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from bgpd.compiled import BUILDS, ROOT, SUFFIX, build_directory


class CompileError(Exception):
    """It cannot be compiled here. The message says why, and the remedy."""


def make() -> Path:
    """The directory of the build for these sources and this Python, made unless it is there.

    Stale builds for this Python are removed; a process that runs one keeps what it has loaded.
    """
    build = build_directory()
    if build.is_dir():
        return build
    _check()
    try:
        BUILDS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILDS, prefix="making-") as work:
            _compile(Path(work))
            with contextlib.suppress(OSError):  # another made the same meanwhile
                (Path(work) / "made").rename(build)
    except OSError as error:
        raise CompileError(
            f"{error.filename or BUILDS}: {error.strerror}; a build needs some 50 MB there"
        ) from error
    for other in BUILDS.glob(f"*{SUFFIX}"):
        if other != build:
            shutil.rmtree(other, ignore_errors=True)
    return build


def _check() -> None:
    """Raise for what is missing, before a minute is spent."""
    if sys.implementation.name != "cpython":
        raise CompileError(
            f"mypyc compiles for CPython, and this is {sys.implementation.name}; stay with plain Python"
        )
    for module in ("mypyc", "setuptools"):
        if find_spec(module) is None:
            raise CompileError(f"{module} is missing in {sys.executable}; install locks/compile.txt")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(os.environ.get("CC", compiler)) is None:
        raise CompileError(f"there is no C compiler ({compiler}); on Debian: apt install gcc libc6-dev")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        version = "python{}.{}-dev".format(*sys.version_info)
        raise CompileError(f"the headers of this Python are missing; on Debian: apt install {version}")


def _compile(work: Path) -> None:
    # From a copy, for mypy takes no sources that lie among installed packages.
    for package in ("bgpd", "reflector"):
        leave = shutil.ignore_patterns(BUILDS.name, "__pycache__")
        shutil.copytree(ROOT / package, work / "source" / package, ignore=leave)
    command = [sys.executable, "-m", "bgpd.compiled.setup", f"{work}/c", "build_ext"]
    command += ["--build-lib", f"{work}/made", "--build-temp", f"{work}/objects"]
    done = subprocess.run(
        command,
        cwd=work / "source",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-20:])
        raise CompileError(
            f"compiling failed, plain Python is run as before; the last of what was said:\n{said}"
        )
