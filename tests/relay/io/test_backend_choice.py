"""Which backend a plane takes, and why."""

from __future__ import annotations

import pytest

from nattrav.net import uring
from relay.io import pump
from relay.io.pump import BackendRefused, open_plane


def test_portable_is_taken_when_asked_for() -> None:
    assert pump.choose_backend("portable") == ("portable", "asked for")


def test_auto_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "availability", lambda: "the sysctl kernel.io_uring_disabled is 2; set it to 0")
    plane = open_plane(1, "auto")
    assert plane.backend == "portable"
    assert "io_uring_disabled is 2" in plane.backend_reason


def test_auto_falls_back_also_when_a_ring_of_full_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise uring.Unavailable(12, "not enough lockable memory")

    monkeypatch.setattr("relay.io.uring.Ring", refuse)
    monkeypatch.setattr(uring, "availability", lambda: None)
    plane = open_plane(2, "auto")
    plane.start()
    plane.stop()
    assert plane.backend == "portable"
    assert "lockable memory" in plane.backend_reason
    with pytest.raises(BackendRefused, match="lockable memory"):
        open_plane(1, "io_uring").start()


def test_io_uring_asked_for_and_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uring, "availability", lambda: "this kernel has no io_uring")
    with pytest.raises(BackendRefused, match="no io_uring"):
        open_plane(1, "io_uring")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="portable"):
        open_plane(1, "epoll")
