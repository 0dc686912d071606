"""Token buckets: how much, for whom, and that nothing grows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress, to_row
from stun.admission import UNLIMITED, Admission, Buckets, Limits

KEYS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def rows(*hosts: str) -> NDArray[np.uint8]:
    raw = b"".join(to_row(TransportAddress(host, 5000)) for host in hosts)
    return np.frombuffer(raw, np.uint8).reshape(len(hosts), 32)


def granted(admission: Admission, now: float, *hosts: str) -> int:
    mask = admission.admit(rows(*hosts), ":" in hosts[0], now)
    return len(hosts) if mask is None else int(np.count_nonzero(mask))


def test_X1_a_source_has_its_burst_then_its_rate() -> None:
    admission = Admission(Limits(source_rate=50, source_burst=200), KEYS)
    assert granted(admission, 100.0, *["192.0.2.1"] * 300) == 200
    assert granted(admission, 100.0, "192.0.2.1") == 0
    assert granted(admission, 101.0, *["192.0.2.1"] * 300) == 50
    assert granted(admission, 200.0, *["192.0.2.1"] * 300) == 200


def test_X1_neighbours_are_not_punished_for_each_other() -> None:
    admission = Admission(Limits(), KEYS)
    assert granted(admission, 100.0, *["192.0.2.1"] * 300) == 200
    assert granted(admission, 100.0, "192.0.2.2", "198.51.100.7") == 2


def test_X1_a_network_has_a_limit_of_its_own() -> None:
    admission = Admission(Limits(network_rate=10, network_burst=100), KEYS)
    hosts = [f"192.0.2.{i}" for i in range(200)]
    assert granted(admission, 100.0, *hosts) == 100
    assert granted(admission, 100.0, "198.51.100.1") == 1


def test_X1_ipv6_sources_count_by_their_64() -> None:
    admission = Admission(Limits(source_burst=10), KEYS)
    assert granted(admission, 100.0, *[f"2001:db8::{i:x}" for i in range(1, 21)]) == 10
    assert granted(admission, 100.0, "2001:db8:0:1::1") == 1


def test_exempt_prefixes_pass_the_source_limits_but_not_the_guarded_one() -> None:
    admission = Admission(Limits(source_burst=5, guarded_burst=3), KEYS)
    assert granted(admission, 100.0, *["127.0.0.9"] * 50) == 50
    assert granted(admission, 100.0, *["::1"] * 50) == 50
    local = TransportAddress("127.0.0.9", 5000)
    assert [admission.admit_guarded(local, 100.0) for _ in range(4)] == [True, True, True, False]


def test_E9_an_empty_guarded_bucket_stays_shut_long_enough_for_clients_that_repeat() -> None:
    admission = Admission(Limits(guarded_rate=20, guarded_burst=5, guarded_pause=10), KEYS)
    source = TransportAddress("192.0.2.1", 5000)
    assert sum(admission.admit_guarded(source, 100.0) for _ in range(20)) == 5
    assert not admission.admit_guarded(source, 109.9)
    assert admission.admit_guarded(source, 110.1)
    assert admission.admit_guarded(TransportAddress("2001:db8::1", 5000), 100.0)


def test_the_whole_server_has_a_ceiling_where_one_is_set() -> None:
    admission = Admission(Limits(total_rate=100), KEYS)
    hosts = [f"10.{i >> 8}.{i & 255}.1" for i in range(300)]
    assert granted(admission, 100.0, *hosts) == 100
    assert granted(admission, 100.5, *hosts) == 50


def test_without_limits_nothing_is_counted() -> None:
    admission = Admission(UNLIMITED, KEYS)
    assert granted(admission, 100.0, *["192.0.2.1"] * 1000) == 1000
    assert admission.admit_guarded(TransportAddress("192.0.2.1", 5000), 100.0)
    assert admission.in_use(100.0) == 0


def test_one_sender_at_a_time_draws_from_the_same_bucket() -> None:
    admission = Admission(Limits(source_burst=3), KEYS)
    source = TransportAddress("192.0.2.1", 5000)
    assert [admission.admit_one(source, 100.0) for _ in range(4)] == [True, True, True, False]
    assert granted(admission, 100.0, "192.0.2.1") == 0


def test_B4_X1_the_table_stays_the_same_size_under_a_million_sources() -> None:
    admission = Admission(Limits(), KEYS)
    before = admission.size()
    generator = np.random.default_rng(1)
    for step in range(20):
        flood = np.zeros((512, 32), np.uint8)
        flood[:, 4:8] = generator.integers(1, 223, (512, 4), np.uint8)
        admission.admit(flood, False, 100.0 + step * 0.01)
    assert admission.size() == before
    assert 0 < admission.in_use(100.2) <= before
    assert granted(admission, 100.3, *["198.51.100.7"] * 20) == 20


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 0.5)), min_size=1, max_size=60), st.integers(1, 12))
def test_a_batch_is_granted_what_one_by_one_would_be(steps: list[tuple[int, float]], size: int) -> None:
    keys = np.array([[key for key, _ in steps]], np.uint64)
    batched, single = Buckets([(5.0, 4.0)], KEYS[0]), Buckets([(5.0, 4.0)], KEYS[0])
    now = 1000.0
    for start in range(0, keys.shape[1], size):
        now += steps[start][1]
        part = keys[:, start : start + size]
        mask = batched.take(part, now)
        together = np.ones(part.shape[1], np.bool_) if mask is None else mask
        alone = [single.take(part[:, i : i + 1], now) is None for i in range(part.shape[1])]
        assert together.tolist() == alone


def test_a_flood_from_a_million_spoofed_sources_costs_an_honest_client_no_reply() -> None:
    admission = Admission(Limits(exempt=()), (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F))
    numbers = np.random.default_rng(1)
    peers = np.zeros((512, 32), np.uint8)
    honest = np.frombuffer(to_row(TransportAddress("192.0.2.77", 5000)), np.uint8)
    asked = answered = 0
    for batch in range(2000):
        # 200 000 requests a second for five seconds; in every twentieth batch one of somebody real.
        peers[:, 4:8] = (
            numbers.integers(0x0A400000, 0x0A400000 + 1_000_000, 512, np.uint32)
            .astype(">u4")
            .view(np.uint8)
            .reshape(-1, 4)
        )
        if batch % 20 == 0:
            peers[300] = honest
        granted = admission.admit(peers, False, batch * 512 / 200_000)
        if batch % 20 == 0:
            asked += 1
            answered += granted is None or bool(granted[300])
    assert (asked, answered) == (100, 100)
    assert admission.size() == 65536
