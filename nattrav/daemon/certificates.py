"""Tells the metrics when served certificates end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nattrav.metrics.samples import Samples
from nattrav.net.certificate import not_after

METRIC = "nattrav_tls_certificate_expiry_timestamp_seconds"


def note_expiry(samples: Samples, chain: Path, listeners: Iterable[str]) -> None:
    """Set the end of validity of the certificate that these listeners serve; it was read just before."""
    try:
        ends = not_after(chain.read_text("ascii", "replace"))
    except (OSError, ValueError):
        # The certificate in use came from this file; what stands there now will be told when it is taken over.
        return
    for listener in listeners:
        samples.set(METRIC, ends, listener)
