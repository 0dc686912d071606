"""Tones in G.711 µ-law, and what was heard of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 8000
FRAME = 160
"""Samples of one 20 ms frame."""

_AMPLITUDE = 8000.0
_BIAS = 0x84


def tone_frame(frequency: float, number: int) -> bytes:
    """The `number`-th 20 ms frame of a sine, µ-law coded (ITU-T G.711)."""
    moments = (np.arange(FRAME) + number * FRAME) / RATE
    return encode((_AMPLITUDE * np.sin(2 * np.pi * frequency * moments)).astype(np.int16))


def encode(samples: NDArray[np.int16]) -> bytes:
    """Code 16-bit samples in µ-law."""
    wide = samples.astype(np.int32)
    sign = np.where(wide < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(wide), 32635) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    coded: bytes = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()
    return coded


def decode(coded: bytes) -> NDArray[np.float64]:
    """Give the samples of µ-law octets."""
    octets = ~np.frombuffer(coded, np.uint8) & 0xFF
    magnitude = (((octets & 0x0F).astype(np.int32) << 3) + _BIAS) << ((octets >> 4) & 7).astype(np.int32)
    return np.where(octets & 0x80, _BIAS - magnitude, magnitude - _BIAS).astype(np.float64)


class Heard(NamedTuple):
    """What one side received: 20 ms frames, and the shares that hold the far tone and its own (echo)."""

    frames: int
    far: float
    own: float


def examine(frames: list[bytes], *, far: float, own: float) -> Heard:
    """Judge received frames; one counts for a tone that holds 80 % of its amplitude and four times the other."""
    whole = [decode(frame) for frame in frames if len(frame) == FRAME]
    if not whole:
        return Heard(0, 0.0, 0.0)
    samples = np.stack(whole)
    moments = np.arange(FRAME) / RATE
    norm = np.sqrt((samples**2).sum(axis=1) * FRAME / 2) + 1e-9
    of_far = np.abs(samples @ np.exp(-2j * np.pi * far * moments))
    of_own = np.abs(samples @ np.exp(-2j * np.pi * own * moments))
    is_far = (of_far / norm > 0.8) & (of_far > 4 * of_own)
    is_own = (of_own / norm > 0.8) & (of_own > 4 * of_far)
    return Heard(len(whole), float(is_far.mean()), float(is_own.mean()))


def verdict(caller: Heard, callee: Heard, *, expected: int) -> str:
    """One word: both, caller_deaf, callee_deaf, none or echo. A side hears when 90 % of enough frames hold the tone."""
    if caller.own >= 0.05 or callee.own >= 0.05:
        return "echo"
    caller_hears, callee_hears = (side.far >= 0.9 and side.frames >= 0.6 * expected for side in (caller, callee))
    if caller_hears and callee_hears:
        return "both"
    if not caller_hears and not callee_hears:
        return "none"
    return "caller_deaf" if callee_hears else "callee_deaf"
