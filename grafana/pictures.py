"""Draw every dashboard's panels from a running Prometheus: python grafana/pictures.py URL OUTPUT-DIRECTORY."""

from __future__ import annotations

import json
import math
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DASHBOARDS = Path(__file__).parent / "dashboards"
VARIABLES = {
    "$__rate_interval": "15s",
    "$__range": "5m",
    "$job": "nattrav",
    "$instance": ".*",
    "$pool": ".*",
    "$upstream": ".*",
}
COLUMNS = 3
SPAN = 40.0
LEGENDS = 6


def draw(prometheus: str, dashboard: Path, output: Path) -> Path:
    """Draw one dashboard; gives the file written."""
    board: dict[str, Any] = json.loads(dashboard.read_text())
    panels = [panel for panel in board["panels"] if panel.get("targets")]
    rows = math.ceil(len(panels) / COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(5 * COLUMNS, 2.6 * rows), squeeze=False, layout="constrained")
    figure.suptitle(board["title"], fontweight="bold")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.set_title(panel["title"], fontsize=9, loc="left")
        _panel(prometheus, panel, axes)
    path = output / f"{dashboard.stem}.png"
    figure.savefig(path, dpi=70)
    plt.close(figure)
    return path


def _panel(prometheus: str, panel: dict[str, Any], axes: Axes) -> None:
    series = [one for target in panel["targets"] for one in _series(prometheus, target)]
    if not series:
        axes.text(0.5, 0.5, "nothing to show", ha="center", color="gray", transform=axes.transAxes)
    elif panel["type"] in ("stat", "gauge"):
        value = series[0][2][-1]
        axes.text(0.5, 0.45, f"{value:,.4g}", ha="center", fontsize=22, transform=axes.transAxes)
    else:
        axes.set_axis_on()
        for legend, times, values in series:
            axes.plot(times, values, label=legend)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        axes.set_xlabel("seconds ago", fontsize=7)
        if len(series) <= LEGENDS:
            axes.legend(fontsize=6, loc="upper left")


def _series(prometheus: str, target: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    expression = target["expr"]
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    now = time.time()
    question = urllib.parse.urlencode({"query": expression, "start": now - SPAN, "end": now, "step": 1})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{question}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    series = []
    for one in found:
        points = [(float(at) - now, float(value)) for at, value in one["values"]]
        kept = [(at, value) for at, value in points if math.isfinite(value)]
        if kept:
            legend = ", ".join(f"{value}" for name, value in one["metric"].items() if name not in ("job", "__name__"))
            series.append((legend or target.get("legendFormat", ""), [at for at, _ in kept], [v for _, v in kept]))
    return series


if __name__ == "__main__":
    url, directory = sys.argv[1], Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for file in sorted(DASHBOARDS.glob("*.json")):
        print(draw(url, file, directory))
