"""Read the committed dashboards and walk their PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser

from nattrav.metrics.registry import METRICS, Kind

GRAFANA = Path(__file__).parents[2] / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SERIES: dict[str, set[str]] = {}
for metric in METRICS.values() if isinstance(METRICS, dict) else METRICS:
    names = [metric.name]
    if metric.kind is Kind.HISTOGRAM:
        names = [metric.name + suffix for suffix in ("_bucket", "_sum", "_count")]
    for name in names:
        SERIES[name] = set(metric.labels) | {"job", "instance"} | ({"le"} if name.endswith("_bucket") else set())
SERIES["up"] = {"job", "instance"}
SERIES["ALERTS"] = {"alertname", "alertstate", "severity"}
SERIES["process_start_time_seconds"] = {"job", "instance"}

VARIABLES = {"$__rate_interval": "1m", "$job": "nattrav", "$instance": ".*", "$pool": ".*", "$upstream": ".*"}


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel


def substituted(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def expressions() -> list[tuple[str, str, str]]:
    """(dashboard, panel, expression with the variables filled in) of every query."""
    return [
        (path.stem, panel["title"], substituted(target["expr"]))
        for path in DASHBOARDS
        for panel in panels(load(path))
        for target in panel["targets"]
    ]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Every metric name in a PromQL expression with the label names matched on it."""
    promql_parser.parse(expression)
    without_strings = re.sub(r'"[^"]*"', '""', expression)
    for match in re.finditer(r"([a-zA-Z_][a-zA-Z0-9_:]*)\s*(\{([^}]*)\})?(?!\s*[a-zA-Z0-9_:(])", without_strings):
        name = match.group(1)
        if name in SERIES or name.startswith("nattrav_"):
            yield name, set(re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", match.group(3) or ""))
