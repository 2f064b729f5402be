"""Compiled help: the codec and the RIB as machine code, made from the very same source.

``python -m bgpd.compiled`` has mypyc make them once, for one Python; from then on that Python imports the
compiled modules in place of the plain ones. Nothing else differs, and where no build was made everything is
plain Python.

A *build* is known by the digest of its sources and the Python it was made for. So one that is stale is never
run: who edits a module runs plain Python until it is compiled again. ``CAIRN_PLAIN=1`` asks for plain Python,
for debugging, coverage and comparison.

Left out: the making (`make`), which needs mypy and a C compiler where this needs nothing.
"""

import hashlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILDS: Final = Path(__file__).parent / "build"
SUFFIX: Final = EXTENSION_SUFFIXES[0]
GROUP: Final = "cairn"
LIBRARY: Final = f"{GROUP}__mypyc"
"""The library into which mypyc links all modules."""

PACKAGES: Final = ("bgpd.rib", "bgpd.session", "bgpd.wire")
SINGLE: Final = tuple(
    f"reflector.{module}"
    for module in (
        "admission", "core", "dialling", "entry", "groups", "journal", "link", "listening", "member", "pace",
        "prefix_limit", "server",
    )
)  # fmt: skip
"""Names alone: the core imports none of them."""


def source_of(module: str) -> Path:
    """The file, or the directory, that a module or package is written in."""
    path = ROOT / module.replace(".", "/")
    return path if path.is_dir() else path.with_suffix(".py")


def modules() -> list[str]:
    """What is compiled: the packages a route passes on its way, and what the reflector does per route and
    per session."""
    inside = [
        f"{package}.{file.stem}"
        for package in PACKAGES
        for file in sorted(source_of(package).glob("*.py"))
        if file.stem != "__init__"
    ]
    return [*inside, *SINGLE]


def build_directory() -> Path:
    """Where the build for these sources and this Python is, once it is made."""
    digest = hashlib.sha256()
    for module in modules():
        digest.update(module.encode())
        digest.update(source_of(module).read_bytes())
    return BUILDS / (digest.hexdigest()[:16] + SUFFIX)


class _Finder(MetaPathFinder):
    def __init__(self, build: Path) -> None:
        self._build = build
        self._names = frozenset((*modules(), LIBRARY))

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the shape of a finder
        target: ModuleType | None = None,  # noqa: ARG002 - as above
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        return spec_from_file_location(fullname, self._build / (fullname.replace(".", "/") + SUFFIX))


def prefer() -> None:
    """Have the modules imported from the build that fits, if there is one and it can be loaded."""
    if os.environ.get("CAIRN_PLAIN", "0") not in ("", "0"):
        return
    try:
        build = build_directory() if BUILDS.is_dir() else None
    except OSError:  # not all of the sources are here, so no build is known to be theirs
        build = None
    if build is None or not build.is_dir():
        return
    finder = _Finder(build)
    sys.meta_path.insert(0, finder)
    try:
        import_module(LIBRARY)
    except ImportError as error:
        sys.meta_path.remove(finder)
        warnings.warn(f"plain Python is run, for the compiled modules cannot be: {error}", stacklevel=3)


def in_use() -> bool:
    """Whether this process runs the compiled modules."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)
