"""Each side sends a tone of its own frequency; what the other side recorded is examined frame by frame."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CALLER, CALLEE = 440.0, 660.0
RATE = 8000
FRAME_SECONDS = 0.02
_AMPLITUDE = 8000.0
_SETTLING_SECONDS = 1.0

Samples = NDArray[np.float64]


def tone(frequency: float, seconds: float, rate: int = RATE) -> NDArray[np.int16]:
    """A sine of that frequency in 16-bit samples."""
    moments = np.arange(round(seconds * rate)) / rate
    return (_AMPLITUDE * np.sin(2 * np.pi * frequency * moments)).astype(np.int16)


def write_wave(path: Path, samples: NDArray[np.int16], rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def read_wave(path: Path) -> tuple[Samples, int]:
    """Samples and rate of a mono or the first channel of a stereo 16-bit recording.

    Reads the sample bytes that are really there: a program that was killed leaves a header that promises none.
    """
    content = path.read_bytes()
    if content[:4] != b"RIFF" or b"data" not in content:
        return np.zeros(0), RATE
    start = content.index(b"data") + 8
    channels = int.from_bytes(content[22:24], "little")
    rate = int.from_bytes(content[24:28], "little")
    body = content[start : start + (len(content) - start) // (2 * channels) * 2 * channels]
    return np.frombuffer(body, "<i2").astype(np.float64)[::channels], rate


@dataclass(frozen=True)
class Heard:
    """Shares of the frames after the first second: with the far tone, with the own tone; and when the far tone came."""

    far: float
    own: float
    frames: int
    first_far: float | None

    @property
    def well(self) -> bool:
        return self.far >= 0.9


def examine(samples: Samples, rate: int, *, far: float, own: float) -> Heard:
    """Cut into 20 ms frames; a frame counts for a tone that holds 80 % of its amplitude, four times the other."""
    length = round(rate * FRAME_SECONDS)
    count = len(samples) // length
    frames = samples[: count * length].reshape(count, length)
    moments = np.arange(length) / rate
    norm = np.sqrt((frames**2).sum(axis=1) * length / 2) + 1e-9
    of_far = np.abs(frames @ np.exp(-2j * np.pi * far * moments))
    of_own = np.abs(frames @ np.exp(-2j * np.pi * own * moments))
    is_far = (of_far / norm > 0.8) & (of_far > 4 * of_own)
    is_own = (of_own / norm > 0.8) & (of_own > 4 * of_far)
    skip = round(_SETTLING_SECONDS / FRAME_SECONDS)
    settled = max(count - skip, 0)
    arrivals = np.flatnonzero(is_far)
    return Heard(
        far=float(is_far[skip:].mean()) if settled else 0.0,
        own=float(is_own[skip:].mean()) if settled else 0.0,
        frames=settled,
        first_far=float(arrivals[0] * FRAME_SECONDS) if len(arrivals) else None,
    )


def verdict(caller: Heard, callee: Heard, *, expected_seconds: float) -> str:
    """One word for a call: `both`, `caller_deaf`, `callee_deaf`, `none`, `echo` or `late(<ms>)`.

    `caller` is what the caller heard. A side is deaf when fewer than 90 % of its frames have the far tone or fewer
    than 80 % of the expected frames exist; late when all is well except that the far tone came after the first second.
    """
    wanted = 0.8 * max(expected_seconds - _SETTLING_SECONDS, FRAME_SECONDS) / FRAME_SECONDS
    if caller.own >= 0.05 or callee.own >= 0.05:
        return "echo"
    hears = [side.well and side.frames >= wanted for side in (caller, callee)]
    if all(hears):
        latest = max(side.first_far or 0.0 for side in (caller, callee))
        return "both" if latest <= _SETTLING_SECONDS else f"late({latest * 1000:.0f})"
    tardy = [side for side in (caller, callee) if side.first_far is not None and side.first_far > _SETTLING_SECONDS]
    if tardy and all(side.first_far is not None and side.far >= 0.3 for side in (caller, callee)):
        return f"late({max(side.first_far or 0.0 for side in tardy) * 1000:.0f})"
    if not any(hears):
        return "none"
    return "callee_deaf" if hears[0] else "caller_deaf"


def from_mu_law(payload: bytes) -> NDArray[np.int16]:
    """Decode G.711 µ-law (ITU-T G.711, sign-magnitude with bias 132)."""
    code = ~np.frombuffer(payload, np.uint8)
    magnitude = ((((code & 15).astype(np.int32) << 3) + 132) << ((code >> 4) & 7)) - 132
    return np.where(code & 128, -magnitude, magnitude).astype(np.int16)
