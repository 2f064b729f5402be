"""The work: what each contender is asked to do, and the figures it yields.

A case runs on a freshly started daemon, one contender at a time. Sessions are opened
`IN_FLIGHT` at a time (the daemons' listen backlogs are short; the burst has a case of its
own), everything is timed by the load generator, and after every step all clients' sets
are compared bit by bit with what is due. Any difference, lost session, foreign prefix or
altered attribute fails the case for that contender.

In the churn the clients acknowledge at once (TCP_QUICKACK): BIRD's sockets use Nagle's
algorithm, and with delayed acknowledgements its latency would be the kernel's 40 ms timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.figures import Figure
from bench.reflector.generator import Answer

IN_FLIGHT = 4
TIMES = "\N{MULTIPLICATION SIGN}"
SETTLE = 1.0
CHURN_RATE = 100
DEFAULT_ASN = 65000


class Trial(Protocol):
    """What a case's script may do with one running contender."""

    def step(self, command: str, timeout: float) -> Answer:
        """Run a generator command; ends the trial if it fails."""

    def verify(self) -> None:
        """Compare every client's set exactly; ends the trial if one differs."""

    def memory(self) -> float:
        """Peak memory of the device so far, MB."""

    def record(self, figure: str, value: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of work. `options` go to the load generator; `easier` names a case that a contender
    must have done in reasonable time to be given this one."""

    name: str
    options: tuple[str, ...]
    figures: tuple[Figure, ...]
    script: Callable[[Trial], None]
    easier: str | None = None
    asn: int = DEFAULT_ASN


@dataclass(frozen=True, slots=True)
class Bars:
    """Ratios to the best rival, or a limit in seconds."""

    bar: float | None = None
    hope: float | None = None
    limit: float | None = None


def cluster(
    clients: int,
    prefixes: int,
    *,
    announce: Bars,
    joins: int = 0,
    changes: int = 0,
    reconnect: bool = False,
    timeout: float = 60.0,
    easier: str | None = None,
    prefix: str = "",
) -> Case:
    """`clients` nodes with `prefixes` blocks each, all announced in one burst once all are connected.

    `joins` more nodes join one after another, `changes` single changes follow at 100 a second, and at
    last all drop and reconnect.
    """
    work = f"{clients} {TIMES} {prefixes}"
    tag = f"{prefix}{clients}x{prefixes}"
    figures = [
        Figure(f"announce-{tag}", f"announce {work}", "s", announce.bar, announce.hope, announce.limit),
        Figure(f"memory-{tag}", f"  peak memory {work}", "MB"),
        Figure(f"cpu-{tag}", f"  CPU per delivered prefix {work}", "µs"),
    ]
    if clients == 1000:
        figures[1].bar, figures[1].against = 1.0, "second"
        figures[2].bar = 0.5
    if joins:
        figures.append(Figure(f"join-{tag}", f"one client joins {work}", "s", bar=0.33, hope=0.1))
        figures.append(Figure(f"joiner-{tag}", "  until the joiner alone is complete", "s"))
    if changes:
        figures.append(Figure(f"churn-p99-{clients}", f"churn at {clients}, p99", "ms", bar=1.2, hope=0.8))
        figures.append(Figure(f"churn-p50-{clients}", f"  churn at {clients}, p50", "ms"))
    if reconnect:
        figures.append(
            Figure(f"reconnect-{clients}", f"{clients} drop and reconnect", "s", bar=0.5, hope=0.25)
        )

    def script(trial: Trial) -> None:
        trial.step(f"open 0 {clients} {IN_FLIGHT} 0 {timeout}", timeout)
        trial.step(f"idle {SETTLE}", SETTLE)
        done = trial.step(f"announce 0 {clients} {timeout}", timeout)
        trial.verify()
        trial.record(f"announce-{tag}", done.seconds)
        trial.record(f"memory-{tag}", trial.memory())
        trial.record(f"cpu-{tag}", done["cpu"] / done["delivered"] * 1e6)
        for _ in range(joins):
            trial.step("idle 0.5", 0.5)
            done = trial.step(f"open {clients} 1 1 1 {timeout}", timeout)
            trial.verify()
            trial.record(f"join-{tag}", done.seconds)
            trial.record(f"joiner-{tag}", done["first_exact"])
            trial.step(f"close {clients} 1 {timeout}", timeout)
        if changes:
            trial.step("idle 0.5", 0.5)
            duration = changes / CHURN_RATE + 20
            done = trial.step(f"churn {CHURN_RATE} {changes} {duration}", duration)
            trial.verify()
            trial.record(f"churn-p99-{clients}", done["p99"] * 1e3)
            trial.record(f"churn-p50-{clients}", done["p50"] * 1e3)
        if reconnect:
            trial.step("idle 0.5", 0.5)
            done = trial.step(f"cycle 0 {clients} {IN_FLIGHT} {timeout}", timeout)
            trial.verify()
            trial.record(f"reconnect-{clients}", done.seconds)

    options = ["--speakers", str(clients + (joins > 0)), "--prefixes", str(prefixes), "--quickack"]
    if clients > 1000:
        options += ["--buffer", str(1 << 18)]
    return Case(f"{prefix}cluster-{clients}x{prefixes}", tuple(options), tuple(figures), script, easier)


def burst(clients: int, timeout: float = 100.0) -> Case:
    """All clients connect in the same instant."""
    figure = Figure(f"burst-{clients}", f"{clients} connect in one burst", "s")

    def script(trial: Trial) -> None:
        done = trial.step(f"open 0 {clients} {clients} 0 {timeout}", timeout)
        trial.record(figure.name, done["connected"])

    return Case(f"burst-{clients}", ("--speakers", str(clients), "--prefixes", "1"), (figure,), script)


def full_table(
    prefixes: int,
    receivers: int,
    *,
    bar: float | None,
    hope: float | None,
    timeout: float = 60.0,
    easier: str | None = None,
) -> Case:
    """One client announces a full table, about one attribute set per 6 prefixes, and goes."""
    tag = f"{prefixes}-{receivers}"
    work = f"{prefixes:,} prefixes to {receivers}"
    figures = (
        Figure(f"table-{tag}", work, "s", bar=bar, hope=hope),
        Figure(f"table-memory-{tag}", "  peak memory", "MB", bar=2.0, hope=1.0, against="bird"),
        Figure(f"table-cpu-{tag}", "  CPU per delivered prefix", "µs", bar=0.5),
        Figure(f"table-gone-{tag}", "  its sender goes, all withdrawn", "s"),
    )

    def script(trial: Trial) -> None:
        trial.step(f"open 0 {receivers + 1} {IN_FLIGHT} 0 {timeout}", timeout)
        trial.step(f"idle {SETTLE}", SETTLE)
        done = trial.step(f"announce 0 1 {timeout}", timeout)
        trial.verify()
        trial.record(figures[0].name, done.seconds)
        trial.record(figures[1].name, trial.memory())
        trial.record(figures[2].name, done["cpu"] / done["delivered"] * 1e6)
        trial.step("idle 0.5", 0.5)
        done = trial.step(f"close 0 1 {timeout}", timeout)
        trial.verify()
        trial.record(figures[3].name, done.seconds)

    options = (
        "--mode",
        "table",
        "--speakers",
        str(receivers + 1),
        "--prefixes",
        str(prefixes),
        "--group",
        "6",
    )
    return Case(f"table-{tag}", (*options, "--buffer", str(4 << 20)), figures, script, easier)


def replay(
    stream: Path, dump: Callable[[], Path], senders: int, asn: int, receivers: int = 10, timeout: float = 60.0
) -> Case:
    """Recorded paths of many senders for the same prefixes: the decision process at work.

    `stream` is the generator's file, `dump()` names where the routes of the first receiver are written
    after each trial. Ends when nothing has changed for a second; timed to the last change.
    """
    figures = (
        Figure("replay", f"real load, {senders} senders to {receivers}", "s", bar=1.0, hope=0.5),
        Figure("replay-memory", "  peak memory", "MB"),
    )

    def script(trial: Trial) -> None:
        trial.step(f"open 0 {senders + receivers} {IN_FLIGHT} 0 {timeout}", timeout)
        trial.step(f"idle {SETTLE}", SETTLE)
        done = trial.step(f"play 1.0 {timeout}", timeout)
        trial.record("replay", done.seconds)
        trial.record("replay-memory", trial.memory())
        trial.step(f"dump {dump()}", timeout)

    options = ("--mode", "stream", "--stream", str(stream), "--senders", str(senders), "--asn", str(asn))
    return Case("replay", (*options, "--speakers", str(senders + receivers)), figures, script, asn=asn)


def standard() -> list[Case]:
    """The work of the published figures, without the replay (which needs a corpus)."""
    third = Bars(0.33, 0.15)
    return [
        cluster(200, 4, announce=third, changes=500, reconnect=True, timeout=30),
        cluster(500, 4, announce=third, timeout=40, easier="cluster-200x4"),
        cluster(1000, 10, announce=third, joins=3, changes=500, reconnect=True, easier="cluster-500x4"),
        cluster(2000, 5, announce=Bars(limit=2.0), easier="cluster-500x4"),
        burst(200),
        full_table(500_000, 2, bar=0.9, hope=0.5),
        full_table(500_000, 10, bar=0.33, hope=0.15, easier="table-500000-2"),
    ]


def quick() -> list[Case]:
    """A minute's worth, to see that everything works."""
    return [
        cluster(200, 4, announce=Bars(), changes=100, reconnect=True, timeout=20),
        full_table(60_000, 2, bar=None, hope=None, timeout=20),
    ]


SCALE = (
    (100, 4),
    (200, 4),
    (500, 4),
    (500, 10),
    (1000, 10),
    (1000, 20),
    (2000, 10),
    (2000, 20),
    (5000, 10),
    (5000, 20),
)


def scale() -> list[Case]:
    """How the time of `announce` grows with clients and prefixes."""
    cases: list[Case] = []
    for clients, prefixes in SCALE:
        previous = cases[-1].name if cases else None
        cases.append(
            cluster(clients, prefixes, announce=Bars(), timeout=90, easier=previous, prefix="scale-")
        )
    return cases
