"""Panels as data, and how they become Grafana's JSON.

A dashboard is a `Board`: rows of `Panel`s. Twenty-four grid columns are shared out evenly among the panels of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
SELECT = 'job="$job",instance=~"$instance"'
COLUMNS = 24


@dataclass(frozen=True)
class Query:
    """One PromQL expression; `%s` in it stands for the job and instance matchers."""

    expr: str
    legend: str = ""
    instant: bool = False

    @property
    def promql(self) -> str:
        return self.expr.replace("%s", SELECT)


@dataclass(frozen=True)
class Panel:
    """One panel. `kind` is timeseries, stat, bargauge, heatmap or table; `unit` one of Grafana's unit ids."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    thresholds: Sequence[tuple[float | None, str]] = ()
    maximum: float | None = None
    stacked: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: its stable uid is `nattrav-<name>`."""

    name: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    pools: bool = False
    upstreams: bool = False
    height: int = 8


def build(board: Board) -> models.Dashboard:
    """Lay out one dashboard with its variables, links and annotations."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(f"nattrav-{board.name}")
        .description(board.description)
        .tags(["nattrav"])
        .editable()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("nattrav")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["nattrav"])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_query_variable("job", "Job", "label_values(nattrav_build_info, job)"))
        .with_variable(
            _query_variable("instance", "Instance", 'label_values(nattrav_build_info{job="$job"}, instance)', many=True)
        )
    )
    if board.pools:
        builder.with_variable(
            _query_variable("pool", "Port pool", 'label_values(nattrav_relay_ports{job="$job"}, pool)', many=True)
        )
    if board.upstreams:
        builder.with_variable(
            _query_variable(
                "upstream", "Upstream", 'label_values(nattrav_sip_upstream_up{job="$job"}, upstream)', many=True
            )
        )
    for name, expr, colour in (
        ("Version", 'changes(nattrav_build_info{job="$job"}[2m]) > 0', "blue"),
        ("Draining", 'nattrav_draining{job="$job",instance=~"$instance"} == 1', "orange"),
    ):
        builder.annotation(
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expr)
        )
    number, top = 1, 0
    for title, panels in board.rows:
        builder.with_row(dashboard.Row(title).id(number).grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        number, top = number + 1, top + 1
        edges = [COLUMNS * index // len(panels) for index in range(len(panels) + 1)]
        height = 5 if all(panel.kind == "stat" for panel in panels) else board.height
        for index, panel in enumerate(panels):
            left, right = edges[index : index + 2]
            position = models.GridPos(h=height, w=right - left, x=left, y=top)
            builder.with_panel(_panel(panel).id(number).grid_pos(position))
            number += 1
        top += height
    return builder.build()


def _query_variable(name: str, label: str, query: str, *, many: bool = False) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return variable.multi(True).include_all(True).all_value(".*") if many else variable


def _panel(panel: Panel):  # type: ignore[no-untyped-def]
    builder = _KINDS[panel.kind](panel)
    builder.title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE)
    if panel.maximum is not None:
        builder.min(0).max(panel.maximum)
    if panel.thresholds:
        steps = [models.Threshold(value=value, color=color) for value, color in panel.thresholds]
        builder.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for letter, query in zip("ABCDEFGHIJ", panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.promql).datasource(SOURCE)
        if query.legend:
            target.legend_format(query.legend)
        if query.instant or panel.kind in ("stat", "bargauge", "table"):
            target.instant().format(
                prometheus_models.PromQueryFormat.TABLE
                if panel.kind == "table"
                else prometheus_models.PromQueryFormat.TIME_SERIES
            )
        else:
            target.range()
        if panel.kind == "heatmap":
            target.format(prometheus_models.PromQueryFormat.HEATMAP)
        builder.with_target(target)
    return builder


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs([])
    )
    builder = timeseries.Panel().fill_opacity(10).line_width(1).legend(legend)
    if panel.stacked:
        builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")).fill_opacity(40)
    return builder


_KINDS = {
    "timeseries": _timeseries,
    "stat": lambda panel: stat.Panel().graph_mode(common_models.BigValueGraphMode.NONE),
    "bargauge": lambda panel: bargauge.Panel().orientation(common_models.VizOrientation.HORIZONTAL),
    "heatmap": lambda panel: heatmap.Panel(),
    "table": lambda panel: table.Panel(),
}
