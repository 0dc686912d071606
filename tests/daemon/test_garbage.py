from __future__ import annotations

import gc

from nattrav.daemon.garbage import no_long_pauses


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
