"""The [admin] table."""

from __future__ import annotations

from nattrav.config.types import Section


class AdminSection(Section):
    """See deploy/nattrav.toml."""
