"""Bencode, as ng speaks it: dictionary keys in any order, strings of octets, dictionaries written in entry order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "bytes | int | list[Value] | dict[bytes, Value]"
"""What decoding gives."""

Encodable: TypeAlias = (
    "bytes | str | int | float | Sequence[Encodable] | Mapping[str, Encodable] | Mapping[bytes, Encodable]"
)
"""What may be encoded. `str` stands for octets as latin-1; characters beyond that are written as UTF-8."""

DEPTH_LIMIT = 16
SIZE_LIMIT = 262144
_DIGITS = frozenset(b"0123456789")
_INT_DIGITS = 20


class Encoded(str):
    """A value that is bencode already, its octets as latin-1 text."""

    __slots__ = ()


class MalformedMessage(ValueError):
    """The octets are not what the codec reads. `incomplete` says that more of them might complete it."""

    def __init__(self, reason: str, *, incomplete: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.incomplete = incomplete


def decode(data: bytes) -> Value:
    """Decode exactly one value. Raises MalformedMessage, also when octets are left over."""
    value, end = decode_prefix(data, 0)
    if end != len(data):
        raise MalformedMessage(f"{len(data) - end} bytes after the end")
    return value


def decode_prefix(data: bytes, start: int) -> tuple[Value, int]:
    """Decode the value that begins at `start`; return it and where it ends. Raises MalformedMessage.

    A key that comes twice has its last value.
    """
    if len(data) - start > SIZE_LIMIT:
        raise MalformedMessage(f"longer than {SIZE_LIMIT} bytes")
    return _value(data, start, 0)


def _value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    kind = data[at : at + 1]
    if kind in b"0123456789" and kind:
        return _string(data, at)
    if kind == b"d":
        return _dictionary(data, at + 1, depth + 1)
    if kind == b"l":
        if depth >= DEPTH_LIMIT:
            raise MalformedMessage(f"nested deeper than {DEPTH_LIMIT}")
        items: list[Value] = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _value(data, at, depth + 1)
            items.append(item)
        return items, at + 1
    if kind == b"i":
        return _integer(data, at + 1)
    if not kind:
        raise MalformedMessage("ends inside a value", incomplete=True)
    raise MalformedMessage(f"no value begins with {kind!r} (at byte {at})")


def _dictionary(data: bytes, at: int, depth: int) -> tuple[dict[bytes, Value], int]:
    if depth > DEPTH_LIMIT:
        raise MalformedMessage(f"nested deeper than {DEPTH_LIMIT}")
    found: dict[bytes, Value] = {}
    find = data.find
    size = len(data)
    while True:
        # Keys and nearly all values are short strings: read here, without a call.
        colon = find(b":", at, at + 8)
        digits = data[at:colon]
        if colon < 0 or not digits.isdigit() or (end := colon + 1 + int(digits)) > size or digits[0] == 48:
            if data[at : at + 1] == b"e":
                return found, at + 1
            key, at = _string(data, at)
        else:
            key = data[colon + 1 : end]
            at = end
        colon = find(b":", at, at + 8)
        digits = data[at:colon]
        if colon < 0 or not digits.isdigit() or (end := colon + 1 + int(digits)) > size or digits[0] == 48:
            found[key], at = _value(data, at, depth)
        else:
            found[key] = data[colon + 1 : end]
            at = end


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    colon = data.find(b":", at, at + 8)
    if colon < 0:
        if len(data) - at < 8 and _DIGITS.issuperset(data[at:]):
            raise MalformedMessage("ends inside a string length", incomplete=True)
        raise MalformedMessage(f"no string at byte {at}")
    digits = data[at:colon]
    if not digits.isdigit() or (digits[0] == 48 and len(digits) > 1):
        raise MalformedMessage(f"malformed string length at byte {at}")
    end = colon + 1 + int(digits)
    if end > len(data):
        if end - at > SIZE_LIMIT:
            raise MalformedMessage(f"longer than {SIZE_LIMIT} bytes")
        raise MalformedMessage("ends inside a string", incomplete=True)
    return data[colon + 1 : end], end


def _integer(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"e", at, at + _INT_DIGITS + 2)
    if end < 0:
        if len(data) - at <= _INT_DIGITS and _DIGITS.issuperset(data[at:].removeprefix(b"-")):
            raise MalformedMessage("ends inside an integer", incomplete=True)
        raise MalformedMessage(f"malformed integer at byte {at}")
    text = data[at:end]
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or (digits[0] == 48 and text != b"0"):
        raise MalformedMessage(f"malformed integer at byte {at}")
    return int(text), end + 1


def encode(value: Encodable) -> bytes:
    """Encode a value; dictionaries keep their order, floats become strings."""
    out: list[str] = []
    try:
        _append(out, value)
        return "".join(out).encode("latin-1")
    except UnicodeEncodeError:
        return encode(_as_octets(value))


def _append(out: list[str], value: Encodable) -> None:
    # Octets travel as latin-1 text until the end: formatting text is what Python does fastest. Exact types first,
    # because a reply is made of hundreds of small values.
    kind = type(value)
    if kind is dict:
        out.append("d")
        for key, item in value.items():  # type: ignore[union-attr]
            kind = type(item)
            if kind is str:
                out.append(f"{_KEYS[key]}{len(item)}:{item}")  # type: ignore[arg-type]
            elif kind is int:
                out.append(f"{_KEYS[key]}i{item}e")
            else:
                out.append(_KEYS[key])
                _append(out, item)
        out.append("e")
    elif kind is list:
        out.append("l")
        for item in value:  # type: ignore[union-attr]
            _append(out, item)
        out.append("e")
    elif kind is Encoded:
        out.append(value)  # type: ignore[arg-type]
    elif isinstance(value, str):
        out.append(f"{len(value)}:{value}")
    elif isinstance(value, bytes):
        out.append(f"{len(value)}:{value.decode('latin-1')}")
    elif isinstance(value, int):
        out.append(f"i{int(value)}e")
    elif isinstance(value, float):
        _append(out, repr(value))
    elif isinstance(value, Mapping):
        _append(out, dict(value))
    else:
        _append(out, list(value))


class _Keys(dict[str | bytes, str]):
    """Encoded dictionary keys: the protocol's own come first and stay, tags fill what room is left."""

    def __missing__(self, key: str | bytes) -> str:
        text = key.decode("latin-1") if isinstance(key, bytes) else key
        encoded = f"{len(text)}:{text}"
        if len(self) < _KEYS_MAX:
            self[key] = encoded
        return encoded


_KEYS_MAX = 1024
_KEYS = _Keys()


def _as_octets(value: Encodable) -> Encodable:
    if isinstance(value, Encoded):
        return value
    if isinstance(value, str):
        return octets(value)
    if isinstance(value, Mapping):
        return {octets(key) if isinstance(key, str) else key: _as_octets(item) for key, item in value.items()}
    if isinstance(value, bytes | int | float):
        return value
    return [_as_octets(item) for item in value]


def octets(text: str) -> bytes:
    """Give the octets that a text stands for."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
