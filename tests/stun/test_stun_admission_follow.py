"""Limits change while the server answers: what a source has used up stays used up."""

from __future__ import annotations

from nattrav.net.address import TransportAddress
from stun.admission import UNLIMITED, Admission, Limits

SOURCE = TransportAddress("198.51.100.7", 4000)


def admitted(admission: Admission, tries: int, now: float) -> int:
    return sum(admission.admit_one(SOURCE, now) for _ in range(tries))


def test_a_source_gets_what_the_new_limits_give() -> None:
    admission = Admission(Limits(source_rate=1, source_burst=5), [3, 5])
    assert admitted(admission, 20, 100.0) == 5
    admission.follow(Limits(source_rate=10, source_burst=50))
    assert admitted(admission, 20, 100.0) == 0
    assert admitted(admission, 100, 200.0) == 50


def test_limits_can_be_lifted_and_set_again() -> None:
    admission = Admission(Limits(source_rate=1, source_burst=5), [3, 5])
    admission.follow(UNLIMITED)
    assert admitted(admission, 500, 1.0) == 500
    admission.follow(Limits(source_rate=1, source_burst=5))
    assert admitted(admission, 500, 2.0) <= 5


def test_exempt_prefixes_follow() -> None:
    admission = Admission(Limits(source_rate=1, source_burst=1, exempt=()), [3, 5])
    assert admitted(admission, 5, 1.0) == 1
    admission.follow(Limits(source_rate=1, source_burst=1, exempt=("198.51.100.0/24",)))
    assert admitted(admission, 5, 1.0) == 5
