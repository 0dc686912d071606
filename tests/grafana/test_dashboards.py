"""The committed dashboards are what their source says, are well-formed, and ask only for metrics that exist."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

sys.path.insert(0, str(Path(__file__).parent))

from dashboards import DASHBOARDS, GRAFANA, SERIES, expressions, load, panels, selectors

PANEL_TYPES = {"timeseries", "stat", "bargauge", "heatmap", "table"}
BOARDS = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_the_committed_dashboards_are_what_their_source_says() -> None:
    done = subprocess.run(
        [sys.executable, GRAFANA / "build.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_seven_dashboards_are_there() -> None:
    assert {path.stem for path in DASHBOARDS} == {
        "overview", "sip", "registrations", "media", "capacity", "stun", "control",
    }  # fmt: skip


@BOARDS
def test_grafana_understands_every_key(path: Path) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    board = load(path)
    encoded = JSONEncoder().encode(Dashboard.from_json(board))
    import json

    assert json.loads(encoded) == board


@BOARDS
def test_every_panel_explains_itself_and_is_templated(path: Path) -> None:
    board = load(path)
    assert {variable["name"] for variable in board["templating"]["list"]} >= {"datasource", "job", "instance"}
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] in PANEL_TYPES, panel["type"]
        assert panel["datasource"]["uid"] == "$datasource"
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert "ALERTS" in target["expr"] or 'job="$job"' in target["expr"], target["expr"]
            for metric in re.findall(r"\w+_total\b", target["expr"]):
                assert re.search(rf"(rate|increase)\({metric}", target["expr"]), f"{metric} without rate"


@BOARDS
def test_ids_are_unique_and_panels_do_not_overlap(path: Path) -> None:
    board = load(path)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        mine = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24
        assert not mine & cells, panel["title"]
        cells |= mine


@pytest.mark.parametrize(("board", "panel", "expression"), expressions())
def test_every_query_asks_for_metrics_and_labels_that_exist(board: str, panel: str, expression: str) -> None:
    found = list(selectors(expression))
    assert found, f"no metric in {expression}"
    for name, labels in found:
        assert name in SERIES, f"{board} / {panel}: {name} is not in the registry"
        assert labels <= SERIES[name], f"{board} / {panel}: {name} has no label {labels - SERIES[name]}"
    known = set().union(*(SERIES[name] for name, _ in found))
    for group in re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression):
        labels = set(re.split(r",\s*", group))
        assert labels <= known, f"{board} / {panel}: no metric there has the label {labels - known}"
