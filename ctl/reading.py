"""Whether a service of this machine's can read its own files: root that looks can read them all.

systemd knows as whom it runs a service: the reflector as a user of its own that is in no group, the agent as
root without root's right to the files of others. They are read as that user, so whatever decides counts.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from glob import escape, glob
from pathlib import Path

from agent.config import AgentConfig
from bgpd.telemetry.config import ConfigError, Model
from ctl.checks import Finding, Verdict
from reflector import config as reflector

_REFLECTORS = Path("/etc/cairn/reflector.yaml")
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user")))
_NAMED = re.compile(r"^\s*ETCD_(?:CA_CERT|CERT|KEY)_FILE=[\"']?(/[^\"'\n]+)", re.MULTILINE)
_NOBODY = 65534


def of_services(config: AgentConfig, path: Path) -> Iterator[Finding]:
    """What the services cannot read of what is there. `path` is the agent's configuration."""
    if os.geteuid() != 0 or not shutil.which("systemctl") or not shutil.which("setpriv"):
        return
    passwords = map(Path, glob(f"{escape(str(config.secrets.directory))}/*/*"))  # noqa: PTH207  as below
    yield from _of_service("cairn-agent", (path, *_named(config), *passwords))
    try:
        named = _named(reflector.load(_REFLECTORS))
    except ConfigError:
        return
    yield from _of_service("cairn-reflector", (_REFLECTORS, *named))


def _named(model: Model) -> Iterator[Path]:
    """The files that a configuration names."""
    for field in type(model).model_fields:
        value = getattr(model, field)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Model):
                yield from _named(each)
            elif isinstance(each, Path):
                yield each


def _of_service(unit: str, files: Iterable[Path]) -> Iterator[Finding]:
    shown = subprocess.run(["systemctl", "show", unit], capture_output=True, text=True, check=False).stdout
    known = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    identity = _identity(known)
    if known.get("LoadState") != "loaded" or identity is None:
        return
    there = [path for path in dict.fromkeys((*files, *_of_environment(shown))) if os.path.isfile(path)]  # noqa: PTH113  and none where nobody may look
    refused = [f"{path}: {why}" for path in there if (why := _refusal(path, known, identity))]
    check = f"files of {unit}"
    if refused:
        remedy = "chown or chmod them or the folders they are in, or put them elsewhere; then restart it"
        yield Finding(check, Verdict.BAD, f"it cannot read {'; '.join(refused)}", remedy)
    elif there:
        yield Finding(check, Verdict.GOOD, f"{len(there)}, all of which it can read")


def _identity(known: dict[str, str]) -> list[str] | None:
    """As whom `setpriv` is to read; None where that can read everything, or cannot be told."""
    plain = ["--bounding-set=-all", "--inh-caps=-all"]
    user = known.get("User", "")
    if known.get("DynamicUser") == "yes":
        return [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *plain]
    if user not in ("", "root", "0"):
        try:
            found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            return None
        return [f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--init-groups", *plain]
    return (
        None if "cap_dac_" in known.get("CapabilityBoundingSet", "cap_dac_") else ["--clear-groups", *plain]
    )


def _of_environment(shown: str) -> Iterator[Path]:
    """The files named in those that systemd reads the environment from."""
    for place in re.findall(r"^EnvironmentFiles=(\S+)", shown, re.MULTILINE):
        try:
            yield from map(Path, _NAMED.findall(Path(place).read_text()))
        except (OSError, UnicodeDecodeError):
            continue


def _refusal(path: Path, known: dict[str, str], identity: list[str]) -> str:
    if known.get("ProtectHome") == "yes" and any(map(path.absolute().is_relative_to, _HIDDEN)):
        return "hidden from it (ProtectHome)"
    words = ["setpriv", *identity, "cat", "--", str(path)]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return done.stderr.strip().rpartition(": ")[2] if done.returncode else ""
