from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.cli.output import Column, Output, UsageError, clean, emit, take

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
