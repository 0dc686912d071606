from __future__ import annotations

import json

from nattrav.daemon.page.snapshot import Scrape, mask_digits, quantile, rate, take
from nattrav.metrics.samples import Samples
from tests.daemon.page.fake_services import FakeServices


async def test_a_snapshot_joins_calls_with_their_media_and_hides_numbers() -> None:
    services = FakeServices()
    first, scrape = await take(services, None, 100.0, mask=True)
    (call,) = first["calls"]
    assert (call["from"], call["media"], call["packets"]) == ("+••••••••••78", "both ways", 6200)
    assert first["tiles"]["packets_per_second"] is None
    services.condition = "one_way"
    second, _ = await take(services, scrape, 102.0, mask=False)
    assert second["calls"][0]["from"] == "+498912345678"
    assert second["calls"][0]["media"] == "one_way"
    assert second["tiles"]["packets_per_second"] == 500.0
    assert second["tiles"]["ports_share"] == 0.0004
    assert second["tiles"]["mos"] == 3.25
    assert json.dumps(second)


async def test_services_that_do_not_answer_leave_empty_lists() -> None:
    class Silent(FakeServices):
        async def gather(self, *args: object, **more: object) -> dict[str, object]:  # type: ignore[override]
            return {}

    data, _ = await take(Silent(), None, 0.0, mask=True)
    assert data["calls"] == data["registrations"] == data["pools"] == []


def test_a_counter_that_went_back_is_no_negative_rate() -> None:
    before, after = Samples(), Samples()
    before.inc("nattrav_relay_packets_total", "rx", "userspace", by=500)
    after.inc("nattrav_relay_packets_total", "rx", "userspace", by=20)
    assert rate(Scrape(2.0, after), Scrape(1.0, before), "nattrav_relay_packets_total") == 0


def test_a_quantile_without_values_is_unknown() -> None:
    assert quantile(Samples(), "nattrav_relay_stream_mos", 0.1) is None


def test_masking_leaves_short_numbers_and_addresses() -> None:
    assert mask_digits("1234@192.0.2.1") == "1234@192.0.2.1"
    assert mask_digits("sip:03012345678@x") == "sip:•••••••••78@x"
