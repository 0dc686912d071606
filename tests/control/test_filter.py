from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.filter import FilterError, parse

ROW = {
    "call_id": "a1@phone", "state": "answered", "age": 90.0, "mos": 3.2, "loss": 0.02, "packets": 0,
    "condition": None, "relayed": True, "jitter_ms": 25.0, "tags": ["x", "why"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("mos<3.5 and age>60", True),
        ("mos < 3.5 and age > 2m", False),
        ("age>1m", True),
        ("loss>=2%", True),
        ("loss>20ms", False),
        ("state=answered", True),
        ("jitter_ms>20ms", True),
        ("jitter_ms>30", False),
        ("jitter_ms<1s", True),
        ("state!=answered or mos<=3.2", True),
        ("call_id~phone", True),
        ("call_id !~ 'phone'", False),
        ('call_id="a1@phone"', True),
        ("not (mos>4 or packets)", True),
        ("condition=none", True),
        ("condition!=none", False),
        ("condition!=one_way", False),
        ("condition", False),
        ("relayed", True),
        ("relayed=yes and relayed!=no", True),
        ("tags=why", True),
        ("tags~h", True),
        ("packets=0", True),
        ("state<5", False),
        ("mos<3 or mos>3 and age<60", False),
        ("(mos<3 or mos>3) and age>60", True),
    ],
)
def test_an_expression_is_met_or_not(text: str, met: bool) -> None:
    assert parse(text, ROW)(ROW) is met


@pytest.mark.parametrize(
    ("text", "at", "told"),
    [
        ("", 0, "expected a field"),
        ("mos<", 4, "expected a value"),
        ("mos<<3", 4, "expected a value"),
        ("mos<abc", 4, "wants a number"),
        ("speed>3", 0, "known are call_id, state"),
        ("mos<3 age>60", 6, "expected 'and', 'or' or the end"),
        ("mos<3 and", 9, "expected a field"),
        ("(mos<3", 6, "expected ')'"),
        ("mos<3)", 5, "expected 'and', 'or' or the end"),
        ("mos ! 3", 4, "unexpected '!'"),
        ("call_id='x", 8, "unexpected"),
        ("condition>none", 10, "takes = and !="),
        ("not " * 30 + "mos", 80, "nested deeper than 20"),
        ("(" * 30 + "mos", 20, "nested deeper than 20"),
        ("mos" * 400, 500, "longer than 500"),
        ("__class__=x", 0, "no field"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, at: int, told: str) -> None:
    with pytest.raises(FilterError) as found:
        parse(text, ROW)
    assert found.value.at == at
    assert told in str(found.value)
    assert f"at character {at + 1}" in str(found.value)


@given(st.text() | st.text(alphabet="mosage<>=!~()'\" andnt0123.%"))
def test_any_text_is_a_test_or_an_error(text: str) -> None:
    with contextlib.suppress(FilterError):
        assert parse(text, ROW)(ROW) in (True, False)
