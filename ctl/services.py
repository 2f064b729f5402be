"""The status interfaces of running agents and reflectors, as a client sees them (shapes:
`telemetry.documents`).

A location is `http://host:port` or `https://host:port`; without any, the two services' usual local ports
are asked. A token for interfaces that want one comes from CAIRN_TOKEN or the file CAIRN_TOKEN_FILE, so
that it does not show in a process list.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ctl.exits import ExitCode, Failure, usage

USUAL = {"agent": "http://127.0.0.1:9178", "reflector": "http://127.0.0.1:9179"}
LOCAL = tuple(USUAL.values())
_TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=3.0)
_HAS = {"status": "mode", "samples": "samples", "peers": "total", "routes": "total", "events": "last"}
_NO_SUCH = 404
Document = Mapping[str, Any]
AddressInfo = tuple[Any, Any, int, str, Any]


def token() -> str | None:
    """What an interface that wants a token is told: CAIRN_TOKEN, or what the file CAIRN_TOKEN_FILE holds."""
    if path := os.environ.get("CAIRN_TOKEN_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise usage(
                f"CAIRN_TOKEN_FILE {path} cannot be read: {error.strerror}", "name a readable file"
            ) from error
    return os.environ.get("CAIRN_TOKEN")


class Unreachable(Exception):  # noqa: N818  # a finding about a service as much as an error
    """A service gave no answer, or one that is none; the text says which and why."""


class Unanswering(Unreachable):
    """Somebody is there and does not answer in time, or a service that does not say what it is asked."""


class Refused(Unanswering):
    """A service answered that what it was told to do makes no sense to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one service said, or why it did not; `there`: although somebody is there."""

    location: str
    document: Document | None
    failure: str = ""
    there: bool = False


class Service:
    """One service's interface. Use as an asynchronous context manager."""

    def __init__(
        self,
        location: str,
        token: str | None = None,
        socket_factory: Callable[[AddressInfo], socket.socket] | None = None,
    ) -> None:
        try:
            parts = urlsplit(location)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets that do not match, a port that is none
            known = False
        if not known:
            raise usage(f"{location!r} is no status interface", "write http://HOST:PORT or https://HOST:PORT")
        self.location = location.rstrip("/")
        self._token = token
        self._socket_factory = socket_factory
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Service":
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connector = aiohttp.TCPConnector(socket_factory=self._socket_factory)
        self._session = aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, connector=connector)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, what: str, **query: str) -> Document:
        """GET /api/v1/<what>. Raises Unreachable."""
        return await self._request("GET", what, query)

    async def post(self, what: str, **query: str) -> Document:
        """POST /api/v1/<what>: what changes something. Raises Unreachable."""
        return await self._request("POST", what, query)

    async def _request(self, method: str, what: str, query: Mapping[str, str]) -> Document:
        assert self._session is not None, "use `async with`"
        try:
            url = f"{self.location}/api/v1/{what}"
            async with self._session.request(method, url, params=query) as response:
                document = await response.json()
                status = response.status
        except aiohttp.ClientSSLError as error:
            raise Unreachable(f"no TLS with {self.location} ({_distrust(error)})") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"nothing answers at {self.location} ({_reason(error.os_error)})") from error
        except TimeoutError as error:
            raise Unanswering(f"no answer from {self.location} in time") from error
        except (aiohttp.ClientError, ssl.SSLError, ValueError) as error:
            raise Unreachable(
                f"no usable answer from {self.location}: {str(error) or type(error).__name__}"
            ) from error
        if status != 200 or not isinstance(document, Mapping):
            said = document.get("error") if isinstance(document, Mapping) else None
            if said is None:
                raise Unreachable(f"{self.location} is no service of Cairn's: it answered {status}")
            raise (Refused if status == _NO_SUCH else Unanswering)(
                f"{self.location} answered {status}: {said}"
            )
        if (wanted := "node" if method == "POST" else _HAS.get(what)) and wanted not in document:
            raise Unreachable(f"{self.location} is no service of Cairn's: its answer has no {wanted!r}")
        return document


def _distrust(error: aiohttp.ClientSSLError) -> str:
    """Why there is no TLS: what is wrong with the certificate, or with the handshake."""
    why = error.__cause__
    return str(getattr(why, "verify_message", "") or getattr(why, "reason", "") or why)


def _reason(error: OSError) -> str:
    """Why there is no connection; asyncio's own text repeats the address."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


async def ask_all(locations: Sequence[str], what: str, **query: str) -> list[Answer]:
    """Ask several services the same at once; one that does not answer is an answer with its failure."""

    told = token()

    async def ask(location: str) -> Answer:
        try:
            async with Service(location, told) as service:
                return Answer(location, await service.get(what, **query))
        except Unreachable as error:
            return Answer(location, None, str(error), isinstance(error, Unanswering))

    return list(await asyncio.gather(*map(ask, locations)))


def answered(answers: Sequence[Answer], named: bool) -> tuple[list[Answer], list[Answer]]:
    """Those that answered and those that failed. Of the usual local two, not `named`, one that is not there
    is no failure.

    Raises a failure with exit code 3 if nobody answered.
    """
    good = [answer for answer in answers if answer.document is not None]
    bad = [answer for answer in answers if answer.document is None]
    if not good:
        raise Failure(
            ExitCode.UNREACHABLE,
            "no service answered: " + "; ".join(answer.failure for answer in bad),
            remedy="start it, or give --api with its address (and CAIRN_TOKEN if it wants one), or --node "
            "and --datastore to ask from afar",
        )
    return good, [answer for answer in bad if named or answer.there]
