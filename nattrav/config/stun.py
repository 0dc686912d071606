"""The [stun] table."""

from __future__ import annotations

from nattrav.config.types import Section


class StunSection(Section):
    """See deploy/nattrav.toml."""
