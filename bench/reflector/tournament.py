"""Runs the cases: every contender, interleaved, several times, nothing left behind.

Repetition by repetition the contenders take turns (in rotating order, so that none always
follows the same one), each on a fresh daemon with a fresh generator. A contender that
misses the first figure of a case is not asked again for it, nor for the harder ones of the
same kind; neither for these if it took more than `TOO_SLOW` seconds.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence

from bench.figures import Figure
from bench.reflector.cases import Case
from bench.reflector.contenders import PORT, Contender
from bench.reflector.device import Device, DeviceError
from bench.reflector.generator import Answer, Generator, GeneratorError

TOO_SLOW = 10.0


class TrialError(Exception):
    """The contender did not do the work; the text says how."""


class LiveTrial:
    """One contender doing one case once (`bench.reflector.cases.Trial`)."""

    def __init__(self, device: Device, generator: Generator, series: list[tuple[str, float]]) -> None:
        self._device = device
        self._generator = generator
        self._series = series

    def step(self, command: str, timeout: float) -> Answer:
        answer = self._generator.command(command, timeout)
        if not answer.ok:
            ended = "" if self._device.alive() else f"; the daemon ended: {self._device.output()}"
            raise TrialError(f"{answer.why()}{ended}")
        return answer

    def verify(self) -> None:
        self.step("verify", 30.0)

    def memory(self) -> float:
        return self._device.peak_memory()

    def record(self, figure: str, value: float) -> None:
        self._series.append((figure, value))


class Tournament:
    """The whole run. `figures()` may be asked at any time, also after an interruption."""

    def __init__(self, cases: Sequence[Case], contenders: Sequence[Contender], repetitions: int) -> None:
        self._cases = cases
        self._contenders = contenders
        self._repetitions = repetitions
        self._figures: dict[str, Figure] = {
            figure.name: copy.deepcopy(figure) for case in cases for figure in case.figures
        }
        self._failed: set[tuple[str, str]] = set()  # (figure, contender)

    def figures(self) -> list[Figure]:
        return list(self._figures.values())

    def run(self) -> None:
        for case in self._cases:
            for repetition in range(self._repetitions):
                for place in range(len(self._contenders)):
                    self._turn(case, self._contenders[(place + repetition) % len(self._contenders)])

    def _turn(self, case: Case, contender: Contender) -> None:
        if (case.figures[0].name, contender.name) in self._failed:
            return
        reason = contender.missing() or self._beyond(case, contender)
        series: list[tuple[str, float]] = []
        if reason is None:
            say(f"{case.name}: {contender.title} ...")
            reason = self._try(case, contender, series)
        for name, value in series:
            self._figures[name].add(contender.name, value)
        said = ", ".join(f"{name} {value:.4g} {self._figures[name].unit}" for name, value in series)
        if reason is not None:
            recorded = {name for name, _ in series}
            for figure in case.figures:
                if figure.name not in recorded:
                    self._failed.add((figure.name, contender.name))
                    self._figures[figure.name].fail(contender.name, reason)
            said = f"{said}; {reason}".lstrip("; ")
        say(f"{case.name}: {contender.title}: {said}")

    def _try(self, case: Case, contender: Contender, series: list[tuple[str, float]]) -> str | None:
        try:
            with (
                Device(contender, case.asn) as device,
                Generator((*case.options, "--port", str(PORT))) as generator,
            ):
                generator.command("pids " + " ".join(map(str, device.pids())))
                case.script(LiveTrial(device, generator, series))
        except (TrialError, DeviceError, GeneratorError) as error:
            return str(error)
        return None

    def _beyond(self, case: Case, contender: Contender) -> str | None:
        """Why this case is not even tried: the easier one was already too much."""
        easier = next((c for c in self._cases if c.name == case.easier), None)
        if easier is None:
            return None
        first = self._figures[easier.figures[0].name]
        reasons = first.failures.get(contender.name)
        if reasons:
            return reasons[0] if reasons[0].startswith("not tried") else f"not tried: {easier.name} failed"
        seconds = first.median(contender.name)
        if seconds is not None and seconds > TOO_SLOW:
            return f"not tried: {easier.name} took {seconds:.0f} s"
        return None


def versions(contenders: Sequence[Contender]) -> Mapping[str, dict[str, str]]:
    """Title, version and settings of every contender that is installed."""
    return {
        c.name: {"title": c.title, "version": c.version(), "settings": c.settings}
        for c in contenders
        if not c.missing()
    }


def say(text: str) -> None:
    """Progress goes to standard error; the table alone to standard output."""
    print(text, file=sys.stderr, flush=True)
