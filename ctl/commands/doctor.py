"""`cairn doctor`: looks at this machine as a node, and gives a remedy with every finding. Changes nothing."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from ctl import options, state
from ctl.exits import ExitCode, Failure
from ctl.lab import netns
from ctl.output import Column, Format, Listing, show

_EXABGP_FIRST, _EXABGP_AFTER = (5, 0, 15), (6,)
_SYSCTL = Path("/proc/sys/net")


class Verdict(StrEnum):
    """What a check found."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, the verdict, what was seen, and what to do if that is not well."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def command(
    port: Annotated[int, typer.Option("--port", help="The BGP port that should be free.")] = 179,
    output: options.Output = Format.TABLE,
    datastore: options.Datastore = None,
) -> None:
    """Check this machine: ExaBGP, kernel settings, port, datastore, leftovers. Exit 1 at a problem."""
    found = [*examine(port), *_of_datastore(datastore)]
    styles = {Verdict.GOOD.value: "green", Verdict.NOTE.value: "yellow", Verdict.BAD.value: "bold red"}
    columns = (Column("CHECK"), Column("VERDICT", styles=styles), Column("SEEN"), Column("TO DO"))
    rows = [(finding.check, finding.verdict.value, finding.seen, finding.remedy) for finding in found]
    documents = [{"check": f.check, "verdict": f.verdict, "seen": f.seen, "remedy": f.remedy} for f in found]
    show(Listing(columns, rows, {"findings": documents}), output)
    if any(finding.verdict is Verdict.BAD for finding in found):
        raise typer.Exit(ExitCode.DIFFERS)


def examine(port: int) -> Iterator[Finding]:
    """Everything about the machine itself."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("python", _verdict(good), version, "" if good else "use Python 3.11 or newer")
    yield _exabgp()
    root = os.geteuid() == 0
    yield Finding(
        "privileges",
        Verdict.GOOD if root else Verdict.NOTE,
        "root" if root else f"user {os.geteuid()}",
        "" if root else "the agent needs CAP_NET_ADMIN to write routes, CAP_NET_BIND_SERVICE for port 179",
    )
    yield from _sysctls()
    yield _port(port)
    for program, package in (("ip", "iproute2"),):
        there = shutil.which(program)
        yield Finding(
            program, _verdict(there is not None), there or "missing", "" if there else f"install {package}"
        )
    left = [lab for lab in netns.labs() if not netns.owner_alive(lab)]
    yield Finding(
        "leftovers",
        Verdict.NOTE if left else Verdict.GOOD,
        ", ".join(left) or "none",
        "run `cairn lab`: it cleans up after labs that were killed" if left else "",
    )


def _verdict(good: bool) -> Verdict:
    return Verdict.GOOD if good else Verdict.BAD


def _exabgp() -> Finding:
    try:
        text = metadata.version("exabgp")
    except metadata.PackageNotFoundError:
        return Finding("exabgp", Verdict.BAD, "missing", "install exabgp >= 5.0.15, < 6")
    version = tuple(int(part) for part in text.split(".") if part.isdecimal())
    good = _EXABGP_FIRST <= version < _EXABGP_AFTER
    return Finding("exabgp", _verdict(good), text, "" if good else "install exabgp >= 5.0.15, < 6")


def _sysctls() -> Iterator[Finding]:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        setting = f"net.{name.replace('/', '.')}"
        value = _read(name)
        if value == "1":
            yield Finding(setting, Verdict.GOOD, value)
        else:
            severity = Verdict.BAD if name.startswith("ipv4") else Verdict.NOTE
            yield Finding(
                setting, severity, value, f"sysctl -w {setting}=1, or packets to workloads stop here"
            )
    value = _read("ipv4/conf/all/rp_filter")
    strict = value == "1"
    yield Finding(
        "net.ipv4.conf.all.rp_filter",
        Verdict.NOTE if strict else Verdict.GOOD,
        value,
        "strict filtering drops packets of asymmetric paths: sysctl -w net.ipv4.conf.all.rp_filter=2"
        if strict
        else "",
    )


def _read(name: str) -> str:
    try:
        return (_SYSCTL / name).read_text().strip()
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _port(port: int) -> Finding:
    check = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError:
            return Finding(check, Verdict.NOTE, "only for root", "the service needs CAP_NET_BIND_SERVICE")
        except OSError as error:
            text = error.strerror or str(error)
            return Finding(
                check, Verdict.BAD, text, f"another BGP speaker? `ss -tlnp sport = :{port}` names it"
            )
    return Finding(check, Verdict.GOOD, "free")


def _of_datastore(location: str | None) -> list[Finding]:
    if location is None:
        return []
    try:
        count = len(state.declared(location))
    except Failure as failure:
        return [Finding("datastore", Verdict.BAD, failure.what, failure.remedy)]
    return [Finding("datastore", Verdict.GOOD, f"{count} resources at {location}")]
