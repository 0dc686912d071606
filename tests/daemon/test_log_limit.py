from __future__ import annotations

from nattrav.daemon.log_limit import EVENTS, MINUTE, SOURCES, LeftOut, Limit


def test_each_source_has_its_share_and_all_together_ten() -> None:
    limit = Limit()
    written = [limit.admit("banned", str(number % 100), "info", 2, 0.0) for number in range(1000)]
    assert sum(written) == 2 * SOURCES
    assert list(limit.ended(MINUTE - 0.1)) == []
    assert list(limit.ended(MINUTE)) == [LeftOut("banned", "info", 1000 - 2 * SOURCES)]


def test_a_minute_begins_with_its_first_line() -> None:
    limit = Limit()
    assert limit.admit("a", "", "info", 1, 0.0)
    assert limit.admit("b", "", "info", 1, 50.0)
    assert not limit.admit("a", "", "info", 1, 59.0)
    assert list(limit.ended(61.0)) == [LeftOut("a", "info", 1)]
    assert limit.admit("a", "", "info", 1, 61.0)
    assert not limit.admit("b", "", "info", 1, 61.0)
    assert list(limit.ended(111.0)) == [LeftOut("b", "info", 1)]


def test_minutes_without_anything_left_out_say_nothing() -> None:
    limit = Limit()
    assert limit.admit("a", "", "info", 1, 0.0)
    assert list(limit.ended(100.0)) == []
    assert list(limit.ended(200.0)) == []


def test_what_is_kept_is_bounded() -> None:
    limit = Limit()
    for number in range(EVENTS * 3):
        limit.admit(str(number), "", "info", 1, 0.0)
    assert len(limit._minutes) <= EVENTS + 1
