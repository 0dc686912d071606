from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nattrav.metrics.exposition import encode
from nattrav.metrics.registry import METRICS, Kind
from nattrav.metrics.samples import Samples


def every_metric_once() -> Samples:
    samples = Samples()
    for metric in METRICS.values():
        labels = ["x"] * len(metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            samples.observe(metric.name, 0.02, *labels)
        else:
            samples.inc(metric.name, *labels, by=2)
    return samples


def test_every_metric_is_exposed_under_its_own_name() -> None:
    text, content_type = encode(every_metric_once().export(), "")
    assert content_type.startswith("text/plain")
    names = {sample.name for family in text_string_to_metric_families(text.decode()) for sample in family.samples}
    for metric in METRICS.values():
        assert (metric.name + "_count" if metric.kind is Kind.HISTOGRAM else metric.name) in names
    assert not any(name.endswith("_created") for name in names)


def test_histogram_buckets_are_cumulative() -> None:
    samples = Samples()
    for value in (0.0005, 0.002, 0.002, 50.0):
        samples.observe("nattrav_loop_lag_seconds", value, "proxy")
    text = encode(samples.export(), "")[0].decode()
    assert 'nattrav_loop_lag_seconds_bucket{le="0.001",role="proxy"} 1.0' in text
    assert 'nattrav_loop_lag_seconds_bucket{le="0.005",role="proxy"} 3.0' in text
    assert 'nattrav_loop_lag_seconds_bucket{le="+Inf",role="proxy"} 4.0' in text
    assert 'nattrav_loop_lag_seconds_count{role="proxy"} 4.0' in text


def test_open_metrics_is_given_to_those_who_ask_for_it() -> None:
    text, content_type = encode(every_metric_once().export(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.interop
def test_promtool_finds_nothing_to_complain_about() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt install prometheus")
    text = encode(every_metric_once().export(), "")[0]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
