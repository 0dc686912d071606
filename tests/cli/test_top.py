from __future__ import annotations

import pytest

from nattrav.cli.app import run
from nattrav.cli.top import WIDTH, Rates, screen
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


CALLS = [
    {"call_id": "a", "from": "1", "to": "2", "state": "confirmed", "duration": 9, "age": 9, "media": "both ways",
     "packets": 900, "lost": 1, "dropped": 0, "loss": 0.02, "mos": 4.1},
    {"call_id": "b", "from": "3", "to": "4", "state": "confirmed", "duration": 5, "age": 5, "media": "both ways",
     "packets": 500, "lost": 0, "dropped": 7, "loss": 0.15, "mos": 3.1},
    {"call_id": "c", "from": "5", "to": "6", "state": "early", "duration": None, "age": 1, "media": "not relayed",
     "packets": 0, "lost": 0, "dropped": 0, "loss": None, "mos": None},
]  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "first"), [("packets", "1"), ("age", "1"), ("lost", "1"), ("dropped", "3"), ("loss", "3"), ("mos", "3")]
)
async def test_calls_are_sorted_the_worst_first(sort: str, first: str) -> None:
    data, _ = await take(FakeServices(), None, 0.0, mask=False)
    lines = screen({**data, "calls": CALLS}, 15, sort).splitlines()
    heading = next(at for at, line in enumerate(lines) if line.startswith("from"))
    assert lines[heading + 1].split()[0] == first
    assert all(len(line) <= WIDTH for line in lines)


def test_rates_are_packets_between_two_readings() -> None:
    rates = Rates()
    rates.added({"calls": CALLS}, 10.0)
    later = [{**one, "packets": one["packets"] + 100} for one in CALLS]  # type: ignore[operator]
    assert [one["rate"] for one in rates.added({"calls": later}, 12.0)["calls"]] == [50.0, 50.0, 50.0]
    assert rates.added({"calls": [{**CALLS[0], "call_id": "new"}]}, 14.0)["calls"][0]["rate"] is None


async def test_no_calls_are_said_in_words() -> None:
    data, _ = await take(FakeServices(), None, 0.0, mask=False)
    idle = {**data, "calls": [], "tiles": {**data["tiles"], "sessions": 0.0}}
    assert screen(idle, 15, "packets").endswith("no calls")
    driven = {**idle, "tiles": {**data["tiles"], "sessions": 3.0}}
    assert screen(driven, 15, "packets").endswith("no calls; 3 relay sessions of others: nattrav relay top")


def test_an_unknown_order_is_a_usage_error() -> None:
    assert run(["top", "--sort", "beauty"]) == 2
