"""Counting many packets at once gives what counting them one by one gives (RFC 3550 appendix A)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress, to_sockaddr
from nattrav.net.frames import Frames
from relay.flows import FlowTable
from relay.rtp import MAX_DROPOUT, MAX_MISORDER, encode_header
from relay.tally import Tally

SOURCE = to_sockaddr(TransportAddress("192.0.2.1", 4000))


@dataclass(frozen=True)
class Sent:
    flow: int
    sequence: int
    timestamp: int
    ssrc: int
    at: float


class OneByOne:
    """The same figures in the plainest words."""

    def __init__(self) -> None:
        self.expected_before = self.received = self.reordered = self.duplicates = 0
        self.jitter = 0.0
        self.last: Sent | None = None
        self.extended = self.base = self.highest = 0

    def take(self, packet: Sent) -> None:
        self.received += 1
        last, self.last = self.last, packet
        difference = 0.0
        step = 0
        if last is not None:
            step = (packet.sequence - last.sequence + 0x8000 & 0xFFFF) - 0x8000
        if last is None or last.ssrc != packet.ssrc or step > MAX_DROPOUT or step < -MAX_MISORDER:
            if last is not None:
                self.expected_before += self.highest - self.base + 1
            self.extended = self.base = self.highest = packet.sequence
        else:
            self.extended += step
            self.duplicates += self.extended == self.highest
            self.reordered += self.extended < self.highest
            self.highest = max(self.highest, self.extended)
            ticks = (packet.timestamp - last.timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            difference = abs(packet.at - last.at - ticks / 8000)
            if difference > 2.0:
                difference = 0.0
        self.jitter += (difference - self.jitter) / 16


def tally(room: int = 64) -> Tally:
    return Tally(FlowTable(16), Frames(64, 128), lambda slot, payload_type: 8000.0, room)


def note(it: Tally, packets: list[Sent]) -> None:
    for packet in packets:
        payload = encode_header(0, packet.sequence, packet.timestamp, packet.ssrc)
        it._frames.put(0, payload, SOURCE)
        it.note(
            np.array([packet.flow * 2]),
            np.array([0]),
            np.array([len(payload)], np.int32),
            packet.at,
            forwarded=True,
        )


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    packets = []
    sequence = [draw(st.integers(0, 0xFFFF)) for _ in range(3)]
    now = 100.0
    for _ in range(draw(st.integers(1, 60))):
        flow = draw(st.integers(0, 2))
        step = draw(st.sampled_from([1, 1, 1, 1, 0, 2, -1, -3, 7, 5000, -500]))
        sequence[flow] = sequence[flow] + step & 0xFFFF
        now += draw(st.floats(0, 0.05))
        stamp = sequence[flow] * 160 + draw(st.integers(-80, 80)) & 0xFFFFFFFF
        packets.append(Sent(flow, sequence[flow], stamp, draw(st.sampled_from([7, 7, 7, 7, 9])), now))
    return packets


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=6))
def test_batches_count_as_single_packets_do(packets: list[Sent], cuts: list[int]) -> None:
    it = tally()
    plain = {flow: OneByOne() for flow in range(3)}
    for index, packet in enumerate(packets):
        if index in cuts:
            it.settle()
        note(it, [packet])
        plain[packet.flow].take(packet)
    it.settle()
    table = it._table
    for flow, one in plain.items():
        if one.last is None:
            assert not table.started[flow]
            continue
        assert table.received[flow] == one.received
        assert table.packets_in[flow] == one.received
        assert table.expected_before[flow] == one.expected_before
        assert table.max_sequence[flow] - table.base_sequence[flow] == one.highest - one.base
        assert table.reordered[flow] == one.reordered
        assert table.duplicates[flow] == one.duplicates
        assert table.jitter[flow] == pytest.approx(one.jitter, abs=1e-9)
        assert table.ssrc[flow] == one.last.ssrc
        assert table.last_in[flow] == one.last.at


def test_the_sequence_wraps_without_loss() -> None:
    it = tally()
    note(it, [Sent(0, (65530 + step) & 0xFFFF, step * 160, 7, step * 0.02) for step in range(20)])
    it.settle()
    table = it._table
    assert table.max_sequence[0] - table.base_sequence[0] == 19


def test_more_than_fits_is_settled_on_the_way() -> None:
    it = tally(room=8)
    frames = np.zeros(30, np.intp)
    it._frames.put(0, encode_header(0, 1, 0, 7), SOURCE)
    it.note(
        np.zeros(30, np.intp),
        frames,
        np.full(30, 12, np.int32),
        1.0,
        forwarded=False,
    )
    it.settle()
    assert it._table.packets_in[0] == 30
    assert it._table.bytes_in[0] == 360


def test_a_flow_over_its_rate_is_limited_until_the_second_is_over() -> None:
    it = tally()
    it._table.rate_limit[1] = 5
    note(it, [Sent(1, step, 0, 7, 50.2) for step in range(6)])
    it.settle()
    assert it.limited == {1}
    it.ease(50.9)
    assert it.limited == {1}
    it.ease(51.0)
    assert it.limited == set()


def test_what_left_is_counted_on_the_way_out() -> None:
    it = tally()
    it._table.egress[0] = 3
    it._table.egress[1] = -1
    note(it, [Sent(0, step, 0, 7, 1.0) for step in range(4)])
    assert it.holds(0)
    assert it.holds(3)
    assert not it.holds(2)
    it.settle()
    assert it._table.packets_out[3] == 4
    assert it._table.bytes_out[3] == 48


def test_the_clock_rate_follows_the_payload_type() -> None:
    asked = []

    def rate(slot: int, payload_type: int) -> float:
        asked.append((slot, payload_type))
        return 16000.0

    it = Tally(FlowTable(4), Frames(4, 128), rate)
    note(it, [Sent(2, 1, 0, 7, 1.0), Sent(2, 2, 320, 7, 1.02)])
    it.settle()
    assert asked == [(2, 0)]
    assert it._table.jitter[2] == pytest.approx(0.0, abs=1e-9)
