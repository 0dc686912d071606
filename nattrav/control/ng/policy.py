"""The part of a request that an operator writes into his script: flags, replacements, interfaces, learning.

It is the same for call after call, so reading it is cached.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

from nattrav.control.ng.codec_bencode import Value, octets
from nattrav.control.ng.flags import prefixed, spelling
from nattrav.net.address import canonical
from relay.session import Learning, RtcpMux

_PER_MESSAGE = frozenset(
    {
        "command",
        "sdp",
        "call-id",
        "from-tag",
        "to-tag",
        "via-branch",
        "received-from",
        "sip-message-type",
        "sip-code",
        "rtpp-flags",
        "label",
        "to-label",
        "set-label",
        "metadata",
        "address",
        "all",
        "limit",
        "delete-delay",
    }
)
_FLAGS = frozenset(
    {
        "strict-source",
        "media-handover",
        "asymmetric",
        "unidirectional",
        "port-latching",
        "no-port-latching",
        "nat-wait",
        "pierce-nat",
        "trust-address",
        "sip-source-address",
        "symmetric",
        "original-sendrecv",
        "no-rtcp-attribute",
        "full-rtcp-attribute",
        "loop-protect",
        "new-branch",
        "provisional",
        "directional",
        "all",
        "fatal",
        "fast",
        "to-tag",
        "generate-mid",
        "debug",
        "reset",
        "reject-ice",
        "trickle-ice",
    }
)
_REPLACE = frozenset(
    {
        "origin",
        "origin-full",
        "username",
        "session-name",
        "sdp-version",
        "force-increment-sdp-ver",
        "zero-address",
        "session-connection",
    }
)
_KEYS = frozenset(
    {
        "direction",
        "interface",
        "from-interface",
        "to-interface",
        "address-family",
        "media-address",
        "rtcp-mux",
        "ice",
        "transport-protocol",
        "endpoint-learning",
        "tos",
        "flags",
        "replace",
        "supports",
    }
)
_LEARNING = {mode.value: mode for mode in Learning}
_MUX = {option.value: option for option in RtcpMux}
_CACHED_SIZE = 2048


@dataclass(frozen=True, slots=True)
class Policy:
    """What a script asks for. `unknown` names the keys and flags that mean nothing here."""

    flags: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()
    supports: frozenset[str] = frozenset()
    rtcp_mux: frozenset[RtcpMux] = frozenset()
    direction: tuple[str, ...] = ()
    address_family: int | None = None
    media_address: str | None = None
    transport_protocol: str | None = None
    learning: Learning | None = None
    tos: int | None = None
    ice: str | None = None
    unknown: tuple[str, ...] = ()


def read_policy(arguments: dict[str, Value]) -> Policy:
    """Read a request's keys, whose names are in their one spelling."""
    pairs: list[tuple[str, Hashable]] = []
    size = 0
    for name, value in arguments.items():
        if name in _PER_MESSAGE:
            continue
        if isinstance(value, bytes | int):
            pairs.append((name, value))
            size += len(name)
        elif isinstance(value, list):
            texts = tuple(item for item in value if isinstance(item, bytes))
            pairs.append((name, texts))
            size += sum(map(len, texts))
        else:
            pairs.append((name, b""))
    if size > _CACHED_SIZE:
        return _policy.__wrapped__(tuple(pairs))
    return _policy(tuple(pairs))


@lru_cache(maxsize=512)
def _policy(pairs: tuple[tuple[str, Hashable], ...]) -> Policy:
    keys: dict[str, list[str]] = {}
    for name, value in pairs:
        if isinstance(value, tuple):
            keys[name] = [item.decode("latin-1") for item in value]
        elif isinstance(value, bytes):
            keys[name] = [value.decode("latin-1")]
        else:
            keys[name] = [str(value)]
    unknown = [name for name in keys if name not in _KEYS]
    flags = _spread_flags(keys, unknown)
    replace = {spelling(word) for word in keys.get("replace", ())}
    one = {name: values[-1] for name, values in keys.items() if values}.get
    direction = tuple(keys.get("direction", ()))
    if not direction:
        both = one("interface", "")
        direction = (one("from-interface", both), one("to-interface", both))
    return Policy(
        flags=frozenset(flags & _FLAGS),
        replace=frozenset(replace & _REPLACE),
        supports=frozenset(word.lower() for word in keys.get("supports", ())),
        rtcp_mux=frozenset(_MUX[word] for word in map(spelling, keys.get("rtcp-mux", ())) if word in _MUX),
        direction=direction if any(direction) else (),
        address_family={"IP4": 4, "IP6": 6}.get(one("address-family", "").upper()),
        media_address=_address(one("media-address", "")),
        transport_protocol=one("transport-protocol"),
        learning=_LEARNING.get(spelling(one("endpoint-learning", ""))),
        tos=_tos(one("tos", "")),
        ice=one("ice"),
        unknown=(*unknown, *sorted(replace - _REPLACE)),
    )


def _spread_flags(keys: dict[str, list[str]], unknown: list[str]) -> set[str]:
    """Take prefixed flags and `internal`/`external` out of the flags and give them to their keys."""
    flags: set[str] = set()
    for word in keys.get("flags", ()):
        folded = spelling(word)
        if folded in _FLAGS:
            flags.add(folded)
        elif folded in ("internal", "external"):
            keys.setdefault("direction", []).append(folded)
        elif (entry := prefixed(word)) is not None and entry[0] in _KEYS:
            key, value, listed = entry
            if listed:
                keys.setdefault(key, []).append(value)
            else:
                keys[key] = [value]
        elif folded:
            unknown.append(folded)
    return flags


def _tos(text: str) -> int | None:
    number = integer_of(octets(text))
    return number if number is not None and number <= 255 else None


def _address(text: str) -> str | None:
    try:
        return canonical(text.strip("[]"))
    except ValueError:
        return None


def text_of(value: Value | None) -> str | None:
    """Read a string, as latin-1 text; None when absent, empty or something else."""
    if isinstance(value, bytes):
        return value.decode("latin-1") or None
    return str(value) if isinstance(value, int) else None


def integer_of(value: Value | None) -> int | None:
    """Read an integer, which may come as digits; None for anything else."""
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        try:
            return int(value[:20])
        except ValueError:
            return None
    return None
