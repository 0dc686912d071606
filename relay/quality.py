"""How good a received stream is: loss and jitter of an interval, and the MOS that ITU-T G.107 estimates from them.

R = 93.2 - Id - Ie,eff, with codec figures of ITU-T G.113 appendix I. It is an estimate: the relay sees neither the
jitter buffer nor the loss concealment of the phones.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.plane import RtpFigures

R_BASE = 93.2
PACKET_TIME = 0.02


@dataclass(frozen=True, slots=True)
class CodecFigures:
    """Equipment impairment `ie` and robustness against packet loss `bpl` (G.113)."""

    ie: float
    bpl: float


CODECS = {
    "pcmu": CodecFigures(0.0, 25.1),
    "pcma": CodecFigures(0.0, 25.1),
    "g722": CodecFigures(0.0, 25.1),
    "opus": CodecFigures(0.0, 25.1),
    "g729": CodecFigures(11.0, 19.0),
    "g723": CodecFigures(15.0, 16.1),
    "gsm": CodecFigures(20.0, 10.0),
    "gsm-efr": CodecFigures(5.0, 10.0),
    "amr": CodecFigures(5.0, 10.0),
    "amr-wb": CodecFigures(5.0, 10.0),
    "ilbc": CodecFigures(11.0, 19.0),
    "g726-32": CodecFigures(7.0, 17.0),
    "speex": CodecFigures(11.0, 19.0),
}
STATIC_CODECS = {0: "pcmu", 3: "gsm", 4: "g723", 8: "pcma", 9: "g722", 18: "g729"}


@dataclass(frozen=True, slots=True)
class StreamQuality:
    """One received RTP stream over one interval. `mos` is None for codecs without known figures.

    Jitter and round trip are in seconds; the round trip is 0 where no RTCP told it.
    """

    media: str
    codec: str | None
    expected: int
    loss: float
    jitter: float
    mos: float | None
    round_trip: float = 0.0


@dataclass(frozen=True, slots=True)
class QualityHistory:
    """A stream's estimates so far. `lowest` and `highest` are (MOS, monotonic time)."""

    samples: int = 0
    total: float = 0.0
    lowest: tuple[float, float] = (0.0, 0.0)
    highest: tuple[float, float] = (0.0, 0.0)
    last: StreamQuality | None = None

    @property
    def average(self) -> float | None:
        """Mean of all estimates, None before the first."""
        return self.total / self.samples if self.samples else None

    def with_sample(self, quality: StreamQuality, now: float) -> QualityHistory:
        """Take in one more interval."""
        mos = quality.mos
        if mos is None:
            return QualityHistory(self.samples, self.total, self.lowest, self.highest, quality)
        if not self.samples:
            return QualityHistory(1, mos, (mos, now), (mos, now), quality)
        return QualityHistory(
            self.samples + 1,
            self.total + mos,
            min(self.lowest, (mos, now)),
            max(self.highest, (mos, now)),
            quality,
        )


NO_QUALITY = QualityHistory()


def estimate_mos(codec: CodecFigures, loss: float, jitter: float, round_trip: float = 0.0) -> float:
    """Estimate MOS (1 to 4.5) from a loss ratio 0 to 1, jitter and round trip in seconds."""
    # A jitter buffer holds about twice the mean jitter, beside one packet.
    delay = (round_trip / 2 + 2 * jitter + PACKET_TIME) * 1000
    delay_impairment = 0.024 * delay + (0.11 * (delay - 177.3) if delay > 177.3 else 0.0)
    percent = loss * 100
    loss_impairment = codec.ie + (95 - codec.ie) * percent / (percent + codec.bpl)
    rating = max(0.0, min(100.0, R_BASE - delay_impairment - loss_impairment))
    return max(1.0, min(4.5, 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6))


def measure(
    before: RtpFigures, now: RtpFigures, media: str, codec: str | None, round_trip: float = 0.0
) -> StreamQuality | None:
    """Give the quality between two readings of a stream; None when nothing was expected in between."""
    if now.ssrc == before.ssrc and now.expected >= before.expected:
        expected = now.expected - before.expected
        heard = (now.received - now.duplicates) - (before.received - before.duplicates)
    else:
        expected, heard = now.expected, now.received - now.duplicates
    if expected <= 0:
        return None
    loss = min(1.0, max(0.0, (expected - heard) / expected))
    name = codec.lower() if codec is not None else STATIC_CODECS.get(now.payload_type)
    figures = CODECS.get(name or "")
    mos = None if figures is None or media != "audio" else estimate_mos(figures, loss, now.jitter, round_trip)
    return StreamQuality(media, name, expected, loss, now.jitter, mos, round_trip)
