"""RTCP of a test phone (RFC 3550 §6): sender reports that report on the far side, too, so that round trips show."""

from __future__ import annotations

import struct

from relay.rtcp import Report, ReportBlock, encode, middle, reports
from relay.rtp import MalformedMessage

_NTP_EPOCH = 2_208_988_800
_SDES, _CNAME = 202, 1


class Reporter:
    """Counts one phone's streams. `wall` is Unix time, `now` any clock of the caller's, in seconds."""

    def __init__(self, ssrc: int, cname: str) -> None:
        self.ssrc = ssrc
        self._description = _describe(ssrc, cname)
        self._packets = self._octets = 0
        self._far: int | None = None
        self._heard = self._highest = self._first = 0
        self._last: tuple[int, float] = (0, 0.0)

    def sent(self, octets: int) -> None:
        """A packet with so much payload went out."""
        self._packets += 1
        self._octets += octets

    def heard(self, header: bytes) -> None:
        """An RTP packet came."""
        _, _, sequence, _, ssrc = struct.unpack_from("!BBHII", header)
        if ssrc != self._far:
            self._far, self._heard, self._first, self._highest = ssrc, 0, sequence, sequence
        self._heard += 1
        self._highest = max(self._highest, sequence)

    def receive(self, data: bytes, now: float) -> None:
        """A compound packet came: note when the far side sent its report."""
        try:
            found = reports(data)
        except MalformedMessage:
            return
        for report in found:
            if report.ntp is not None:
                self._last = (middle(report.ntp), now)

    def report(self, wall: float, now: float) -> bytes:
        """Write the compound packet that is due: a sender report and who sends it."""
        ntp = int((wall + _NTP_EPOCH) * 2**32) & 0xFFFF_FFFF_FFFF_FFFF
        blocks = () if self._far is None else (self._block(self._far, now),)
        return encode(Report(self.ssrc, ntp, self._packets, self._octets, blocks)) + self._description

    def _block(self, far: int, now: float) -> ReportBlock:
        stamp, at = self._last
        expected = self._highest - self._first + 1
        lost = max(0, expected - self._heard)
        delay = round((now - at) * 65536) if stamp else 0
        return ReportBlock(far, min(255, 256 * lost // max(1, expected)), lost, self._highest, 0, stamp, delay)


def _describe(ssrc: int, cname: str) -> bytes:
    item = struct.pack("!IBB", ssrc, _CNAME, len(cname)) + cname.encode()
    item += bytes(4 - len(item) % 4)
    return struct.pack("!BBH", 0x81, _SDES, len(item) // 4) + item
