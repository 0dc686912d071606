"""What log lines above debug hide: credentials, subscribers' numbers and names, and where their phones are."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(
    r"""((?:response|nonce|cnonce|password|token|key|inline)\s*[=:]\s*"?)[^\s",;]+""", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\w.])\+?\d{7,15}(?![\w.])")
_USER = re.compile(r"(?<![\w.+-])((?:sips?:)?)([^\s@:/;<>\"]+)@(?=[\w.\[-])")
_IPV4 = re.compile(r"(?<![\d.])((?:\d{1,3}\.){3})\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"\[([0-9a-fA-F]*(?::[0-9a-fA-F]*){0,2})[0-9a-fA-F:.]*\]")

PLACES = frozenset({"flow", "before", "now", "next_hop"})
"""Keys that say where a phone is. A source that attacks is named by `src`, which is shown."""


def mask(text: str, key: str = "") -> str:
    """Hide credentials, all but the last two characters of users and numbers, and below PLACES the host's own part."""
    text = _CREDENTIALS.sub(r"\1***", text)
    text = _USER.sub(lambda found: f"{found[1]}{_all_but_two(found[2])}@", text)
    text = _NUMBER.sub(lambda found: _all_but_two(found[0]), text)
    if key in PLACES:
        text = _IPV6.sub(r"[\1:*]", _IPV4.sub(r"\1*", text))
    return text


def _all_but_two(text: str) -> str:
    return "*" * (len(text) - 2) + text[-2:] if len(text) > 3 else "*" * len(text)
