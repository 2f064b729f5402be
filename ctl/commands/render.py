"""`cairn render`: a node's plan as the configuration of another BGP speaker, on standard output.

Passwords are looked for where the agent looks (`bgpd.datastore.secrets`), files in `--secrets`. A session
whose password is nowhere is left to what the renderer does with an unknown one, and a warning names it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from agent.config import ExaBGP
from agent.config import Secrets as SecretsPlace
from agent.sessions import configurations
from bgpd.datastore import Secrets
from bgpd.plan import NodePlan, Peering, SecretRef
from bgpd.render import BirdOptions, RenderError, bird_files
from bgpd.render.routers import router_text
from bgpd.render.tor import Vendor, router, routers_in
from bgpd.resources import Selector, SelectorError
from ctl import options, state
from ctl.commands.plan import planned
from ctl.exits import ExitCode, Failure, usage

app = typer.Typer(help="Plans as configuration: BIRD, ExaBGP, top-of-rack routers.", no_args_is_help=True)
_RUN_DIRECTORY = ExaBGP().run_directory
NodeName = Annotated[str, typer.Option("--node", help="Name of the node.", show_default=False)]
AcceptDefault = Annotated[
    bool,
    typer.Option("--accept-default", help="Take a default route from a peer (the agent's acceptDefault)."),
]
Transit = Annotated[
    bool, typer.Option("--transit", help="Pass learned routes on to other peers, as Calico's nodes do.")
]
SecretsDirectory = Annotated[
    Path, typer.Option("--secrets", metavar="DIR", help="Directory of passwords: <secret>/<key>.")
]
SECRETS = SecretsPlace().directory


class BirdVersion(StrEnum):
    """Versions whose configuration languages differ."""

    ONE = "1"
    TWO = "2"


class BirdFamily(StrEnum):
    """BIRD 1 has a daemon, and a file, for each."""

    FOUR = "4"
    SIX = "6"


class BirdRole(StrEnum):
    """What the machine does: a reflector announces nothing of its own and leaves the kernel alone."""

    NODE = "node"
    REFLECTOR = "reflector"


@app.command(epilog="Example: cairn render bird --node node-1 > /etc/bird/bird.conf")
def bird(
    node: NodeName,
    version: Annotated[BirdVersion, typer.Option("--version", help="Of BIRD; 1 is 1.6.")] = BirdVersion.TWO,
    family: Annotated[
        BirdFamily, typer.Option("--family", help="For BIRD 1: bird.conf (4) or bird6.conf (6).")
    ] = BirdFamily.FOUR,
    role: Annotated[BirdRole, typer.Option("--role", help="What the machine is.")] = BirdRole.NODE,
    transit: Transit = False,
    accept_default: AcceptDefault = False,
    secrets: SecretsDirectory = SECRETS,
    datastore: options.Datastore = None,
) -> None:
    """A complete, commented bird.conf."""
    plan = planned(state.to_be_planned(datastore, node), node)
    passwords = _passwords(plan.peerings, secrets, datastore)
    bird_options = BirdOptions(
        reflector=role is BirdRole.REFLECTOR, transit=transit, accept_default=accept_default
    )
    name = "bird6.conf" if version is BirdVersion.ONE and family is BirdFamily.SIX else "bird.conf"
    _print(lambda: bird_files(plan, int(version), passwords, bird_options)[name])


@app.command(epilog="Example: cairn render exabgp --node node-1")
def exabgp(
    node: NodeName,
    process: Annotated[
        str | None, typer.Option("--process", help="One of the processes alone.", show_default=False)
    ] = None,
    run_directory: Annotated[
        Path, typer.Option("--run-directory", help="The agent's exabgp.runDirectory.")
    ] = _RUN_DIRECTORY,
    secrets: SecretsDirectory = SECRETS,
    datastore: options.Datastore = None,
) -> None:
    """The ExaBGP configurations that the agent of a node runs: each as it is, below a line with its path."""
    plan: NodePlan = planned(state.to_be_planned(datastore, node), node)
    found = configurations(plan, _passwords(plan.peerings, secrets, datastore), run_directory)
    if process is not None and process not in found:
        known = ", ".join(sorted(found)) or "none"
        raise usage(f"--process {process}: the agent of {node} has no such process", f"it has: {known}")
    for name, (text, _) in sorted(found.items()):
        if isinstance(text, RenderError):
            raise Failure(ExitCode.INVALID, str(text)) from text
        if process is None:
            print(f"# ---- {run_directory / name / 'exabgp.conf'}")
        if process in (None, name):
            print(text, end="")


@app.command(epilog="Example: cairn render tor --vendor frr --rack rack=r1")
def tor(
    vendor: Annotated[Vendor, typer.Option("--vendor", help="The router's make.", show_default=False)],
    rack: Annotated[
        str,
        typer.Option(
            "--rack", metavar="LABEL", show_default=False, help="The rack's nodes: KEY=VALUE, or a selector."
        ),
    ],
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="ADDRESS", help="The router's address, if the rack has several."),
    ] = None,
    secrets: SecretsDirectory = SECRETS,
    datastore: options.Datastore = None,
) -> None:
    """The other side of a rack's sessions: what its top-of-rack router has to be told."""
    resources = state.to_be_planned(datastore)
    selector = _rack(rack)
    names = [name for name, node in resources.nodes.items() if selector.matches(node.labels)]
    if not names:
        raise Failure(ExitCode.INVALID, f"no Node is in rack {rack}", remedy="check the nodes' labels")
    plans = [planned(resources, name) for name in names]
    addresses = _addresses(plans, peer or [])
    facing = [p for plan in plans for p in plan.peerings if p.peer_address in addresses]
    passwords = _passwords(facing, secrets, datastore)
    _print(lambda: router_text(router(plans, addresses, passwords), vendor))


