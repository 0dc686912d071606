"""A real Prometheus scrapes the running bundle: every panel shows something, every rule evaluates."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dashboards import expressions
from watched import Watched, watched

pytestmark = [pytest.mark.interop, pytest.mark.slow]

# The curve of a week or an hour ago, drawn beside today's.
LATER = re.compile(r"offset 1[wh]")

BUDGET = 1500
"""Most series of one instance."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched")) as running:
        yield running


def test_the_scrape_passes_promtool(edge: Watched) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=edge.scrape(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_panel_is_empty(edge: Watched) -> None:
    empty = [
        (board, panel, expression)
        for board, panel, expression in expressions()
        if not LATER.search(expression)
        and not [row for row in edge.query(expression.replace("[1m]", "[20s]")) if row["value"][1] != "NaN"]
    ]
    assert not empty, "\n".join(map(str, empty))


def test_every_rule_evaluates_without_an_error(edge: Watched) -> None:
    rules = [rule for group in edge.api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == 36
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing <= {"NattravRestarted"}, firing


def series(text: str) -> int:
    return sum(not line.startswith("#") for line in text.splitlines())


def test_a_scanner_does_not_blow_the_budget_of_series(edge: Watched) -> None:
    edge.scan()
    time.sleep(1.2)
    text = edge.scrape()
    assert 400 < series(text) <= BUDGET
    for line in text.splitlines():
        assert "FOO" not in line
        assert "scan" not in line.replace('reason="scanner"', "")
