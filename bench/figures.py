"""What the repetitions of one piece of work say: medians and ratios.

A `Figure` is one row of the report: one quantity (lower is better), the values each
contender reached in its repetitions, and why a contender has none. The ratio of a row
is Cairn's median over the best rival's median of the same run. Nothing is averaged
over rows. Cairn has no median where it failed once; a rival keeps that of the repetitions
it did right, marked in the table, so that no ratio is won by a rival's bad day.

A bar may be set against another than the best: memory is allowed "the second best" or a
multiple of one named daemon; and a few are absolute (`limit`), because rivals cannot do
the work at all. A figure with both must meet both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

SUBJECT = "cairn"
PLAIN = "cairn-plain"
"""Cairn without its compiled modules: shown beside the others, and no rival."""
NOTHING = "-"


@dataclass(slots=True)
class Figure:
    """One quantity and what each contender reached.

    `unit` is "s", "ms", "MB" or "µs"; `bar` and `hope` are ratios to the reference (None: reported
    only), `limit` is a bar in the unit itself. `against` names the reference: "best", "second" or a
    rival. `values` holds one number per repetition done right, `failures` the reason of each of the others.
    """

    name: str
    title: str
    unit: str
    bar: float | None = None
    hope: float | None = None
    limit: float | None = None
    against: str = "best"
    values: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        self.values.setdefault(contender, []).append(value)

    def fail(self, contender: str, reason: str) -> None:
        self.failures.setdefault(contender, []).append(reason)

    def median(self, contender: str) -> float | None:
        """The median of the repetitions; None without one, and for Cairn if any failed."""
        values = self.values.get(contender)
        if not values or (contender == SUBJECT and contender in self.failures):
            return None
        return median(values)

    def rivals(self) -> dict[str, float]:
        """Every rival's median, best first."""
        rivals = [name for name in self.values if name not in (SUBJECT, PLAIN)]
        found = {name: m for name in rivals if (m := self.median(name)) is not None}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def reference(self) -> str | None:
        """The rival the bar is set against; None if it has no median."""
        ranking = list(self.rivals())
        if self.against == "best":
            return ranking[0] if ranking else None
        if self.against == "second":
            return ranking[1] if len(ranking) > 1 else None
        return self.against if self.against in ranking else None

    def ratio(self, rival: str | None = None) -> float | None:
        """Cairn's median ÷ the rival's (default: the reference's); None if either is missing."""
        ours = self.median(SUBJECT)
        name = rival if rival is not None else self.reference()
        theirs = self.median(name) if name is not None else None
        return ours / theirs if ours is not None and theirs else None

    def met(self) -> bool | None:
        """Whether the bar is met; None if there is no bar or nothing to hold against it."""
        ours, ratio = self.median(SUBJECT), self.ratio()
        held = []
        if self.limit is not None and ours is not None:
            held.append(ours <= self.limit)
        if self.bar is not None and ratio is not None:
            held.append(ratio <= self.bar)
        return all(held) if held else None

    def bar_text(self) -> str:
        of = "" if self.against == "best" else f" of {self.against}"
        bars = [f"≤ {self.limit:g} {self.unit}"] if self.limit is not None else []
        bars += [f"≤ {self.bar:g}{of}"] if self.bar is not None else []
        return ", ".join(bars)

    def to_json(self) -> dict[str, Any]:
        rivals = self.rivals()
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "bar": self.bar,
            "hope": self.hope,
            "limit": self.limit,
            "against": self.against,
            "medians": {name: _short(self.median(name)) for name in self.values},
            "values": {name: [_short(v) for v in values] for name, values in self.values.items()},
            "failures": {name: list(reasons) for name, reasons in self.failures.items()},
            "reference": self.reference(),
            "ratio": _short(self.ratio()),
            "met": self.met(),
            "ratios": {name: _short(self.ratio(name)) for name in rivals},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Figure:
        """The inverse of `to_json`, but for digits."""
        return cls(
            name=data["name"],
            title=data["title"],
            unit=data["unit"],
            bar=data["bar"],
            hope=data["hope"],
            limit=data["limit"],
            against=data["against"],
            values={name: list(values) for name, values in data["values"].items()},
            failures={name: list(reasons) for name, reasons in data["failures"].items()},
        )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def format_value(value: float | None) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    digits = max(0, 2 - _magnitude(value))
    return f"{value:.{digits}f}" if digits else f"{round(value):,}"


def _magnitude(value: float) -> int:
    exponent = 0
    scaled = abs(value)
    while scaled >= 10:
        scaled /= 10
        exponent += 1
    while scaled < 1 and exponent > -6:
        scaled *= 10
        exponent -= 1
    return exponent


def to_text(figures: Iterable[Figure], contenders: Mapping[str, str]) -> str:
    """A table in plain text: a row per figure, a column per contender (name → title).

    "!" marks a median of which other repetitions failed.
    """
    heads = ["work", "unit", *contenders.values(), "ratio", "bar", ""]
    rows = [heads]
    for figure in figures:
        cells = [figure.title, figure.unit]
        for name in contenders:
            value = figure.median(name)
            if value is None:
                cells.append(_excuse(figure, name))
            else:
                cells.append(format_value(value) + ("!" if name in figure.failures else ""))
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met()]
        rows.append([*cells, format_value(figure.ratio()), figure.bar_text(), verdict])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def _excuse(figure: Figure, name: str) -> str:
    reasons = figure.failures.get(name)
    if not reasons:
        return NOTHING
    reason = reasons[0].partition(" (")[0]
    return reason if len(reason) <= 14 else "failed"


def dump(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"
