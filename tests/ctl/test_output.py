"""What commands print: times, tables, documents."""

import json
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_network

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctl.commands.peers import reason
from ctl.output import Column, Format, Listing, ago, aligned, as_json, as_yaml, rfc3339, show


def test_times_in_documents_are_rfc_3339_in_utc() -> None:
    moment = datetime(2026, 11, 20, 12, 0, 0, 123456, timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-20T10:00:00.123Z"
    assert json.loads(as_json({"at": moment})) == {"at": "2026-11-20T10:00:00.123Z"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (250, "4m 10s"),
        (7500, "2h 5m"),
        (90000, "1d 1h"),
        (86401, "1d"),
    ],
)
def test_durations_are_told_by_their_two_largest_units(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_addresses_and_format_names_are_plain_text_in_documents() -> None:
    value = {"a": ip_address("10.0.0.1"), "n": (ip_network("10.0.0.0/8"),), "f": Format.WIDE}
    assert json.loads(as_json(value)) == {"a": "10.0.0.1", "n": ["10.0.0.0/8"], "f": "wide"}
    assert yaml.safe_load(as_yaml(value)) == {"a": "10.0.0.1", "n": ["10.0.0.0/8"], "f": "wide"}


def test_wide_columns_are_for_wide_only(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Listing((Column("A"), Column("B", wide=True)), [("1", "2")], {"x": 1})
    show(listing, Format.TABLE)
    assert capsys.readouterr().out == "A\n1\n"
    show(listing, Format.WIDE)
    assert capsys.readouterr().out == "A   B\n1   2\n"
    show(Listing((Column("A"),), [], [], "no such thing"), Format.TABLE)
    assert capsys.readouterr() == ("", "no such thing\n")
    show(Listing((Column("A"),), [], []), Format.JSON)
    assert capsys.readouterr().out == "[]\n"


@given(
    st.lists(
        st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126)), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_columns_line_up_and_nothing_is_cut(rows: list[list[str]]) -> None:
    lines = aligned(rows)
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    for row, line in zip(rows, lines, strict=True):
        padded = line.ljust(sum(widths) + 6)
        assert padded[: widths[0]].rstrip() == row[0]
        assert padded[widths[0] + 3 :][: widths[1]].rstrip() == row[1]
        assert padded[widths[0] + widths[1] + 6 :].rstrip() == row[2]


@pytest.mark.parametrize("width", [20, 50, 80, 200])
def test_an_address_is_whole_on_any_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    cells = ("127.0.0.1:9179", "Node_10_200_0_1", "10.200.0.1", "we ended it: administrative shutdown")
    show(
        Listing(tuple(map(Column, ("SERVICE", "PEER", "ADDRESS", "LAST REASON"))), [cells], ()), Format.TABLE
    )
    lines = capsys.readouterr().out.splitlines()
    assert any(all(cell in line for cell in cells[:-1]) for line in lines), lines


def test_the_clock_is_asked_in_utc() -> None:
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


def test_why_a_session_is_not_up_is_shown_with_how_long_ago_that_was_so() -> None:
    now = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    peer = {"last_reason": "hold timer expired", "last_reason_at": "2026-01-01T12:00:00Z"}
    assert reason(peer, now) == "hold timer expired (30s ago)"
    assert reason({**peer, "last_reason_at": None}, now) == "hold timer expired"
    assert reason({"last_reason": ""}, now) == ""
