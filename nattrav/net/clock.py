"""The clocks. Cores never read them: shells do, and pass `now` on."""

from __future__ import annotations

import time

monotonic = time.monotonic
"""Seconds since some fixed point; what every core means by `now`."""


def local_offset() -> int:
    """Local time minus UTC now, in seconds."""
    return time.localtime().tm_gmtoff


wall = time.time
"""Seconds since the Unix epoch; only for what people and files see."""
