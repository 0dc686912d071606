from __future__ import annotations

from nattrav.control.ng.request_rates import SOURCE_LIMIT, RequestRates


def test_a_burst_of_two_seconds_passes_and_then_the_rate() -> None:
    rates = RequestRates(5.0)
    assert [rates.admit("a", 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [rates.admit("a", 1.0) for _ in range(6)] == [True] * 5 + [False]
    assert rates.admit("b", 1.0)


def test_many_sources_do_not_fill_the_memory() -> None:
    rates = RequestRates(1.0)
    for number in range(3 * SOURCE_LIMIT):
        assert rates.admit(str(number), 0.0)
    assert len(rates._buckets) <= SOURCE_LIMIT
