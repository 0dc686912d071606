"""The [sip] table."""

from __future__ import annotations

from nattrav.config.types import Section


class SipSection(Section):
    """See deploy/nattrav.toml."""
