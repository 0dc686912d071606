"""RTCP: compound packets, sender and receiver reports (RFC 3550 §6.4), and the round trip seen between them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relay.rtp import MalformedMessage

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
APPLICATION = 204

_BLOCK = struct.Struct("!IIIIII")
_BLOCKS_MAX = 31


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one receiver says about one source it hears (RFC 3550 §6.4.1).

    fraction_lost in 1/256, jitter in timestamp units, last_report the middle 32 bits of the NTP time stamp of the
    last sender report it got (0 = none), delay since then in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_report: int
    delay: int


@dataclass(frozen=True, slots=True)
class Report:
    """A sender report (`ntp` set) or a receiver report, with its blocks."""

    ssrc: int
    ntp: int | None
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...]


def packets(payload: bytes) -> list[tuple[int, bytes]]:
    """Split a compound packet into (packet type, packet); MalformedMessage when a length does not fit."""
    found = []
    position = 0
    while position < len(payload):
        if len(payload) - position < 4:
            raise MalformedMessage("trailing octets")
        first, kind, words = struct.unpack_from("!BBH", payload, position)
        if first >> 6 != 2:
            raise MalformedMessage(f"version {first >> 6}")
        end = position + 4 * (words + 1)
        if end > len(payload):
            raise MalformedMessage("packet past the end")
        found.append((kind, payload[position:end]))
        position = end
    if not found:
        raise MalformedMessage("empty")
    return found


def consistent(payload: bytes, *, secured: bool = False) -> bool:
    """Tell whether lengths add up, so that the packet may teach; of SRTCP only the first header is in the clear."""
    if secured:
        if len(payload) < 8 or payload[0] >> 6 != 2 or not 192 <= payload[1] < 224:
            return False
        return 4 * (int.from_bytes(payload[2:4], "big") + 1) <= len(payload)
    try:
        return all(192 <= kind < 224 for kind, _ in packets(payload))
    except MalformedMessage:
        return False


def reports(payload: bytes) -> list[Report]:
    """Read the sender and receiver reports of a compound packet; MalformedMessage when one is cut off."""
    return [_report(kind, packet) for kind, packet in packets(payload) if kind in (SENDER_REPORT, RECEIVER_REPORT)]


def _report(kind: int, packet: bytes) -> Report:
    count = packet[0] & 0x1F
    head = 28 if kind == SENDER_REPORT else 8
    if len(packet) < head + 24 * count:
        raise MalformedMessage("report blocks past the end")
    (ssrc,) = struct.unpack_from("!I", packet, 4)
    ntp = sent = octets = 0
    if kind == SENDER_REPORT:
        ntp, _, sent, octets = struct.unpack_from("!QIII", packet, 8)
    blocks = []
    for index in range(count):
        source, loss, highest, jitter, last, delay = _BLOCK.unpack_from(packet, head + 24 * index)
        cumulative = loss & 0xFFFFFF
        if cumulative & 0x800000:
            cumulative -= 1 << 24
        blocks.append(ReportBlock(source, loss >> 24, cumulative, highest, jitter, last, delay))
    return Report(ssrc, ntp if kind == SENDER_REPORT else None, sent, octets, tuple(blocks))


def encode(report: Report) -> bytes:
    """Write one report as a packet."""
    blocks = report.blocks[:_BLOCKS_MAX]
    body = struct.pack("!I", report.ssrc)
    if report.ntp is not None:
        body += struct.pack("!QIII", report.ntp, 0, report.packets, report.octets)
    for block in blocks:
        loss = block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF
        body += _BLOCK.pack(block.ssrc, loss, block.highest_sequence, block.jitter, block.last_report, block.delay)
    kind = RECEIVER_REPORT if report.ntp is None else SENDER_REPORT
    return struct.pack("!BBH", 0x80 | len(blocks), kind, len(body) // 4) + body


def middle(ntp: int) -> int:
    """Take the middle 32 bits of a 64-bit NTP time stamp, as a report block repeats them."""
    return ntp >> 16 & 0xFFFFFFFF


class RoundTrip:
    """Times the way from here to a party and back, from the sender reports we pass to it and its own reports."""

    __slots__ = ("_passed", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """Last round trip; 0 = none measured."""
        self._passed: list[tuple[int, float]] = []

    def passed_on(self, ntp: int, now: float) -> None:
        """A sender report with this time stamp goes to the party now."""
        self._passed = [*self._passed[-7:], (middle(ntp), now)]

    def answered(self, block: ReportBlock, now: float) -> None:
        """The party reports on it."""
        if block.last_report == 0:
            return
        for stamp, at in self._passed:
            if stamp == block.last_report:
                trip = now - at - block.delay / 65536
                if 0 <= trip < 30:
                    self.seconds = trip
                return
