from __future__ import annotations

from nattrav.metrics.presence import make_present
from nattrav.metrics.samples import Samples


def test_children_are_there_before_the_first_event_and_counts_are_kept() -> None:
    samples = Samples()
    samples.inc("nattrav_sip_keepalives_total", "options", "ok", by=7)
    make_present(samples, ["proxy", "relay", "stun"])
    assert samples.value("nattrav_sip_keepalives_total", "options", "ok") == 7
    assert [["options", "timeout"], 0] in samples.export()["nattrav_sip_keepalives_total"]
    assert "nattrav_stun_request_bytes_total" in samples.export()


def test_services_that_do_not_run_here_have_none() -> None:
    samples = Samples()
    make_present(samples, ["stun"])
    assert all(name.startswith("nattrav_stun") for name in samples.export())


def test_every_upstream_has_its_results_before_the_first_call() -> None:
    samples = Samples()
    make_present(samples, ["proxy"], ["trunk"])
    results = samples.export()["nattrav_sip_call_results_total"]
    assert [["local", "200"], 0] in results
    assert [["trunk", "timeout"], 0] in results
    assert samples.export()["nattrav_sip_call_setup_seconds"][0][1][-1] == 0
