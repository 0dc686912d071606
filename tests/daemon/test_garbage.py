from __future__ import annotations

import gc
import weakref

import pytest
import trio

from nattrav.daemon import garbage
from nattrav.daemon.garbage import QUIET, no_long_pauses, search_in_quiet, settled_memory


def test_full_collections_stop_and_young_ones_go_on() -> None:
    before = gc.get_threshold()
    try:
        no_long_pauses()
        assert gc.isenabled()
        full = gc.get_stats()[2]["collections"]
        kept = [[number] for number in range(300_000)]
        assert gc.get_stats()[2]["collections"] == full
        assert len(kept) == 300_000
    finally:
        gc.set_threshold(*before)


class Ring:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_found_when_it_is_quiet_and_not_under_load(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "LOOK", look := 2.0)
    received = 0
    with settled_memory():
        assert not gc.isenabled()
        gone = weakref.ref(Ring())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(search_in_quiet, lambda: received)
            await trio.sleep(look / 2)
            received += int(QUIET * look) + 1
            await trio.sleep(look)
            assert gone() is not None
            await trio.sleep(look)
            assert gone() is None
            nursery.cancel_scope.cancel()
    assert gc.isenabled()
