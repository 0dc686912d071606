from __future__ import annotations

import re
from pathlib import Path

import pytest

from nattrav.metrics.registry import METRICS, SECTIONS, Kind, Metric


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_definitions_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"nattrav(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not re.search(r"_(ms|us|percent|milliseconds|count|sum|bucket)$", metric.name)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help
    assert not metric.help.endswith(".")
    assert not {"le", "quantile", "instance", "job"} & set(metric.labels)
    assert metric.name.removesuffix("_total") == metric.name or metric.name.removesuffix("_total") not in METRICS


def test_every_metric_is_defined_once() -> None:
    assert len(METRICS) == sum(len(section) for section in SECTIONS.values())


# The data plane does not count these yet.
NOT_YET = {
    "nattrav_relay_forward_latency_seconds",
    "nattrav_relay_rtcp_packets_total",
    "nattrav_relay_send_batches_total",
}


def test_every_metric_that_is_documented_is_counted_somewhere() -> None:
    root = Path(__file__).parents[2]
    sources = [path for room in ("nattrav", "relay", "stun") for path in (root / room).rglob("*.py")]
    text = "".join(path.read_text() for path in sources if path.name != "registry.py")
    # One figure after the other: nattrav_relay_rtp_{figure}_packets_total.
    uncounted = {name for name in METRICS if f'"{name}"' not in text and not name.startswith("nattrav_relay_rtp_")}
    assert uncounted <= NOT_YET
