"""The [node] table."""

from __future__ import annotations

from nattrav.config.types import Section


class NodeSection(Section):
    """See deploy/nattrav.toml."""
