"""One heap of deadlines."""

from __future__ import annotations

from nattrav.proxy.timers import Timed, Timers


class Bell(Timed):
    def __init__(self, rung: list[tuple[str, float]], name: str) -> None:
        super().__init__()
        self.rung, self.name = rung, name

    def expire(self, now: float) -> None:
        self.rung.append((self.name, now))


def test_deadlines_expire_in_their_order() -> None:
    rung: list[tuple[str, float]] = []
    timers = Timers()
    timers.set(Bell(rung, "late"), 2.0)
    timers.set(Bell(rung, "early"), 1.0)
    timers.expire(3.0)
    assert rung == [("early", 3.0), ("late", 3.0)]


def test_a_cancelled_deadline_never_expires() -> None:
    rung: list[tuple[str, float]] = []
    timers, bell = Timers(), Bell(rung, "bell")
    timers.set(bell, 1.0)
    bell.deadline = None
    timers.expire(5.0)
    assert rung == []
    assert len(timers) == 0


def test_a_later_deadline_replaces_an_earlier_one_without_a_second_entry() -> None:
    rung: list[tuple[str, float]] = []
    timers, bell = Timers(), Bell(rung, "bell")
    timers.set(bell, 1.0)
    timers.set(bell, 4.0)
    assert len(timers) == 1
    timers.expire(2.0)
    assert rung == []
    assert timers.next() == 4.0
    timers.expire(4.0)
    assert rung == [("bell", 4.0)]


def test_an_earlier_deadline_replaces_a_later_one() -> None:
    rung: list[tuple[str, float]] = []
    timers, bell = Timers(), Bell(rung, "bell")
    timers.set(bell, 9.0)
    timers.set(bell, 1.0)
    timers.expire(1.0)
    timers.expire(9.0)
    assert rung == [("bell", 1.0)]


def test_setting_and_cancelling_over_and_over_leaves_no_entries_behind() -> None:
    timers, bell = Timers(), Bell([], "bell")
    for step in range(1000):
        timers.set(bell, step + 10.0)
        bell.deadline = None
        timers.expire(float(step))
    timers.expire(5000.0)
    assert len(timers) == 0
