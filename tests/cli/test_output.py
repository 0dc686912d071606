from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.cli.output import Column, ItemWriter, Output, UsageError, clean, emit, take

ROWS = [
    {"call_id": "a\x1b[2J", "packets": 1200, "mos": 4.3999, "late": None},
    {"call_id": "b", "packets": 7, "mos": 3.0, "late": True},
]


def printed(format: str, data: object = ROWS, columns: list[Column | str] | None = None, **options: object) -> str:
    stream = io.StringIO()
    emit(data, columns or [], out=Output(format=format, stream=stream, **options))  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_table_is_aligned_and_free_of_terminal_escapes() -> None:
    assert printed("table", columns=["call_id", Column("packets", "pkts"), "mos", "late"]) == (
        "call id   pkts  mos  late\na\\x1b[2J  1200  4.4\nb            7    3  yes\n"
    )


def test_json_carries_all_keys_and_the_schema_number() -> None:
    assert json.loads(printed("json", columns=["mos"])) == {"schema": 1, "items": ROWS}
    assert json.loads(printed("json", {"calls": 3})) == {"schema": 1, "calls": 3}
    assert [json.loads(line) for line in printed("jsonl").splitlines()] == ROWS
    assert "\x1b" not in printed("json")


def test_csv_has_keys_as_heading_and_no_formulas() -> None:
    assert printed("csv", [{"user": "=cmd()", "n": 1}]) == "user,n\n'=cmd(),1\n"


def test_fields_narrow_any_format_and_unknown_ones_are_refused() -> None:
    assert json.loads(printed("json", fields=("mos",)))["items"] == [{"mos": 4.3999}, {"mos": 3.0}]
    with pytest.raises(UsageError, match="known are call_id"):
        printed("json", fields=("nonsense",))


def test_output_options_stand_anywhere_on_the_line() -> None:
    rest, output = take(["sessions", "list", "--json", "--limit", "3", "--fields=a,b"])
    assert rest == ["sessions", "list", "--limit", "3"]
    assert output.format == "json"
    assert output.fields == ("a", "b")
    rest, output = take(["-o", "csv", "control", "--", "-o", "x"])
    assert rest == ["control", "--", "-o", "x"]
    assert output.format == "csv"
    with pytest.raises(UsageError, match="choose one of table"):
        take(["-o", "xml"])
    with pytest.raises(UsageError, match="needs a value"):
        take(["status", "-o"])


@given(st.text())
def test_cleaned_text_is_printable_and_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(clean(text)) == clean(text)


def test_wide_columns_are_for_wide_csv_and_fields_only() -> None:
    columns: list[Column | str] = ["call_id", Column("packets", wide=True)]
    assert "packets" not in printed("table", columns=columns)
    assert "1200" in printed("wide", columns=columns)
    assert printed("csv", columns=columns).startswith("call_id,packets\n")
    assert "1200" in printed("table", columns=columns, fields=("packets",))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(data: object, columns: list[Column | str], format: str = "table") -> list[str]:
    stream = Terminal()
    emit(data, columns, out=Output(format=format, stream=stream))  # type: ignore[arg-type]
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()


def test_on_a_terminal_texts_are_cut_and_what_names_the_row_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [{"id": "i" * 16, "from": "f" * 30, "to": "t" * 20, "n": 5}]
    heading, line = on_terminal(rows, ["id", "from", "to", "n"])
    assert len(line) == 40
    assert line.split() == ["i" * 16, "f" * 7 + "…", "t" * 8 + "…", "5"]
    assert heading.split() == ["id", "from", "to", "n"]
    assert all(len(text) > 40 for text in on_terminal(rows, ["id", "from", "to", "n"], "wide")[1:])
    very_long = [{"id": "i" * 60, "from": "f", "to": "t", "n": 5}]
    assert "…" in on_terminal(very_long, ["id", "from", "to", "n"])[1]


def test_on_a_terminal_long_values_continue_below_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    lines = on_terminal({"name": "a", "tests": ["contact_nonpublic", "via_nonpublic"]}, [])
    assert lines == ["name   a", "tests  contact_nonpublic,", "       via_nonpublic"]


def test_times_are_rfc_3339_for_programs_and_people() -> None:
    row = {"start": 1_700_000_000.25, "at": 12.5, "deep": [{"created": 1_700_000_000.0}], "packets": 2e9}
    told = json.loads(printed("json", row))
    assert told["start"] == "2023-11-14T22:13:20.250Z"
    assert told["deep"] == [{"created": "2023-11-14T22:13:20.000Z"}]
    assert (told["at"], told["packets"]) == (12.5, 2e9)
    assert "start    2023-11-14T22:13:20.250Z" in printed("table", row)


def test_items_of_a_stream_share_one_csv_heading_and_obey_fields() -> None:
    stream = io.StringIO()
    writer = ItemWriter(out=Output(format="csv", fields=("b",), stream=stream))
    for number in (1, 2):
        writer.write({"a": 0, "b": number})
    assert stream.getvalue() == "b\n1\n2\n"
    with pytest.raises(UsageError, match="known are a, b"):
        ItemWriter(out=Output(format="jsonl", fields=("c",), stream=stream)).write({"a": 0, "b": 1})


def test_a_pipe_and_no_color_get_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not Output(stream=io.StringIO()).colours
    assert Output(stream=Terminal()).colours
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Output(stream=Terminal()).colours
    assert Output(stream=io.StringIO()).width is None


def test_an_empty_name_of_a_field_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="names of fields"):
        take(["status", "--fields", "a,,b"])
