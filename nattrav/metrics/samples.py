"""One service's counts: plain dictionaries, checked against the registry, cheap enough for every SIP message.

An export is JSON-able and can be merged: `{name: [[[label values…], number], …]}`; for a histogram the number is a
list of the counts per bucket (not cumulative, +Inf last) with the sum of the observed values at its end.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from nattrav.metrics.registry import METRICS, Kind, Metric

Labels = tuple[str, ...]
Export = dict[str, list[list[Any]]]


class Samples:
    """Counts by metric name and label values; an unknown name or a wrong number of labels raises at once."""

    def __init__(self, metrics: dict[str, Metric] | None = None) -> None:
        self._metrics = METRICS if metrics is None else metrics
        self._numbers: dict[str, dict[Labels, float]] = {}
        self._buckets: dict[str, dict[Labels, list[float]]] = {}

    def inc(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter (or a gauge)."""
        children = self._numbers.get(name)
        if children is None or labels not in children:
            children = self._child(name, labels)
        children[labels] += by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, or a counter that is counted elsewhere and copied here."""
        children = self._numbers.get(name)
        if children is None or labels not in children:
            children = self._child(name, labels)
        children[labels] = value

    def observe(self, name: str, value: float, *labels: str, times: int = 1) -> None:
        """Count one value (or `times` equal ones) into a histogram."""
        children = self._buckets.get(name)
        if children is None or labels not in children:
            children = self._histogram(name, labels)
        counts = children[labels]
        counts[bisect_left(self._metrics[name].buckets, value)] += times
        counts[-1] += value * times

    def set_buckets(self, name: str, counts: list[float], total: float, *labels: str) -> None:
        """Copy a histogram counted elsewhere: one count per bucket, +Inf last, and the sum of the values."""
        bounds = self._known(name).buckets
        if len(counts) != len(bounds) + 1:
            raise ValueError(f"{name} has {len(bounds) + 1} buckets, not {len(counts)}")
        self._histogram(name, labels)[labels] = [*counts, total]

    def clear(self, name: str) -> None:
        """Forget a metric's children, before a gauge with changing labels is set anew."""
        self._known(name)
        self._numbers.pop(name, None)
        self._buckets.pop(name, None)

    def value(self, name: str, *labels: str) -> float:
        """Give a counter's or gauge's number; 0 when it was never touched."""
        self._known(name)
        return self._numbers.get(name, {}).get(labels, 0)

    def export(self) -> Export:
        """Give everything as JSON-able data for the `metrics` verb."""
        numbers: Export = {
            name: [[list(labels), number] for labels, number in children.items()]
            for name, children in self._numbers.items()
        }
        for name, histograms in self._buckets.items():
            numbers[name] = [[list(labels), list(counts)] for labels, counts in histograms.items()]
        return numbers

    def merge(self, export: Export) -> None:
        """Add another service's export: counters, histograms and gauges of the same labels are summed."""
        for name, children in export.items():
            histogram = self._known(name).kind is Kind.HISTOGRAM
            for values, number in children:
                labels = tuple(values)
                if histogram:
                    own = self._histogram(name, labels)[labels]
                    if len(own) != len(number):
                        raise ValueError(f"{name} was exported with other buckets")
                    own[:] = [mine + other for mine, other in zip(own, number, strict=True)]
                else:
                    self.inc(name, *labels, by=number)

    def _known(self, name: str) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            raise KeyError(f"{name} is not in nattrav/metrics/registry.py")
        return metric

    def _checked(self, name: str, labels: Labels) -> Metric:
        metric = self._known(name)
        if len(labels) != len(metric.labels) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"{name} has the labels ({', '.join(metric.labels)}), not {labels!r}")
        return metric

    def _child(self, name: str, labels: Labels) -> dict[Labels, float]:
        if self._checked(name, labels).kind is Kind.HISTOGRAM:
            raise ValueError(f"{name} is a histogram: observe it")
        children = self._numbers.setdefault(name, {})
        children.setdefault(labels, 0)
        return children

    def _histogram(self, name: str, labels: Labels) -> dict[Labels, list[float]]:
        metric = self._checked(name, labels)
        if metric.kind is not Kind.HISTOGRAM:
            raise ValueError(f"{name} is a {metric.kind.value}: inc or set it")
        children = self._buckets.setdefault(name, {})
        children.setdefault(labels, [0] * (len(metric.buckets) + 2))
        return children
