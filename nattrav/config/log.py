"""The [log] table."""

from __future__ import annotations

from nattrav.config.types import Section


class LogSection(Section):
    """See deploy/nattrav.toml."""
