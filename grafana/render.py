"""Draw each dashboard from a Prometheus, panel by panel, as one picture: `render.py URL FOLDER [--minutes 5]`.

Not Grafana's own look, but its panels, queries and units; for the documentation and for a look without a Grafana.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
VARIABLES = {"$__rate_interval": "20s", "$job": "nattrav", "$instance": ".*", "$pool": ".*", "$upstream": ".*"}
COLUMN, ROW = 0.75, 0.42
"""Inches of one grid column and one grid row."""
COLOURS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
PAPER, INK, FAINT = "#fbfbfd", "#22252b", "#8a8f98"


def ask(url: str, path: str, **parameters: object) -> list[dict[str, Any]]:
    """One call of Prometheus' API."""
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}") as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


def filled(expression: str) -> str:
    """An expression with the dashboard's variables filled in."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def legend(template: str, labels: dict[str, str]) -> str:
    """A series' name by the panel's legend format."""
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    template = re.sub(r"\{\{\w+\}\}", "", template).strip()
    return template or ", ".join(v for k, v in labels.items() if k not in ("__name__", "job", "instance"))


def readable(value: float, unit: str) -> str:
    """A number as people read it."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf"
    if unit == "percentunit":
        return f"{value:.1%}"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}"


def draw_panel(axes: Axes, panel: dict[str, Any], url: str, start: float, end: float) -> None:
    """Draw one panel."""
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    axes.set_facecolor("white")
    axes.set_title(panel["title"], loc="left", fontsize=9, color=INK, fontweight="bold")
    for side in axes.spines.values():
        side.set_color("#d9dce1")
    if panel["type"] in ("stat", "bargauge", "table"):
        _draw_values(axes, panel, url, end, unit)
        return
    axes.tick_params(labelsize=7, colors=FAINT)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.set_xlim(0, end - start)
    if panel["type"] == "heatmap":
        _draw_heatmap(axes, panel, url, (start, end), unit)
        return
    axes.grid(alpha=0.25)
    number, highest, lowest = 0, 0.0, 0.0
    for target in panel["targets"]:
        step = max(1, round((end - start) / 150))
        for series in ask(url, "query_range", query=filled(target["expr"]), start=start, end=end, step=step):
            points = [(float(at) - start, float(value)) for at, value in series["values"] if value != "NaN"]
            if not points:
                continue
            highest = max(highest, *(value for _, value in points))
            lowest = min(lowest, *(value for _, value in points))
            name = legend(target.get("legendFormat", ""), series["metric"])
            axes.plot(*zip(*points, strict=True), lw=1.1, color=COLOURS[number % 10], label=name[:20])
            number += 1
    axes.yaxis.set_major_formatter(lambda value, _: readable(value, unit))
    # Room above the curves for their names.
    top = (highest or (0.0 if lowest else 1.0)) * (1.2 + 0.09 * min(5, (number + 1) // 2))
    axes.set_ylim(lowest * 1.1 - 0.03 * (top - lowest), top)
    if number:
        axes.legend(
            *(part[:10] for part in axes.get_legend_handles_labels()),
            fontsize=6,
            ncols=2,
            frameon=False,
            loc="upper left",
        )
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color=FAINT, fontsize=8)


def _draw_heatmap(axes: Axes, panel: dict[str, Any], url: str, span: tuple[float, float], unit: str) -> None:
    """Shares of the buckets over time: the difference of each cumulative series to the one below it."""
    start, end = span
    step = max(1, round((end - start) / 40))
    (target,) = panel["targets"]
    found = ask(url, "query_range", query=filled(target["expr"]), start=start, end=end, step=step)
    edges = sorted(found, key=lambda series: float(series["metric"]["le"]))
    times = sorted({float(at) - start for series in edges for at, _ in series["values"]})
    if not times:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color=FAINT, fontsize=8)
        return
    below, rows = dict.fromkeys(times, 0.0), []
    for series in edges:
        here = {float(at) - start: float(value) for at, value in series["values"]}
        rows.append([max(0.0, here.get(at, 0.0) - below[at]) for at in times])
        below |= here
    axes.imshow(
        rows,
        origin="lower",
        aspect="auto",
        cmap="YlGnBu",
        interpolation="nearest",
        extent=(times[0], times[-1] + step, -0.5, len(rows) - 0.5),
    )
    names = [f"≤ {readable(float(series['metric']['le']), unit)}" for series in edges]
    axes.set_yticks(range(len(rows)), [name.replace("≤ inf", "more") for name in names], fontsize=6)
    axes.set_xlim(0, end - start)


def _draw_values(axes: Axes, panel: dict[str, Any], url: str, at: float, unit: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    shown = []
    for target in panel["targets"]:
        for series in ask(url, "query", query=filled(target["expr"]), time=at):
            value, name = float(series["value"][1]), legend(target.get("legendFormat", ""), series["metric"])
            if name or value or panel["type"] == "stat":
                shown.append((name, readable(value, unit)))
    if panel["type"] == "stat" and shown:
        axes.text(
            0.5, 0.42, shown[0][1], ha="center", va="center", transform=axes.transAxes, fontsize=19, color="#1a7f4b"
        )
        return
    for row, (name, value) in enumerate(shown[:8]):
        height = 0.85 - row * 0.12
        axes.text(0.04, height, name or "–", transform=axes.transAxes, fontsize=8, color=INK)
        axes.text(0.96, height, value, transform=axes.transAxes, fontsize=8, ha="right", color="#1a7f4b")
    if not shown:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes, color=FAINT, fontsize=8)


def draw(path: Path, url: str, target: Path, minutes: float) -> None:
    """Draw one dashboard into one PNG."""
    board = json.loads(path.read_text())
    end = time.time()
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    figure = plt.figure(figsize=(24 * COLUMN * 0.78, rows * ROW * 0.78), facecolor=PAPER, dpi=80)
    figure.suptitle(board["title"], x=0.01, y=1 - 0.2 / rows, ha="left", fontsize=13, color=INK)
    for panel in panels:
        at = panel["gridPos"]
        left, top = at["x"] / 24, (at["y"] + 1) / rows
        width, height = at["w"] / 24, at["h"] / rows
        axes = figure.add_axes((left + 0.04, 1 - top - height + 0.9 / rows, width - 0.05, height - 2.0 / rows))
        draw_panel(axes, panel, url, end - minutes * 60, end)
    for panel in board["panels"]:
        if panel["type"] == "row":
            figure.text(0.012, 1 - (panel["gridPos"]["y"] + 1.1) / rows, panel["title"], fontsize=9, color=FAINT)
    figure.savefig(target / f"dashboard-{path.stem}.png")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((HERE / "dashboards").glob("*.json")):
        draw(path, chosen.url, chosen.folder, chosen.minutes)


if __name__ == "__main__":
    main()
