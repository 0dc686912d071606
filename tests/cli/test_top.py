from __future__ import annotations

from nattrav.cli.top import WIDTH, screen
from nattrav.daemon.page.snapshot import take
from tests.daemon.page.fake_services import FakeServices


async def test_a_screen_fits_eighty_columns_and_shows_no_escapes() -> None:
    data, scrape = await take(FakeServices(), None, 0.0, mask=False)
    data, _ = await take(FakeServices(), scrape, 2.0, mask=False)
    data["calls"] *= 30
    text = screen(data, 15, "packets")
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in text
    assert lines[0] == "nattrav on edge-1: ready, up 1m 2s"
    assert "ports default 192.0.2.1: [------------] 4 used, 0 resting of 10000" in lines
    assert sum("both ways" in line for line in lines) == 15
    assert lines[-1] == "… and 15 more"
