"""Hides what must not leave the host with a message that is shown or mailed around: digests and media keys."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r'\b(response|nonce|cnonce|opaque|rspauth|nextnonce)(\s*=\s*)("[^"\r\n]*"?|[^",\s]+)'
    r"|\b(inline:|ice-pwd:|k=)[^\s|]+"
    r"|(\bBasic[ ]+)[A-Za-z0-9+/=_-]{4,}",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Replace each secret by `***`: digest parameters (RFC 7616), SDES keys (RFC 4568), ICE passwords, `k=`."""
    return _SECRETS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    if found[1]:
        return f"{found[1]}{found[2]}***"
    return f"{found[4] or found[5]}***"
