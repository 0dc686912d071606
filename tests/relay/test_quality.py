"""MOS estimates, and what counts as loss between two readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.plane import RtpFigures
from relay.quality import CODECS, NO_QUALITY, StreamQuality, estimate_mos, measure


def test_a_clean_g711_stream_is_excellent_and_g729_is_not_quite() -> None:
    assert estimate_mos(CODECS["pcmu"], 0.0, 0.001) == pytest.approx(4.4, abs=0.05)
    assert estimate_mos(CODECS["g729"], 0.0, 0.001) == pytest.approx(4.1, abs=0.1)


def test_ten_percent_loss_is_poor() -> None:
    assert 2.0 < estimate_mos(CODECS["pcma"], 0.10, 0.005) < 3.5


@given(st.sampled_from(sorted(CODECS)), st.floats(0, 1), st.floats(0, 5), st.floats(0, 5))
def test_an_estimate_is_always_a_mos_and_never_better_with_more_loss(
    codec: str, loss: float, jitter: float, trip: float
) -> None:
    mos = estimate_mos(CODECS[codec], loss, jitter, trip)
    assert 1.0 <= mos <= 4.5
    assert estimate_mos(CODECS[codec], min(1.0, loss + 0.1), jitter, trip) <= mos + 1e-9


def figures(expected: int, received: int, *, ssrc: int = 1, jitter: float = 0.002, duplicates: int = 0) -> RtpFigures:
    return RtpFigures(ssrc, 0, expected, received, expected - received, 0, duplicates, jitter)


def test_loss_is_that_of_the_interval_not_of_the_call() -> None:
    quality = measure(figures(1000, 500), figures(1500, 1000), "audio", "PCMU")
    assert quality is not None
    assert quality.loss == 0.0
    assert quality.expected == 500


def test_duplicates_do_not_hide_loss() -> None:
    quality = measure(figures(0, 0), figures(100, 100, duplicates=10), "audio", None)
    assert quality is not None
    assert quality.loss == pytest.approx(0.1)


def test_a_new_ssrc_starts_from_nothing() -> None:
    quality = measure(figures(1000, 1000), figures(50, 45, ssrc=2), "audio", "PCMA")
    assert quality is not None
    assert quality.expected == 50
    assert quality.loss == pytest.approx(0.1)


def test_silence_has_no_quality_and_unknown_codecs_no_mos() -> None:
    assert measure(figures(10, 10), figures(10, 10), "audio", "PCMU") is None
    quality = measure(figures(0, 0), figures(10, 10), "audio", "my-codec")
    assert quality is not None
    assert quality.mos is None
    video = measure(figures(0, 0), figures(10, 10), "video", "PCMU")
    assert video is not None
    assert video.mos is None


def test_history_keeps_average_lowest_and_highest() -> None:
    history = NO_QUALITY
    assert history.average is None
    for at, mos in enumerate((4.0, 3.0, 4.4)):
        history = history.with_sample(StreamQuality("audio", "pcmu", 500, 0.0, 0.0, mos), float(at))
    history = history.with_sample(StreamQuality("audio", None, 500, 0.0, 0.0, None), 9.0)
    assert history.average == pytest.approx(3.8)
    assert history.lowest == (3.0, 1.0)
    assert history.highest == (4.4, 2.0)
    assert history.samples == 3
