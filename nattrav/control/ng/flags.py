"""How ng clients spell options: key and flag names, prefixed flags, and the one-string form `rtpp-flags`."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from nattrav.control.ng.codec_bencode import Value

Words: TypeAlias = "str | list[str] | dict[str, Words]"
"""A value inside `rtpp-flags`: a word, `[a list]`, or `[sub=[of] values=these]`."""

RTPP_FLAGS_LIMIT = 8192
_NESTING_LIMIT = 4

_ALIASES = {
    "callid": "call-id",
    "fromtag": "from-tag",
    "totag": "to-tag",
    "from-label": "label",
    "t38": "t.38",
    "symmetric-codecs": "symmetric-codecs",
    "delay-delete": "delete-delay",
    "nat-wait": "nat-wait",
    "trust-addresses": "trust-address",
}
_LIST_PREFIXES = {
    "replace-": "replace",
    "rtcp-mux-": "rtcp-mux",
    "sdes-": "sdes",
    "osrtp-": "osrtp",
    "codec-": "codec",
    "transcode-": "codec",
    "t38-": "t.38",
    "t.38-": "t.38",
    "from-tags-": "from-tags",
    "sdp-attr-": "sdp-attr",
    "bundle-": "bundle",
}
_VALUE_PREFIXES = {"endpoint-learning-": "endpoint-learning"}
_TRANSPORTS = {
    "RTP/AVP": "RTP/AVP",
    "RTP/AVPF": "RTP/AVPF",
    "RTP/SAVP": "RTP/SAVP",
    "RTP/SAVPF": "RTP/SAVPF",
    "UDP/TLS/RTP/SAVP": "UDP/TLS/RTP/SAVP",
    "UDP/TLS/RTP/SAVPF": "UDP/TLS/RTP/SAVPF",
}
_TRANSPORT_WORDS = frozenset({"RTP", "SRTP", "AVP", "AVPF", "DTLS"})


@lru_cache(maxsize=4096)
def spelling(name: str) -> str:
    """Give the one spelling of a key or flag: lower case, hyphens for spaces and underscores."""
    folded = name.strip().lower().replace(" ", "-").replace("_", "-")
    return _ALIASES.get(folded, folded)


@lru_cache(maxsize=4096)
def key_name(raw: bytes) -> str:
    """Give the one spelling of a request's key."""
    return spelling(raw[:128].decode("latin-1"))


def unescape(text: str) -> str:
    """Undo what prefixed flags need: `--` stands for `=`, `..` for a space."""
    return text.replace("--", "=").replace("..", " ")


def prefixed(word: str) -> tuple[str, str, bool] | None:
    """Read a flag that stands for a key's value: `replace-origin` → (`replace`, `origin`, True: an entry of a list)."""
    folded = spelling(word)
    for prefix, key in _LIST_PREFIXES.items():
        if folded.startswith(prefix) and len(folded) > len(prefix):
            return key, unescape(word[len(prefix) :]), True
    for prefix, key in _VALUE_PREFIXES.items():
        if folded.startswith(prefix) and len(folded) > len(prefix):
            return key, folded[len(prefix) :], False
    return None


def parse_rtpp_flags(text: str) -> dict[str, Words]:
    """Read `word key=value key=[a b] key=[sub=[a b] other=c]` into keys; plain words go to the list `flags`.

    `direction` gathers its two values, `internal`/`external` too; `from-tag=` also means `directional`, `to-tag=`
    the flag `to-tag`; transport words compose `transport-protocol`. Unbalanced brackets end at the text's end.
    """
    found: dict[str, Words] = {}
    transports: list[str] = []
    for name, value in _pairs(_reversed_words(text[:RTPP_FLAGS_LIMIT]), 0):
        if value is None:
            _word(found, name, transports)
        else:
            _pair(found, spelling(name), value)
    if transports:
        found["transport-protocol"] = _composed(transports)
    return found


def _word(found: dict[str, Words], word: str, transports: list[str]) -> None:
    if word.upper() in _TRANSPORTS:
        found["transport-protocol"] = _TRANSPORTS[word.upper()]
    elif word.upper() in _TRANSPORT_WORDS:
        transports.append(word.upper())
    elif word in ("internal", "external"):
        _extend(found, "direction", word)
    elif (entry := prefixed(word)) is not None:
        key, value, listed = entry
        if listed:
            _extend(found, key, value)
        else:
            found[key] = value
    else:
        _extend(found, "flags", word)


def _pair(found: dict[str, Words], key: str, value: Words) -> None:
    if key in ("direction", "flags", "replace", "rtcp-mux"):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                _extend(found, key, item)
        return
    found[key] = value
    if key == "from-tag":
        _extend(found, "flags", "directional")
    elif key == "to-tag":
        _extend(found, "flags", "to-tag")


def _extend(found: dict[str, Words], key: str, item: str) -> None:
    entries = found.setdefault(key, [])
    if isinstance(entries, list):
        entries.append(item)


def _composed(words: list[str]) -> str:
    """`RTP AVP`, `SRTP AVPF`, `DTLS AVPF` … as one protocol name; AVP where no profile is named."""
    secured = "SRTP" in words or "DTLS" in words
    profile = ("S" if secured else "") + ("AVPF" if "AVPF" in words else "AVP")
    return f"UDP/TLS/RTP/{profile}" if "DTLS" in words else f"RTP/{profile}"


def _reversed_words(text: str) -> list[str]:
    """Split at spaces and brackets, last word first; `key=` before a bracket stays one word."""
    return text.replace("[", " [ ").replace("]", " ] ").split()[::-1]


def _pairs(words: list[str], depth: int) -> list[tuple[str, Words | None]]:
    """Take words off the end of a reversed list until `]` or until none is left."""
    found: list[tuple[str, Words | None]] = []
    while words:
        word = words.pop()
        if word == "]":
            if depth:
                break
            continue
        if word == "[":
            if depth < _NESTING_LIMIT:
                _pairs(words, depth + 1)
            continue
        name, equals, value = word.partition("=")
        if not equals or not name:
            found.append((word, None))
        elif value or not (words and words[-1] == "["):
            found.append((name, value))
        elif depth < _NESTING_LIMIT:
            words.pop()
            found.append((name, _grouped(_pairs(words, depth + 1))))
    return found


def _grouped(pairs: list[tuple[str, Words | None]]) -> Words:
    if any(value is not None for _, value in pairs):
        return {spelling(name): value if value is not None else "" for name, value in pairs}
    return [name for name, _ in pairs]


def to_value(words: Words) -> Value:
    """Give the value that bencode would have carried."""
    if isinstance(words, str):
        return words.encode("latin-1", "replace")
    if isinstance(words, list):
        return [item.encode("latin-1", "replace") for item in words]
    return {key.encode("latin-1", "replace"): to_value(item) for key, item in words.items()}
