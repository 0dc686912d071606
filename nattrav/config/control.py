"""The [control] table."""

from __future__ import annotations

from nattrav.config.types import Section


class ControlSection(Section):
    """See deploy/nattrav.toml."""
