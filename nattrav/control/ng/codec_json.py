"""The JSON spelling of ng: the same dictionaries, with text where bencode has octets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nattrav.control.ng import codec_bencode
from nattrav.control.ng.codec_bencode import (
    DEPTH_LIMIT,
    SIZE_LIMIT,
    Encodable,
    Encoded,
    MalformedMessage,
    Value,
    octets,
)


def decode(data: bytes) -> dict[bytes, Value]:
    """Decode one JSON object; strings become their UTF-8 octets. Raises MalformedMessage.

    true and false become 1 and 0, null an empty string, numbers with a fraction their text.
    """
    if len(data) > SIZE_LIMIT:
        raise MalformedMessage(f"longer than {SIZE_LIMIT} bytes")
    try:
        document = json.loads(data, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedMessage("not a JSON object")
    value = _plain(document, 0)
    assert isinstance(value, dict)
    return value


def _plain(value: Any, depth: int) -> Value:
    if depth > DEPTH_LIMIT:
        raise MalformedMessage(f"nested deeper than {DEPTH_LIMIT}")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict):
        return {key.encode("utf-8", "surrogatepass"): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return int(value) if value is not None else b""


def encode(value: Encodable) -> bytes:
    """Encode a value; octets that are not UTF-8 are written as latin-1 text."""
    return json.dumps(_text(value), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _text(value: Encodable | Value) -> Any:
    if isinstance(value, Encoded):
        return _text(codec_bencode.decode(value.encode("latin-1")))
    if isinstance(value, str):
        value = octets(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, Mapping):
        return {_text(key): _text(item) for key, item in value.items()}
    if isinstance(value, int | float):
        return value
    return [_text(item) for item in value]
