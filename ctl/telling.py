"""Telling a running service what to do, by its status interface.

Loaded only when it is needed: what runs a reflector shall not carry what only speaks to one.
"""

import os
from collections.abc import Iterator, Sequence

from ctl.exits import ExitCode, Failure
from ctl.services import REFLECTOR, Service, Unreachable
from ctl.state import run


def tell(locations: Sequence[str] | None, what: str, query: dict[str, str]) -> Iterator[str]:
    """Have each service do it (without any: this machine's reflector), with the token from CAIRN_TOKEN.

    Yields the name of each that did; raises Failure at the first that cannot be reached.
    """
    for location in locations or (REFLECTOR,):
        try:
            yield run(_post(location, what, query))
        except Unreachable as error:
            raise Failure(ExitCode.UNREACHABLE, str(error)) from error


async def _post(location: str, what: str, query: dict[str, str]) -> str:
    async with Service(location, os.environ.get("CAIRN_TOKEN")) as service:
        return str((await service.post(what, **query))["node"])
