from __future__ import annotations

from nattrav.control.ng.statistics import PEER_LIMIT, ControlStatistics


def test_requests_are_counted_by_peer_and_command() -> None:
    statistics = ControlStatistics()
    statistics.count("192.0.2.1", "offer", failed=False, seconds=0.25)
    statistics.count("192.0.2.1", "block media", failed=True, seconds=0.5)
    statistics.count(None, "offer", failed=False, seconds=0.0)
    found = statistics.export()
    first, local = found["proxies"]  # type: ignore[misc]
    assert first["proxy"] == "192.0.2.1"  # type: ignore[index,call-overload]
    assert (first["offercount"], first["offerduration"], first["errorcount"]) == (1, "0.250000", 1)  # type: ignore[index,call-overload]
    assert first["blkmediacount"] == 1  # type: ignore[index,call-overload]
    assert local["proxy"] == "local"  # type: ignore[index,call-overload]
    assert found["totaloffercount"] == 2


def test_peers_are_bounded() -> None:
    statistics = ControlStatistics()
    for number in range(5000):
        statistics.count(f"192.0.2.{number}", "ping", failed=False, seconds=0.0)
    proxies = statistics.export()["proxies"]
    assert isinstance(proxies, list)
    assert len(proxies) == PEER_LIMIT + 1
