"""The search for a binding's lifetime: an interval that holds the truth, in few rounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.lifetime import LifetimeSearch


def search(truth: float, shortest: float = 15.0, longest: float = 300.0) -> tuple[LifetimeSearch, int]:
    made, rounds = LifetimeSearch(shortest, longest), 0
    while silences := made.round():
        rounds += 1
        for silence in silences:
            made.tell(silence, silence < truth)
    return made, rounds


@given(st.floats(1.0, 290.0))
def test_the_interval_holds_the_truth_and_is_narrow(truth: float) -> None:
    made, rounds = search(truth)
    assert rounds <= 5
    assert made.upper is not None
    assert (made.lower or 0.0) < truth <= made.upper
    assert made.upper - (made.lower or 0.0) <= max(5.0, 0.1 * (made.lower or 0.0))


def test_a_binding_that_outlives_the_search_has_a_lower_bound_only() -> None:
    made, rounds = search(1000.0)
    assert (made.lower, made.upper, rounds) == (300.0, None, 1)
    assert made.keepalive == 25.0


@pytest.mark.parametrize(("truth", "low", "high"), [(30.0, 10.0, 15.0), (120.0, 25.0, 25.0)])
def test_keepalives_come_at_half_of_what_survives(truth: float, low: float, high: float) -> None:
    keepalive = search(truth)[0].keepalive
    assert keepalive is not None
    assert low <= keepalive <= high


def test_the_first_round_doubles_up_to_the_longest() -> None:
    assert LifetimeSearch(15, 300).round() == [15, 30, 60, 120, 240, 300]


def test_a_nat_that_contradicts_itself_gives_the_cautious_bound() -> None:
    made = LifetimeSearch(10, 40)
    made.round()
    made.tell(10, True)
    made.tell(40, True)
    made.tell(20, False)
    assert made.upper == 20
    assert made.lower is None or made.lower < 20
    assert made.expected_seconds() == 40