def _rack(text: str) -> Selector:
    key, equals, value = text.partition("=")
    plain = equals and "=" not in value and not set(text) & set("!'\"(){}&| ")
    try:
        return Selector.parse(f"{key} == '{value}'" if plain else text)
    except SelectorError as error:
        raise usage(f"--rack {text}: {error}", "write rack=r1, or a selector such as has(rack)") from None


def _addresses(plans: Sequence[NodePlan], wanted: Sequence[str]) -> list[IPv4Address | IPv6Address]:
    """The router's addresses: those asked for, or the only ones (one of each family, in one AS)."""
    try:
        asked = [ip_address(text) for text in wanted]
    except ValueError as error:
        raise usage(f"--peer: {error}") from None
    known = routers_in(plans)
    if not asked:
        versions = [address.version for address in known]
        if not known:
            raise Failure(ExitCode.INVALID, "no node of this rack peers with an address outside the cluster")
        if len(set(versions)) < len(versions) or len(set().union(*known.values())) > 1:
            told = ", ".join(f"{address} (AS {', '.join(map(str, asn))})" for address, asn in known.items())
            raise usage(
                f"the rack's nodes peer with several routers: {told}", "give --peer with one's address"
            )
        asked = list(known)
    return asked


def _passwords(peerings: Sequence[Peering], directory: Path, location: str | None) -> Mapping[SecretRef, str]:
    if not any(peering.password for peering in peerings):
        return {}

    async def read() -> Mapping[SecretRef, str]:
        async with state.opened(location) as store:
            found, missing = await read_passwords(peerings, Secrets(directory, os.environ, store))
            for reason in missing:
                sys.stderr.write(f"cairn: {reason}\n")
            return found

    return state.run(read())


async def read_passwords(
    peerings: Iterable[Peering], secrets: Secrets
) -> tuple[Mapping[SecretRef, str], list[str]]:
    """The passwords that can be had, and for each session without its own what an operator must know."""
    peerings = [peering for peering in peerings if peering.password is not None]
    wanted = [peering.password for peering in peerings if peering.password is not None]
    await secrets.fetch(wanted, monotonic())
    found, missing = secrets.read_all(wanted)
    return found, [
        f"the session with {peering.peer_address} stays down: {missing[peering.password]}"
        for peering in peerings
        if peering.password in missing
    ]


def _print(render: Callable[[], str]) -> None:
    try:
        text = render()
    except RenderError as error:
        raise Failure(ExitCode.INVALID, str(error)) from error
    print(text, end="")
