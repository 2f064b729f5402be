"""One run of the agent's bench, from options to table, JSON and chart."""

from __future__ import annotations

import asyncio
import copy
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import chart, machine
from bench.agent import cases
from bench.agent.cases import Case, Results
from bench.agent.contenders import BirdNode, CairnNode, Node
from bench.agent.ground import Ground, GroundError
from bench.agent.kernel import KernelError
from bench.figures import Figure, dump, to_text
from bgpd.datastore import DatastoreError
from ctl.lab.netns import Namespace

NODES: dict[str, Callable[[Ground, Namespace, int], Node]] = {"cairn": CairnNode, "bird": BirdNode}
TITLES = {"cairn": "Cairn", "bird": "BIRD 2"}


@dataclass(frozen=True, slots=True)
class Options:
    """`only`: beginnings of case names; `rivals`: None is all."""

    only: tuple[str, ...]
    rivals: tuple[str, ...] | None
    with_cairn: bool
    quick: bool
    repeat: int
    json: Path | None
    charts: Path | None


def run(options: Options) -> int:
    """Run inside the namespaces; the exit status."""
    found = cases.quick() if options.quick else cases.standard()
    chosen = [case for case in found if not options.only or case.name.startswith(options.only)]
    rivals = ["bird"] if options.rivals is None else [name for name in options.rivals if name in NODES]
    contenders = [*(["cairn"] if options.with_cairn else []), *rivals]
    if not chosen:
        print(f"bench: no case begins with {' or '.join(options.only)}", file=sys.stderr)
        return 2
    figures = {figure.name: copy.deepcopy(figure) for case in chosen for figure in case.figures}
    with tempfile.TemporaryDirectory(dir="/run", prefix="agent-") as scratch:
        asyncio.run(_all(chosen, contenders, options.repeat, Path(scratch), figures))
    print(to_text(figures.values(), {name: TITLES[name] for name in contenders}))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = {
            "machine": machine.describe(),
            "repetitions": options.repeat,
            "figures": [figure.to_json() for figure in figures.values()],
        }
        options.json.write_text(dump(report))
    if options.charts:
        options.charts.mkdir(parents=True, exist_ok=True)
        (options.charts / "agent.svg").write_text(draw(list(figures.values())))
    return 0


def draw(figures: Sequence[Figure]) -> str:
    """Bars of what was measured of both, in seconds. Raises ValueError where nothing was."""
    scale = {"s": 1.0, "ms": 1e-3}
    groups = []
    for figure in figures:
        values = {
            name: median * scale[figure.unit]
            for name in TITLES
            if figure.unit in scale and (median := figure.median(name)) is not None
        }
        if len(values) == len(TITLES):
            groups.append((figure.name.replace("-", " "), values))
    return chart.bars("A node's routes: seconds until they are in the kernel", groups, TITLES)


async def _all(
    chosen: Sequence[Case],
    contenders: list[str],
    repetitions: int,
    scratch: Path,
    figures: dict[str, Figure],
) -> None:
    for case in chosen:
        for repetition in range(repetitions):
            for name in (
                contenders[repetition % len(contenders) :] + contenders[: repetition % len(contenders)]
            ):
                if name != "cairn" and not case.rivals:
                    continue
                directory = scratch / f"{case.name}-{repetition}-{name}"
                directory.mkdir()
                print(f"{case.name}: {TITLES[name]} ...", file=sys.stderr, flush=True)
                try:
                    results = await _one(case, name, directory)
                except (GroundError, KernelError, OSError, DatastoreError) as error:
                    for figure in case.figures:
                        figures[figure.name].fail(name, str(error))
                    print(f"{case.name}: {TITLES[name]}: {error}", file=sys.stderr, flush=True)
                    continue
                for key, value in results.items():
                    figures[key].add(name, value)
                said = ", ".join(f"{key} {value:.4g} {figures[key].unit}" for key, value in results.items())
                print(f"{case.name}: {TITLES[name]}: {said}", file=sys.stderr, flush=True)


async def _one(case: Case, name: str, directory: Path) -> Results:
    with Ground(directory) as ground:
        await ground.serve()

        def make(host: str, number: int) -> Node:
            return NODES[name](ground, ground.node(host, number), number)

        try:
            return await case.run(ground, make)
        except (GroundError, KernelError, OSError, DatastoreError):
            for program in ground.programs:
                print(f"  {program.name}: {program.tail()}", file=sys.stderr)
            raise
        finally:
            if ground.store is not None:
                await ground.store.close()
