"""Session passwords: what a ``secretKeyRef`` refers to, wherever this machine can find it.

Looked for in this order:

1. a file, ``<directory>/<name>/<key>``;
2. an environment variable, ``CAIRN_SECRET_<NAME>_<KEY>``: in capitals, every character but letters and digits
   written as ``_``;
3. an etcd key, ``/cairn/secrets/<name>/<key>``, if the declared state is in etcd.

The value is one line of 1 to 80 octets of UTF-8, which is what TCP MD5 (RFC 2385) takes on Linux; line ends
behind it do not count. No message has a value in it. Who gets none leaves the session down: there is no way
from here to a session without its password. What could be read once and no longer can (a file being replaced,
an etcd that does not answer) stays in force: its session goes on, and the reason is logged once.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from bgpd.datastore.errors import DatastoreError
from bgpd.datastore.store import Datastore
from bgpd.resources.keys import secret_key

MAX_OCTETS = 80
REREAD = 30.0  # seconds after which a value from etcd is asked for again
_log = logging.getLogger(__name__)
Ref = TypeVar("Ref", bound=tuple[str, str])


class SecretError(Exception):
    """A password that cannot be had, and where it was looked for."""


def variable_of(secret: tuple[str, str]) -> str:
    """Give the environment variable that may hold a secret: CAIRN_SECRET_BGP_SECRETS_RR_PASSWORD."""
    return "CAIRN_SECRET_" + re.sub(r"[^A-Za-z0-9]", "_", "_".join(secret)).upper()


class Secrets:
    """The passwords of this machine. A secret is a pair of its name and its key.

    ``read`` looks into files and the environment each time, and at what ``fetch`` last found in the store.
    """

    def __init__(
        self, directory: Path | None, environ: Mapping[str, str], store: Datastore | None = None
    ) -> None:
        self.directory = directory
        self._environ = environ
        self._store = store
        self._known: dict[tuple[str, str], str] = {}
        self._stored: dict[tuple[str, str], str] = {}
        self._asked: dict[tuple[str, str], float] = {}
        self._refusals: dict[tuple[str, str], str] = {}
        self._outdated: dict[tuple[str, str], str] = {}  # what is in force without being there → why, as said

    async def fetch(self, wanted: Iterable[tuple[str, str]], now: float) -> None:
        """Ask the store for those that are nowhere nearer: unknown ones, and others every ``REREAD`` s."""
        for secret in dict.fromkeys(wanted):
            asked = self._asked.get(secret)
            if self._store is None or _malformed(secret) or (asked is not None and now - asked < REREAD):
                continue
            if self._nearby(secret):
                continue
            self._asked[secret] = now
            self._refusals.pop(secret, None)
            try:
                found = await self._store.secret(*secret)
            except DatastoreError as error:
                self._refusals[secret] = str(error)
                continue
            if found is None:
                self._stored.pop(secret, None)
            else:
                self._stored[secret] = found

    def read(self, secret: tuple[str, str]) -> str:
        """Give a password. Raises SecretError when there never was one."""
        try:
            self._known[secret] = self._found(secret)
            self._outdated.pop(secret, None)
        except SecretError as error:
            if secret not in self._known:
                raise
            if self._outdated.get(secret) != (reason := str(error)):
                self._outdated[secret] = reason
                _log.warning("the password read before stays in force: %s", reason)
        return self._known[secret]

    def _found(self, secret: tuple[str, str]) -> str:
        if _malformed(secret):
            raise SecretError(f"secret {secret[0]!r}/{secret[1]!r} has a name that no file can have")
        path, variable = self._path(secret), variable_of(secret)
        found = self._file(secret)
        place = f"file {path}"
        if found is None and variable in self._environ:
            found, place = self._environ[variable], f"environment variable {variable}"
        if found is None and secret in self._stored:
            found, place = self._stored[secret], f"etcd key {secret_key(*secret)}"
        if found is None:
            etcd = self._refusals.get(secret, f"etcd has no key {secret_key(*secret)}")
            looked = [
                _no_file(path) if path is not None else "no directory of secrets is given",
                f"{variable} is not set",
                *([etcd] if self._store is not None and self._store.shared else []),
            ]
            raise SecretError(f"secret {'/'.join(secret)} is nowhere: {', '.join(looked)}")
        found = found.rstrip("\r\n")
        if not 0 < (size := len(found.encode("utf-8", "surrogateescape"))) <= MAX_OCTETS:
            raise SecretError(f"{place} has {size} octets; a password has 1 to {MAX_OCTETS}")
        return found

    def read_all(self, wanted: Iterable[Ref]) -> tuple[dict[Ref, str], dict[Ref, str]]:
        """Give the passwords that can be had, and for each of the others the reason."""
        found: dict[Ref, str] = {}
        missing: dict[Ref, str] = {}
        for secret in dict.fromkeys(wanted):
            try:
                found[secret] = self.read(secret)
            except SecretError as error:
                missing[secret] = str(error)
        return found, missing

    def _nearby(self, secret: tuple[str, str]) -> bool:
        """Whether the store need not be asked."""
        try:
            return variable_of(secret) in self._environ or self._file(secret) is not None
        except SecretError:
            return True

    def _path(self, secret: tuple[str, str]) -> Path | None:
        return self.directory / secret[0] / secret[1] if self.directory is not None else None

    def _file(self, secret: tuple[str, str]) -> str | None:
        """Give a file's content; ``None`` when there is none, or none for our user.

        Raises SecretError when it cannot be read.
        """
        path = self._path(secret)
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except UnicodeDecodeError as error:
            raise SecretError(f"file {path} is not UTF-8 text") from error
        except OSError as error:
            raise SecretError(f"file {path} cannot be read: {error.strerror}") from error


def _no_file(path: Path) -> str:
    try:
        path.open("rb").close()
    except PermissionError as error:
        return f"file {path} cannot be read: {error.strerror}"
    except OSError:
        pass
    return f"there is no file {path}"


def _malformed(secret: tuple[str, str]) -> bool:
    """Whether a part would lead elsewhere than to a file in the secret's own directory."""
    return any("/" in part or part in ("", ".", "..") or not part.isprintable() for part in secret)
