"""The [relay] table."""

from __future__ import annotations

from nattrav.config.types import Section


class RelaySection(Section):
    """See deploy/nattrav.toml."""
