"""The ear of the laboratory: it must not hear what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tones import CALLEE, CALLER, RATE, Heard, examine, from_mu_law, read_wave, tone, verdict, write_wave


def heard(samples: np.ndarray, far: float = CALLEE, own: float = CALLER) -> Heard:
    return examine(samples.astype(float), RATE, far=far, own=own)


def a_law_like_noise(samples: np.ndarray) -> np.ndarray:
    return samples + np.random.default_rng(1).normal(0, 80, len(samples))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def test_a_clean_far_tone_fills_every_frame() -> None:
    found = heard(a_law_like_noise(tone(CALLEE, 6)))
    assert found.far == 1.0
    assert found.own == 0.0
    assert found.frames == 250
    assert found.first_far == 0.0


def test_silence_and_noise_hold_no_tone() -> None:
    assert heard(silence(3)).far == 0.0
    assert heard(np.random.default_rng(2).normal(0, 3000, 3 * RATE)).far == 0.0


@pytest.mark.parametrize("other", [350.0, 440.0, 500.0, 880.0])
def test_another_frequency_is_not_the_far_tone(other: float) -> None:
    assert heard(tone(other, 3)).far == 0.0


@pytest.mark.parametrize(
    ("caller", "callee", "word"),
    [
        (tone(CALLEE, 5), tone(CALLER, 5), "both"),
        (silence(5), tone(CALLER, 5), "caller_deaf"),
        (tone(CALLEE, 5), silence(5), "callee_deaf"),
        (silence(5), silence(5), "none"),
        (tone(CALLER, 5), tone(CALLER, 5), "echo"),
        (np.concatenate([silence(1.4), tone(CALLEE, 3.6)]), tone(CALLER, 5), "late(1400)"),
        (tone(CALLEE, 2), tone(CALLER, 5), "caller_deaf"),
        (tone(CALLEE, 0), tone(CALLER, 0), "none"),
    ],
    ids=["both", "caller deaf", "callee deaf", "none", "echo", "late", "too short", "empty"],
)
def test_the_verdict_is_one_word(caller: np.ndarray, callee: np.ndarray, word: str) -> None:
    assert verdict(heard(caller), heard(callee, CALLER, CALLEE), expected_seconds=5) == word


def test_a_recording_is_read_back_even_when_its_header_was_never_finished(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "tone.wav", tone(CALLER, 1))
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)
    samples, rate = read_wave(path)
    assert rate == RATE
    assert len(samples) == RATE


def test_mu_law_is_decoded_by_the_table_of_its_recommendation() -> None:
    assert list(from_mu_law(bytes([0xFF, 0x7F, 0x80, 0x00, 0xF0, 0xEF]))) == [0, 0, 32124, -32124, 120, 132]
