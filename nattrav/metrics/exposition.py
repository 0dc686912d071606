"""From merged samples to what Prometheus reads: families of the client library, made at the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from nattrav.metrics.registry import METRICS, Kind, Metric
from nattrav.metrics.samples import Export


def families(export: Export) -> Iterator[Family]:
    """Give one family per exported metric, in the order of the registry. Names of other versions are left out."""
    for metric in METRICS.values():
        if metric.name in export:
            yield _family(metric, export[metric.name])


def _family(metric: Metric, children: list[list[Any]]) -> Family:
    match metric.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, number in children:
                counter.add_metric(labels, number)
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, number in children:
                gauge.add_metric(labels, number)
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            bounds = [*(f"{edge:g}" for edge in metric.buckets), "+Inf"]
            for labels, counts in children:
                *per_bucket, total = counts
                histogram.add_metric(labels, list(zip(bounds, accumulate(per_bucket), strict=True)), total)
            return histogram


class SampleCollector(Collector):
    """Collects an export that was gathered beforehand, beside the process's own collectors."""

    def __init__(self) -> None:
        self.export: Export = {}

    def collect(self) -> Iterator[Family]:
        """Give the families of the export now held."""
        return families(self.export)


def encode(export: Export, accept: str, *extra: Collector) -> tuple[bytes, str]:
    """Write an export in the format the scraper accepts; gives the text and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    collector = SampleCollector()
    collector.export = export
    registry.register(collector)
    for one in extra:
        registry.register(one)
    encoder: Callable[[CollectorRegistry], bytes]
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type
