"""`nattrav metrics`: what the bundle counts, without a Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import Column, emit


def metrics(
    match: Annotated[str, typer.Option("--match", help="Only names that match this regular expression.")] = "",
) -> None:
    """Show every metric of the running bundle; of histograms their count and mean.

    Examples: nattrav metrics --match sip_calls;  nattrav metrics --match 'dropped|lost' -o csv
    """
    try:
        pattern = re.compile(match)
    except re.error as error:
        fail(f"--match {match}: {error}", exit_codes.USAGE)
    rows = [row for row in _rows(call("supervisor", "metrics")) if pattern.search(row["metric"])]
    columns: list[Column | str] = [
        "metric",
        Column("labels", format=lambda labels: " ".join(f"{name}={value}" for name, value in labels.items())),
        Column("value", right=True, format="{:g}".format),
        Column("mean", right=True, format=lambda mean: "" if mean is None else f"{mean:g}"),
    ]
    emit(rows, columns, empty="no metric has such a name")


def _rows(export: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from nattrav.metrics.registry import METRICS, Kind

    for name in sorted(export):
        metric = METRICS[name]
        for labels, value in export[name]:
            row: dict[str, Any] = {
                "metric": name,
                "labels": dict(zip(metric.labels, labels, strict=True)),
                "mean": None,
            }
            if metric.kind is Kind.HISTOGRAM:
                count = sum(value[:-1])
                yield row | {"value": count, "mean": value[-1] / count if count else None}
            else:
                yield row | {"value": value}
