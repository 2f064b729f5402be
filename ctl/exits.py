"""How the command fails: one exception, five exit codes, one way of saying it.

A failure says *what* went wrong, *where* (a file and line, a key, an address) and *what to do* about it.
The exit codes are part of the interface, for scripts and for the colleague on call:

    0  fine          1  degraded, or what was compared differs          2  the command line was wrong
    3  a datastore or service could not be reached                      4  something declared is invalid
"""

from enum import IntEnum
from typing import TextIO

from ctl.terminal import visible_lines


class ExitCode(IntEnum):
    """What the command leaves behind for `$?`."""

    OK = 0
    DIFFERS = 1
    USAGE = 2
    UNREACHABLE = 3
    INVALID = 4


class Failure(Exception):  # noqa: N818  # what a command ends in; it is caught once and printed
    """The command cannot go on. `what` is a sentence; `where` and `remedy` may be empty."""

    def __init__(self, code: ExitCode, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.remedy = remedy


def usage(what: str, remedy: str = "") -> Failure:
    """The command line asks for something that makes no sense."""
    return Failure(ExitCode.USAGE, what, remedy=remedy)


def report(failure: Failure, stream: TextIO) -> None:
    """Write a failure to `stream`, a line for each thing it has to say."""
    stream.write(f"cairn: {visible_lines(failure.what)}\n")
    if failure.where:
        stream.write(f"  where: {visible_lines(failure.where)}\n")
    if failure.remedy:
        stream.write(f"  to do: {visible_lines(failure.remedy)}\n")
