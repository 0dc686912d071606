from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nattrav.selftest.tones import FRAME, Heard, decode, encode, examine, tone_frame, verdict


@given(st.lists(st.integers(-32635, 32635), min_size=1, max_size=200))
def test_mu_law_keeps_samples_within_its_step(samples: list[int]) -> None:
    decoded = decode(encode(np.array(samples, np.int16)))
    assert np.all(np.abs(decoded - samples) <= np.maximum(np.abs(np.array(samples)) / 16, 8))


def test_the_reference_values_of_g711() -> None:
    assert encode(np.array([0, 8, -8, 32635, -32635], np.int16)).hex() == "fffe7e8000"


def test_a_far_tone_is_heard_and_an_own_tone_is_an_echo() -> None:
    far = [tone_frame(660, number) for number in range(100)]
    own = [tone_frame(440, number) for number in range(100)]
    assert examine(far, far=660, own=440) == Heard(100, 1.0, 0.0)
    assert examine(own, far=660, own=440) == Heard(100, 0.0, 1.0)
    assert examine([bytes([0xFF]) * FRAME] * 10, far=660, own=440).far == 0.0
    assert examine([], far=660, own=440).frames == 0


def test_one_word_says_who_is_deaf() -> None:
    good, silent, echo = Heard(100, 1.0, 0.0), Heard(0, 0.0, 0.0), Heard(100, 0.5, 0.5)
    assert verdict(good, good, expected=100) == "both"
    assert verdict(silent, good, expected=100) == "caller_deaf"
    assert verdict(good, silent, expected=100) == "callee_deaf"
    assert verdict(silent, silent, expected=100) == "none"
    assert verdict(good, echo, expected=100) == "echo"
    assert verdict(Heard(20, 1.0, 0.0), good, expected=100) == "caller_deaf"
