"""Charts are well-formed SVG with a mark per value, placed in proportion."""

import math
from xml.etree import ElementTree as ET

import pytest

from bench.chart import COLOURS, bars, decades, lines

TITLES = {"cairn": "Cairn", "bird": "BIRD <2>"}
SVG = "{http://www.w3.org/2000/svg}"


def test_decades_enclose_and_never_collapse() -> None:
    assert decades([0.011, 29]) == (-2, 2)
    assert decades([1.0]) == (0, 1)


def test_bars_have_one_bar_per_value_in_logarithmic_proportion() -> None:
    root = ET.fromstring(bars("t & u", [("a", {"cairn": 0.1, "bird": 10.0}), ("b", {"bird": 1.0})], TITLES))

    def widths(name: str) -> list[float]:
        return [
            float(r.attrib["width"])
            for r in root.iter(f"{SVG}rect")
            if r.attrib["fill"] == COLOURS[name] and r.attrib["height"] != "12"
        ]

    assert len(widths("cairn")) == 1
    long, half = widths("bird")
    assert long == pytest.approx(2 * half, rel=0.01)


def test_lines_have_one_dot_per_point_and_rise_with_the_value() -> None:
    series = {"cairn": [(1e4, 0.01), (1e6, 0.1), (1e8, 10.0)], "bird": [(1e4, 0.2)]}
    root = ET.fromstring(lines("t", "x", "y", series, TITLES))
    dots = [
        (float(c.attrib["cx"]), float(c.attrib["cy"]))
        for c in root.iter(f"{SVG}circle")
        if c.attrib["fill"] == COLOURS["cairn"]
    ]
    assert len(dots) == 3
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert math.isclose(x1 - x0, x2 - x1, abs_tol=0.3)
    assert math.isclose((y0 - y1) * 2, y1 - y2, abs_tol=0.3)


@pytest.mark.parametrize(
    "draw", [lambda: bars("t", [("a", {})], TITLES), lambda: lines("t", "x", "y", {}, TITLES)]
)
def test_nothing_to_draw_is_an_error(draw: object) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw()  # type: ignore[operator]  # a lambda of the parameter list
