"""Who runs when, what a failure costs, and what the report keeps."""

from pathlib import Path

import pytest

from bench.figures import Figure
from bench.reflector import tournament as module
from bench.reflector.cases import Bars, Case, Trial, cluster, full_table, quick, scale, standard
from bench.reflector.contenders import Contender
from bench.reflector.generator import Answer
from bench.reflector.report import Dumps, compare, to_report
from bench.reflector.tournament import Tournament


def contender(name: str) -> Contender:
    return Contender(name, name.title(), "/bin/sh", "-c", "c", "", lambda directory: ["sh"], "as it is")


def nothing(trial: Trial) -> None:
    raise AssertionError("not run in these tests")


def case(name: str, easier: str | None = None) -> Case:
    return Case(name, (), (Figure(name, name, "s"), Figure(f"{name}-more", name, "MB")), nothing, easier)


class Scripted(Tournament):
    """A tournament whose trials are answered from a dictionary: seconds, or the reason of a failure."""

    def __init__(self, outcome: dict[tuple[str, str], float | str], *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # passed through
        self.outcome = outcome
        self.tried: list[tuple[str, str]] = []

    def _try(self, case: Case, contender: Contender, series: list[tuple[str, float]]) -> str | None:
        self.tried.append((case.name, contender.name))
        result = self.outcome.get((case.name, contender.name), 1.0)
        if isinstance(result, str):
            if result.startswith("late"):
                series.append((case.name, 5.0))
            return result
        series.extend([(case.name, result), (f"{case.name}-more", 2.0)])
        return None


def test_contenders_take_turns_and_rotate() -> None:
    run = Scripted({}, [case("a")], [contender("x"), contender("y"), contender("z")], 2)
    run.run()
    assert [name for _, name in run.tried] == ["x", "y", "z", "y", "z", "x"]
    assert run.figures()[0].values == {"x": [1.0, 1.0], "y": [1.0, 1.0], "z": [1.0, 1.0]}


def test_a_failure_is_not_repeated_and_bars_the_harder_case() -> None:
    run = Scripted(
        {("a", "x"): "lost 3"},
        [case("a"), case("b", "a"), case("c", "b")],
        [contender("x"), contender("y")],
        2,
    )
    run.run()
    assert [pair for pair in run.tried if pair[1] == "x"] == [("a", "x")]
    figures = {figure.name: figure for figure in run.figures()}
    assert figures["a-more"].failures == {"x": ["lost 3"]}
    assert figures["b"].failures == {"x": ["not tried: a failed"]}
    assert figures["c"].failures == {"x": ["not tried: a failed"]}
    assert figures["c"].median("y") == 1.0


def test_a_late_failure_keeps_what_was_done_and_bars_nothing() -> None:
    run = Scripted({("a", "x"): "late: lost 3"}, [case("a"), case("b", "a")], [contender("x")], 2)
    run.run()
    figures = {figure.name: figure for figure in run.figures()}
    assert figures["a"].median("x") == 5.0
    assert figures["a-more"].failures == {"x": ["late: lost 3", "late: lost 3"]}
    assert figures["b"].median("x") == 1.0


def test_one_too_slow_is_spared_the_harder_case() -> None:
    run = Scripted({("a", "x"): module.TOO_SLOW + 1}, [case("a"), case("b", "a")], [contender("x")], 1)
    run.run()
    assert run.figures()[2].failures == {"x": ["not tried: a took 11 s"]}


def test_one_not_installed_is_reported_not_run() -> None:
    absent = Contender("x", "X", "/nowhere/x", "-V", "c", "", lambda directory: [], "")
    run = Scripted({}, [case("a")], [absent], 1)
    run.run()
    assert run.tried == []
    assert run.figures()[0].failures == {"x": ["/nowhere/x is not installed"]}


@pytest.mark.parametrize("cases", [standard(), quick(), scale()], ids=["standard", "quick", "scale"])
def test_cases_and_figures_have_names_of_their_own_and_easier_ones_come_first(cases: list[Case]) -> None:
    names = [c.name for c in cases]
    figures = [figure.name for c in cases for figure in c.figures]
    assert len(set(names)) == len(names)
    assert len(set(figures)) == len(figures)
    for place, c in enumerate(cases):
        assert c.easier is None or c.easier in names[:place]


class Recorder:
    """A trial that answers every command with plausible figures."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.recorded: list[str] = []
        self.verified = 0

    def step(self, command: str, timeout: float) -> Answer:
        self.commands.append(command)
        data = {"cpu": 1.0, "delivered": 10, "first_exact": 0.1, "p50": 0.001, "p99": 0.002, "connected": 0.5}
        return Answer(True, 0.25, data)

    def verify(self) -> None:
        self.verified += 1

    def memory(self) -> float:
        return 12.0

    def record(self, figure: str, value: float) -> None:
        self.recorded.append(figure)


@pytest.mark.parametrize("made", [*standard(), *quick()], ids=lambda c: c.name)
def test_every_script_fills_every_figure_of_its_case(made: Case) -> None:
    trial = Recorder()
    made.script(trial)
    assert set(trial.recorded) == {figure.name for figure in made.figures}
    assert trial.verified or made.name.startswith("burst")


def test_joins_use_a_client_beyond_the_cluster() -> None:
    made = cluster(1000, 10, announce=Bars(), joins=2)
    trial = Recorder()
    made.script(trial)
    assert sum(command.startswith("open 1000 1 ") for command in trial.commands) == 2
    assert made.options[:2] == ("--speakers", "1001")


def test_table_names_its_load() -> None:
    made = full_table(500_000, 10, bar=0.33, hope=0.15)
    assert made.options[:6] == ("--mode", "table", "--speakers", "11", "--prefixes", "500000")


def test_best_routes_are_compared_between_trials(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path, [])
    for text in ("a 1 x\nb 2 y\n", "b 2 y\na 1 x\n", "a 1 x\nb 3 z\n"):
        dumps.next().write_text(text)
    assert compare(dumps.files) == "2 of 3 trials gave the same 2 routes; the others differ in 1 routes"
    assert compare([]) == ""


def test_the_report_names_no_host_and_no_path() -> None:
    report = to_report([Figure("a", "a", "s")], {"bird": {"version": "2"}}, 3, "")
    assert set(report["machine"]) == {"processor", "cores", "memory_gb", "kernel", "python"}
    assert "/" not in str({key: value for key, value in report.items() if key != "figures"}.values()).replace(
        "1/2", ""
    )
