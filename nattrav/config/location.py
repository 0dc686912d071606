"""The [location] table."""

from __future__ import annotations

from nattrav.config.types import Section


class LocationSection(Section):
    """See deploy/nattrav.toml."""
