"""Medians, ratios and the table: what a bench run claims."""

import json

import pytest

from bench.figures import Figure, dump, format_value, to_text


def figure(**more: object) -> Figure:
    made = Figure("announce", "announce 2", "s", **more)  # type: ignore[arg-type]  # keywords of one dataclass
    for value in (0.3, 0.1, 0.2):
        made.add("cairn", value)
    for value in (1.0, 3.0):
        made.add("bird", value)
    made.add("frr", 0.5)
    return made


def test_ratio_is_cairns_median_over_the_best_rivals() -> None:
    made = figure()
    assert made.median("cairn") == 0.2
    assert made.median("bird") == 2.0
    assert made.reference() == "frr"
    assert made.ratio() == pytest.approx(0.4)
    assert made.ratio("bird") == pytest.approx(0.1)


def test_a_rival_keeps_what_it_did_right_and_cairn_does_not() -> None:
    made = figure()
    made.fail("frr", "3 clients inexact: 4 missing, 0 too many")
    assert made.median("frr") == 0.5
    assert made.reference() == "frr"
    assert "0.500!" in to_text([made], {"frr": "FRR"})
    made.fail("cairn", "lost 1 sessions")
    assert made.median("cairn") is None
    assert made.ratio() is None


def test_a_rival_that_never_succeeded_is_no_reference() -> None:
    made = figure()
    made.fail("gobgp", "> 60 s")
    made.fail("gobgp", "> 60 s")
    assert made.median("gobgp") is None
    assert "gobgp" not in made.rivals()


def test_no_ratio_without_cairn_or_without_rivals() -> None:
    alone = Figure("x", "x", "s", bar=1.0)
    alone.add("cairn", 1.0)
    assert alone.ratio() is None
    assert alone.met() is None
    others = Figure("x", "x", "s", bar=1.0)
    others.add("bird", 1.0)
    assert others.ratio() is None


@pytest.mark.parametrize(
    ("bars", "reference", "met"),
    [
        ({"bar": 0.4}, "frr", True),
        ({"bar": 0.39}, "frr", False),
        ({"bar": 0.1, "against": "second"}, "bird", True),
        ({"bar": 0.05, "against": "bird"}, "bird", False),
        ({"bar": 1.0, "against": "gobgp"}, None, None),
        ({"limit": 0.2}, "frr", True),
        ({"limit": 0.19}, "frr", False),
        ({}, "frr", None),
    ],
)
def test_a_bar_is_held_against_its_reference(
    bars: dict[str, object], reference: str | None, met: bool | None
) -> None:
    made = figure(**bars)
    assert made.reference() == reference
    assert made.met() is met


def test_json_round_trip_keeps_values_bars_and_failures() -> None:
    made = figure(bar=0.4, hope=0.2, against="second")
    made.fail("gobgp", "> 60 s")
    data = json.loads(dump(made.to_json()))
    again = Figure.from_json(data)
    assert again == made
    assert data["ratios"] == {"frr": 0.4, "bird": 0.1}
    assert data["met"] is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.011234, "0.0112"),
        (1.5, "1.50"),
        (29.04, "29.0"),
        (123.4, "123"),
        (12345.0, "12,345"),
        (0.0, "0"),
        (None, "-"),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert format_value(value) == text


def test_table_shows_every_contender_and_excuses() -> None:
    made = figure(bar=0.39)
    made.fail("gobgp", "> 60 s (3 up, 0 of 3 exact)")
    made.fail("openbgpd", "lost 3 sessions (NOTIFICATION 6/5)")
    text = to_text(
        [made], {"cairn": "Cairn", "bird": "BIRD 2", "gobgp": "GoBGP", "openbgpd": "OpenBGPD", "frr": "FRR"}
    )
    head, _, row = text.splitlines()
    assert head.split() == ["work", "unit", "Cairn", "BIRD", "2", "GoBGP", "OpenBGPD", "FRR", "ratio", "bar"]
    cells = ["0.200", "2.00", "> 60 s", "failed", "0.500", "0.400", "≤ 0.39", "MISSED"]
    assert row.split() == ["announce", "2", "s", *" ".join(cells).split()]
