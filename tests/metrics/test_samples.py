from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.metrics.samples import Samples


def test_counters_and_gauges_are_kept_by_label_values() -> None:
    samples = Samples()
    samples.inc("nattrav_sip_requests_total", "rx", "INVITE", "udp")
    samples.inc("nattrav_sip_requests_total", "rx", "INVITE", "udp", by=2)
    samples.set("nattrav_ready", 1)
    assert samples.value("nattrav_sip_requests_total", "rx", "INVITE", "udp") == 3
    assert samples.export() == {
        "nattrav_sip_requests_total": [[["rx", "INVITE", "udp"], 3]],
        "nattrav_ready": [[[], 1]],
    }


def test_a_histogram_counts_values_at_or_below_its_bounds() -> None:
    samples = Samples()
    for value in (0.001, 0.0011, 99.0):
        samples.observe("nattrav_loop_lag_seconds", value, "sip")
    ((labels, counts),) = samples.export()["nattrav_loop_lag_seconds"]
    assert labels == ["sip"]
    assert counts[:2] == [1, 1]
    assert counts[-2] == 1
    assert counts[-1] == pytest.approx(99.0021)


def test_unknown_names_and_wrong_labels_raise_at_once() -> None:
    samples = Samples()
    with pytest.raises(KeyError, match="registry"):
        samples.inc("nattrav_typo_total")
    with pytest.raises(ValueError, match="direction, method, transport"):
        samples.inc("nattrav_sip_requests_total", "rx")
    with pytest.raises(ValueError, match="observe"):
        samples.inc("nattrav_loop_lag_seconds", "sip")
    with pytest.raises(ValueError, match="gauge"):
        samples.observe("nattrav_ready", 1.0)
    with pytest.raises(ValueError, match="buckets"):
        samples.set_buckets("nattrav_relay_rtt_seconds", [1.0], 1.0)
    assert samples.export() == {}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100)), max_size=20))
def test_merging_two_halves_equals_counting_together(values: list[tuple[str, float]]) -> None:
    together, first, second = Samples(), Samples(), Samples()
    for index, (role, value) in enumerate(values):
        for samples in (together, (first, second)[index % 2]):
            samples.observe("nattrav_loop_lag_seconds", value, role)
            samples.inc("nattrav_worker_restarts_total", role)
    merged = Samples()
    for half in (first, second):
        merged.merge(json.loads(json.dumps(half.export())))
    expected = together.export()
    found = merged.export()
    assert found.keys() == expected.keys()
    for name, children in expected.items():
        for labels, number in children:
            ((same),) = [other for label, other in found[name] if label == labels]
            assert same == pytest.approx(number)
