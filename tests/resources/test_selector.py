"""The whole selector language, and errors that say where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.resources import Selector, SelectorError

LABELS = {"rack": "r1", "zone": "eu-west", "in": "x", "a.b/c": "1", "empty": "", "in-service": "true"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("all()", True),
        (" all( ) ", True),
        ("global()", True),
        ("has(rack)", True),
        ("has(nothing)", False),
        ("!has(nothing)", True),
        ("! ! has(rack)", True),
        ("rack == 'r1'", True),
        ('rack == "r1"', True),
        ("rack=='r2'", False),
        ("rack != 'r2'", True),
        ("nothing != 'x'", True),
        ("rack in {'r1', 'r2'}", True),
        ("rack in {}", False),
        ("rack not in {'r1'}", False),
        ("nothing not in {'r1'}", True),
        ("rack  not   in {'r2'}", True),
        ("zone contains 'west'", True),
        ("nothing contains ''", False),
        ("zone starts with 'eu'", True),
        ("zone  ends   with 'west'", True),
        ("zone ends with 'eu'", False),
        ("in == 'x'", True),
        ("in in {'x'}", True),
        ("a.b/c == '1'", True),
        ("empty == ''", True),
        ("has(rack) && has(nothing) || zone == 'eu-west'", True),
        ("has(nothing) && (has(rack) || zone == 'eu-west')", False),
        ("!has(nothing) && !(rack == 'r2')", True),
        ("!has(rack) || has(zone)", True),
        ("rack == '&& || { }'", False),
        ("in-service == 'true'", True),
        ("contains-gpu == 'x' || zone == 'eu-west'", True),
        ("not-in == 'x'", False),
        ("has(in-service) && in-service in{'true'}", True),
        ("rack notin {'r2'}", True),
        ("zone startswith 'eu'", True),
        ("zone endswith'west'", True),
        ("zone contains'west'", True),
        ("rack in {'r1',}", True),
        ("all == 'x'", False),
    ],
)
def test_it_selects_as_calico_does(text: str, expected: bool) -> None:
    assert Selector.parse(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("rack = 'r1'", 5),
        ("rack == r1", 8),
        ("rack == 'r1' &&", 15),
        ("(has(rack)", 10),
        ("has(rack))", 9),
        ("rack in 'r1'", 8),
        ("rack in {'a' 'b'}", 13),
        ("rack in {,}", 9),
        ("rack rack == 'a'", 5),
        ("rack not 'a'", 5),
        ("rack", 4),
        ("'r1' == rack", 0),
        ("&& has(a)", 0),
        ("has(a) has(b)", 7),
        ("rack == 'r1", 8),
        ("rack === 'r1'", 7),
    ],
)
def test_an_error_names_the_position(text: str, position: int) -> None:
    with pytest.raises(SelectorError) as caught:
        Selector.parse(text)
    assert caught.value.position == position
    assert f"position {position + 1}" in str(caught.value)


def test_nesting_without_end_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(SelectorError):
        Selector.parse("(" * 100_000 + "all()" + ")" * 100_000)
    with pytest.raises(SelectorError):
        Selector.parse("!" * 100_000 + "all()")


@given(st.text("ab'\"(){}!&|=, \n\thasinotcewrd", max_size=40))
def test_any_text_parses_or_is_refused_with_a_position_inside_it(text: str) -> None:
    try:
        selector = Selector.parse(text)
    except SelectorError as error:
        position = error.position
    else:
        assert selector.matches({}) in (True, False)
        return
    assert 0 <= position <= len(text)


tests = st.recursive(
    st.sampled_from(["has(a)", "a == '1'", "a in {'1','2'}", "b starts with 'x'", "all()", "b != '1'"]),
    lambda inner: st.one_of(
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=8,
)


@given(tests, tests, st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2", "xy"])))
def test_and_or_and_not_are_those_of_logic(first: str, second: str, labels: dict[str, str]) -> None:
    one, two = (Selector.parse(text).matches(labels) for text in (first, second))
    assert Selector.parse(f"{first} && {second}").matches(labels) == (one and two)
    assert Selector.parse(f"{first} || {second}").matches(labels) == (one or two)
    assert Selector.parse(f"!{first}").matches(labels) == (not one)
