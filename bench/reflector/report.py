"""One bench run from options to table, JSON and charts."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import chart, machine
from bench.figures import Figure, dump, to_text
from bench.reflector import cases, corpus
from bench.reflector.contenders import RIVALS, Contender, cairn
from bench.reflector.generator import GeneratorError, build
from bench.reflector.tournament import Tournament, say, versions
from bgpd import compiled


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line. `only`: beginnings of case names; `rivals`: None is all."""

    what: str
    only: tuple[str, ...]
    rivals: tuple[str, ...] | None
    with_cairn: bool
    quick: bool
    repeat: int
    json: Path | None
    charts: Path | None
    debian_root: Path | None


@dataclass(slots=True)
class Dumps:
    """Where the routes seen by a receiver go, one file per trial of the replay."""

    directory: Path
    files: list[Path]

    def next(self) -> Path:
        self.files.append(self.directory / f"routes-{len(self.files)}")
        return self.files[-1]


def select_contenders(options: Options) -> list[Contender]:
    """Raises ValueError for an unknown name."""
    everyone = [name for name in RIVALS if name != "plain" or compiled.in_use()]
    names = everyone if options.rivals is None else [name for name in options.rivals if name != "none"]
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise ValueError(f"no rival named {', '.join(unknown)}; there are {', '.join(RIVALS)}")
    root = options.debian_root or Path("/")
    return [*([cairn()] if options.with_cairn else []), *(RIVALS[name](root) for name in names)]


def select_cases(
    options: Options, stream: Path, dumps: Dumps, environ: Mapping[str, str]
) -> list[cases.Case]:
    """The cases asked for; the scaling series only by name, the replay only where its corpus is."""
    found = cases.quick() if options.quick else cases.standard()
    path = corpus.find(environ)
    if path is None:
        say("bench: no corpus (set CAIRN_CORPORA): the recorded load is left out")
    elif not options.quick and _wanted("replay", options.only):
        load = corpus.load(path)
        stream.write_bytes(load.encode())
        found.append(cases.replay(stream, dumps.next, len(load.senders), load.spare_asn()))
    if any(word.startswith("scale") for word in options.only):
        found += cases.scale()
    found = [case for case in found if _wanted(case.name, options.only)]
    if not found:
        raise ValueError(f"no case begins with {' or '.join(options.only)}")
    return found


def _wanted(name: str, only: tuple[str, ...]) -> bool:
    return not only or any(name.startswith(word) for word in only)


def run(options: Options, environ: Mapping[str, str]) -> int:
    """Run inside the namespaces; the exit status."""
    with tempfile.TemporaryDirectory(dir="/run") as scratch:
        dumps = Dumps(Path(scratch), [])
        try:
            contenders = select_contenders(options)
            chosen = select_cases(options, Path(scratch) / "stream", dumps, environ)
            build()
        except (ValueError, GeneratorError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        tournament = Tournament(chosen, contenders, options.repeat)
        status = 0
        try:
            tournament.run()
        except KeyboardInterrupt:
            say("bench: interrupted; this is what there is")
            status = 130
        figures = tournament.figures()
        about = versions(contenders)
        print(
            to_text(
                figures,
                {c.name: f"{c.title} {about.get(c.name, {}).get('version', '')}".strip() for c in contenders},
            )
        )
        for text in about.values():
            print(f"{text['title']}: {text['settings']}")
        agreement = compare(dumps.files)
        if agreement:
            print(f"recorded load, best routes of the trials compared: {agreement}")
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(dump(to_report(figures, about, options.repeat, agreement)))
        if options.charts:
            draw(figures, {c.name: c.title for c in contenders}, options.charts)
    return status


def to_report(
    figures: list[Figure], contenders: Mapping[str, dict[str, str]], repetitions: int, agreement: str
) -> dict[str, Any]:
    return {
        "machine": machine.describe(),
        "repetitions": repetitions,
        "contenders": dict(contenders),
        "agreement": agreement,
        "figures": [figure.to_json() for figure in figures],
    }


def compare(files: list[Path]) -> str:
    """How far the trials' best routes (prefix, announcer, attributes) agree with the commonest result."""
    tables = [frozenset(path.read_text().splitlines()) for path in files if path.exists()]
    if not tables:
        return ""
    ((reference, count),) = Counter(tables).most_common(1)
    differing = sorted({len(table - reference) for table in tables if table != reference})
    rest = f"; the others differ in {', '.join(map(str, differing))} routes" if differing else ""
    return f"{count} of {len(tables)} trials gave the same {len(reference):,} routes{rest}"


def draw(figures: list[Figure], titles: Mapping[str, str], directory: Path) -> None:
    """bars.svg from the figures with a bar or limit, scaling.svg from the scale series."""
    directory.mkdir(parents=True, exist_ok=True)
    shown = [f for f in figures if f.unit == "s" and (f.bar is not None or f.limit is not None)]
    if shown:
        svg = chart.bars(
            "Seconds until the last client has everything",
            [(f.title, {name: m for name in titles if (m := f.median(name)) is not None}) for f in shown],
            titles,
        )
        (directory / "reflector.svg").write_text(svg)
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        if figure.name.startswith("announce-scale-"):
            clients, prefixes = map(int, figure.name.rpartition("-")[2].split("x"))
            for name in titles:
                value = figure.median(name)
                if value is not None:
                    lines.setdefault(name, []).append((float(clients * (clients - 1) * prefixes), value))
    if lines:
        svg = chart.lines(
            "All announce at once: time against work",
            "prefixes delivered, all clients together",
            "seconds",
            {name: sorted(points) for name, points in lines.items()},
            titles,
        )
        (directory / "reflector-scaling.svg").write_text(svg)
