from __future__ import annotations

from nattrav.control.ng.cookie_cache import CookieCache


def test_a_reply_lives_between_thirty_and_sixty_seconds() -> None:
    cache = CookieCache()
    cache.store(b"a", b"1", 0.0)
    assert cache.find(b"a", 29.9) == b"1"
    cache.store(b"b", b"2", 29.9)
    assert cache.find(b"a", 30.1) == b"1"
    assert cache.find(b"a", 59.9) == b"1"
    assert cache.find(b"a", 60.2) is None
    assert cache.find(b"b", 60.2) is None


def test_an_old_generation_is_served_but_not_promoted() -> None:
    cache = CookieCache()
    cache.store(b"a", b"1", 0.0)
    assert cache.find(b"a", 31.0) == b"1"
    assert cache.find(b"a", 62.0) is None


def test_after_a_long_silence_nothing_is_left() -> None:
    cache = CookieCache()
    cache.store(b"a", b"1", 0.0)
    assert cache.find(b"a", 1000.0) is None
    assert len(cache) == 0


def test_it_is_bounded_by_entries() -> None:
    cache = CookieCache(entries=10)
    for number in range(1000):
        cache.store(b"%d" % number, b"x", 1.0)
    assert len(cache) <= 10
    assert cache.find(b"999", 1.0) == b"x"


def test_it_is_bounded_by_octets() -> None:
    cache = CookieCache(octets=10_000)
    for number in range(100):
        cache.store(b"%d" % number, b"x" * 1000, 1.0)
    assert len(cache) <= 10
