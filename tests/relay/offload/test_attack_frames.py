"""The kernel program and frames that are not what they seem: each is left to the network stack, or counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.programs import Action
from relay.offload import layout
from relay.offload.io import loader
from relay.offload.layout import Way
from tests.natlab.namespaces import execute
from tests.relay.offload.odd_frames import MARTIANS, odd
from tests.relay.offload.trials import (
    ALICE,
    LOCAL,
    LOCAL6,
    RTP,
    SOURCE,
    SOURCE6,
    Bench,
)
from tests.relay.offload.wires import NEAR, PARTIES, PARTIES6, RELAY


def test_odd_frames_are_left_to_the_network_stack_untouched(bench: Bench) -> None:
    for what, frame in odd(bench.frame, bench.frame6).items():
        assert bench.left(frame) in (None, "not_sound"), what


@pytest.mark.parametrize("host", MARTIANS)
def test_a_source_that_is_not_the_latched_one_gets_nothing_forwarded(bench: Bench, host: str) -> None:
    assert bench.left(bench.frame.but(source=TransportAddress(host, ALICE.port))) == "other_source"


@pytest.mark.parametrize("mac", [b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x33\x33\0\0\0\1", b"\x02\0\0\0\0\x99"])
def test_frames_for_everybody_or_for_another_host_are_not_ours(bench: Bench, mac: bytes) -> None:
    assert bench.left(bench.frame.but(mac=mac)) == "foreign_device"
    assert bench.left(bench.frame6.but(mac=mac)) == "foreign_device"


@pytest.mark.parametrize("ttl", [0, 1, 255])
def test_hop_limits_are_a_new_datagrams(bench: Bench, ttl: int) -> None:
    assert bench.sent(bench.frame.but(ttl=ttl)).ttl == 64
    assert bench.sent(bench.frame6.but(ttl=ttl)).ttl == 64


@pytest.mark.parametrize("more", [1, 4, 100, 1000])
def test_octets_beyond_the_datagram_do_not_travel_uncounted(bench: Bench, more: int) -> None:
    assert bench.left(bench.frame.octets() + bytes(more)) == "not_sound"
    assert bench.left(bench.frame6.octets() + bytes(more)) == "not_sound"


def test_what_fills_the_shortest_frame_up_is_no_fault(bench: Bench) -> None:
    shortest = bench.frame.but(payload=RTP[:12]).octets()
    assert len(shortest) < 60
    assert bench.run(shortest.ljust(60, b"\0")).action == Action.TX
    bench.reset()
    assert bench.left(shortest.ljust(61, b"\0")) == "not_sound"


@pytest.mark.parametrize(
    "target", [SOURCE, LOCAL, TransportAddress(RELAY, 9), TransportAddress("127.0.0.1", 9)], ids=str
)
def test_two_flows_never_feed_each_other_in_the_kernel(bench: Bench, target: TransportAddress) -> None:
    looped = Way(LOCAL, ALICE, SOURCE, target, 1400, 1000, 0)
    bench.kernel.put(layout.key(LOCAL), layout.flow(looped, 0))
    assert bench.left(bench.frame) == "no_way"


def test_ipv6_does_not_loop_either(bench: Bench) -> None:
    looped = Way(LOCAL6, bench.frame6.source, SOURCE6, SOURCE6, 1400, 1000, 0)
    bench.kernel.put(layout.key(LOCAL6), layout.flow(looped, 1))
    assert bench.left(bench.frame6) == "no_way"


@pytest.mark.parametrize("target", ["10.91.0.255", "255.255.255.255", "224.0.0.5", "0.0.0.0"])
def test_nothing_is_sent_to_many(bench: Bench, target: str) -> None:
    spread = Way(LOCAL, ALICE, SOURCE, TransportAddress(target, 5000), 1400, 1000, 0)
    bench.kernel.put(layout.key(LOCAL), layout.flow(spread, 0))
    assert bench.left(bench.frame) == "no_way"


@pytest.fixture
def another_way_out(bench: Bench) -> Iterator[None]:
    try:
        execute("ip", "link", "add", "aside0", "type", "veth", "peer", "name", "aside1")
        execute("ip", "link", "set", "aside1", "up")
        execute("ip", "addr", "add", "10.92.0.1/24", "dev", "aside0")
        execute("ip", "link", "set", "aside0", "up")
        execute("ip", "neigh", "replace", "10.92.0.2", "lladdr", "02:00:00:00:00:02", "dev", "aside0")
        yield
    finally:
        execute("ip", "link", "del", "aside0")


def test_an_interface_that_is_not_offloaded_is_no_way_out(bench: Bench, another_way_out: None) -> None:
    elsewhere = Way(LOCAL, ALICE, SOURCE, TransportAddress("10.92.0.2", 5000), 1400, 1000, 0)
    bench.kernel.put(layout.key(LOCAL), layout.flow(elsewhere, 0))
    assert bench.left(bench.frame) == "foreign_device"


def test_a_way_out_with_less_room_leaves_large_packets_to_be_fragmented(
    bench: Bench,
) -> None:
    try:
        for mtu in (1400, 1280):
            execute("ip", "link", "set", NEAR, "mtu", str(mtu))
            fits = bench.frame.but(payload=RTP[:12] + bytes(mtu - 28 - 12))
            assert bench.run(fits).action == Action.TX
            bench.reset()
            assert bench.left(bench.frame.but(payload=RTP[:12] + bytes(mtu - 28 - 11))) == "no_way"
    finally:
        execute("ip", "link", "set", NEAR, "mtu", "1500")


def test_without_a_word_from_user_space_the_kernel_forwards_for_a_while_only(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench.sent(bench.frame)
    bench.reset()
    monkeypatch.setattr(loader, "ALONE_FOR", 0.0)
    bench.kernel.say_alive()
    assert bench.left(bench.frame) == "abandoned"
    assert bench.left(bench.frame6) == "abandoned"
    monkeypatch.undo()
    bench.kernel.say_alive()
    bench.sent(bench.frame)


def know_neighbours(bench: Bench) -> None:
    """An interface that changes its address forgets its neighbours."""
    for host in (*PARTIES, *PARTIES6):
        execute("ip", "neigh", "replace", host, "lladdr", bench.wire.far_mac.hex(":"), "dev", NEAR)


def test_an_interface_that_changes_its_address_is_followed(bench: Bench) -> None:
    mac = bench.wire.near_mac
    try:
        execute("ip", "link", "set", NEAR, "address", "02:00:00:00:00:77")
        moved = bench.frame.but(mac=bytes.fromhex("020000000077"))
        assert bench.left(moved) == "foreign_device"
        bench.kernel.say_alive()
        know_neighbours(bench)
        assert bench.run(moved).action == Action.TX
    finally:
        execute("ip", "link", "set", NEAR, "address", mac.hex(":"))
        know_neighbours(bench)
        bench.kernel.say_alive()


def test_every_reason_the_program_counts_has_a_name(bench: Bench) -> None:
    source = Path(loader.OBJECT).with_suffix(".c").read_text()
    reasons = source.partition("enum reason {")[2].partition(", REASONS }")[0]
    assert tuple(one.strip().lower() for one in reasons.split(",")) == layout.REASONS
