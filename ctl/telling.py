"""Telling a running service what to do, by its status interface.

What it needs for that is loaded only then: what runs a service shall not carry what only speaks to one.
"""

from collections.abc import Sequence
from importlib import import_module

import typer

from ctl.exits import ExitCode, Failure, usage


def tell(locations: Sequence[str] | None, service: str, what: str, done: str, **query: str) -> None:
    """Have each do `what` and say that it is `done`. Without locations it is this machine's `service`.

    Raises Failure if one of them is another service, before any is told something; and at the first that
    cannot be reached or refuses.
    """
    services = import_module("ctl.services")
    run = import_module("ctl.state").run
    asked = locations or (services.USUAL[service],)

    async def look(location: str) -> str:
        async with services.Service(location, services.token()) as interface:
            return str((await interface.get("status")).get("service"))

    async def post(location: str) -> str:
        async with services.Service(location, services.token()) as interface:
            return str((await interface.post(what, **query))["node"])

    try:
        for location in asked:
            if (found := run(look(location))) != service:
                raise usage(
                    f"{location} is no {service} but a service called {found!r}; nothing was done",
                    f"give --api with the {service}'s own address; CAIRN_API counts as --api",
                )
        for location in asked:
            typer.echo(f"{run(post(location))}: {done}")
    except services.Refused as error:
        raise usage(str(error), "`cairn peers` lists those it has") from error
    except services.Unreachable as error:
        raise Failure(
            ExitCode.UNREACHABLE,
            str(error),
            remedy="start it, with an `http:` block; elsewhere: --api, and CAIRN_TOKEN if it wants one",
        ) from error
