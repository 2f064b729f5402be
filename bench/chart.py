"""Two kinds of chart as plain SVG text: grouped bars and lines, both on logarithmic axes.

Small on purpose: what is drawn spans four orders of magnitude, so the value axis is a
power of ten per grid line, and every bar carries its number. Colours are fixed per
contender and readable on light and dark pages (the chart brings its own background).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.figures import format_value

COLOURS = {"cairn": "#0b7a75", "bird": "#d1495b", "frr": "#edae49", "openbgpd": "#66788a", "gobgp": "#5b8def"}
OTHER = "#9a6fb0"
WIDTH = 860
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten enclosing all (positive) values, at least one apart."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _text(x: float, y: float, text: str, size: int = 12, anchor: str = "start", more: str = "") -> str:
    where = f"x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}'"
    return f"<text {where} {more}>{escape(text)}</text>"


def _power(exponent: int) -> str:
    if -3 <= exponent <= 4:
        return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:g}"
    return f"10^{exponent}"


def _document(height: float, body: Sequence[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' width='{WIDTH}' "
        f"height='{height:.0f}' {FONT} fill='#1f2933'>"
    )
    return (
        "\n".join([head, f"<rect width='{WIDTH}' height='{height:.0f}' fill='#ffffff'/>", *body, "</svg>"])
        + "\n"
    )


def _legend(names: Sequence[str], titles: Mapping[str, str], y: float) -> list[str]:
    parts, x = [], 24.0
    for name in names:
        parts.append(
            f"<rect x='{x:.1f}' y='{y - 10:.1f}' width='12' height='12' fill='{COLOURS.get(name, OTHER)}'/>"
        )
        parts.append(_text(x + 18, y, titles.get(name, name)))
        x += 34 + 8 * len(titles.get(name, name))
    return parts


def bars(title: str, groups: Sequence[tuple[str, Mapping[str, float]]], titles: Mapping[str, str]) -> str:
    """Horizontal bars in groups: (label, contender → value) each. Raises ValueError without a value."""
    values = [value for _, group in groups for value in group.values() if value > 0]
    if not values:
        raise ValueError("nothing to draw")
    low, high = decades(values)
    left, right, bar = 250.0, WIDTH - 70.0, 13.0

    def place(value: float) -> float:
        return left + (math.log10(max(value, 10.0**low)) - low) / (high - low) * (right - left)

    body = [_text(24, 28, title, 16, more="font-weight='bold'"), *_legend(list(titles), titles, 52)]
    y = 76.0
    top = y
    drawn: list[str] = []
    for label, group in groups:
        ranked = [(name, group[name]) for name in titles if group.get(name, 0) > 0]
        drawn.append(_text(left - 10, y + bar * max(len(ranked), 1) / 2 + 4, label.strip(), anchor="end"))
        for name, value in ranked:
            end = max(place(value), left + 2)
            drawn.append(
                f"<rect x='{left:.1f}' y='{y:.1f}' width='{end - left:.1f}' height='{bar - 2:.1f}' "
                f"fill='{COLOURS.get(name, OTHER)}'/>"
            )
            drawn.append(_text(end + 5, y + bar - 4, format_value(value), 10))
            y += bar
        y += 12
    for exponent in range(low, high + 1):
        x = place(10.0**exponent)
        body.append(f"<line x1='{x:.1f}' y1='{top - 6:.1f}' x2='{x:.1f}' y2='{y:.1f}' stroke='#e1e6eb'/>")
        body.append(_text(x, y + 16, f"{_power(exponent)} s", 11, "middle"))
    return _document(y + 32, [*body, *drawn])


def lines(
    title: str,
    x_title: str,
    y_title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    titles: Mapping[str, str],
) -> str:
    """Lines with a dot per point, both axes logarithmic. Raises ValueError without a point."""
    points = [point for line in series.values() for point in line if point[0] > 0 and point[1] > 0]
    if not points:
        raise ValueError("nothing to draw")
    x_low, x_high = decades([x for x, _ in points])
    y_low, y_high = decades([y for _, y in points])
    left, right, top, bottom = 90.0, WIDTH - 40.0, 80.0, 460.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (math.log10(x) - x_low) / (x_high - x_low) * (right - left)
        return across, bottom - (math.log10(y) - y_low) / (y_high - y_low) * (bottom - top)

    body = [_text(24, 28, title, 16, more="font-weight='bold'")]
    body += _legend([name for name in titles if name in series], titles, 52)
    for exponent in range(x_low, x_high + 1):
        x, _ = at(10.0**exponent, 10.0**y_low)
        body.append(f"<line x1='{x:.1f}' y1='{top}' x2='{x:.1f}' y2='{bottom}' stroke='#e1e6eb'/>")
        body.append(_text(x, bottom + 18, _power(exponent), 11, "middle"))
    for exponent in range(y_low, y_high + 1):
        _, y = at(10.0**x_low, 10.0**exponent)
        body.append(f"<line x1='{left}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='#e1e6eb'/>")
        body.append(_text(left - 8, y + 4, _power(exponent), 11, "end"))
    middle = (top + bottom) / 2
    body.append(_text((left + right) / 2, bottom + 40, x_title, anchor="middle"))
    body.append(_text(24, middle, y_title, anchor="middle", more=f"transform='rotate(-90 24 {middle})'"))
    for name, line in series.items():
        colour = COLOURS.get(name, OTHER)
        places = [at(x, y) for x, y in line if x > 0 and y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        body += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>" for x, y in places]
    return _document(bottom + 60, body)
