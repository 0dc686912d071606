"""The table of SIP rules names code and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/sip-rules.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/0-9]+\.py(?:::\w+)?)`", TABLE)))
IDS = {
    *(f"P{number}" for number in range(1, 11)),
    *(f"T{number}" for number in range(1, 7)),
    *(f"R{number}" for number in range(1, 13)),
    *(f"S{number}" for number in range(1, 9)),
    *(f"N{number}" for number in range(1, 11)),
    *(f"D{number}" for number in range(1, 19)),
}


def test_every_rule_is_in_the_table() -> None:
    assert set(re.findall(r"\b[PTRSND]\d{1,2}\b", TABLE)) == IDS


@pytest.mark.parametrize("named", NAMED)
def test_what_the_table_names_is_there(named: str) -> None:
    path, _, test = named.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not test or re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), named
