"""A request as ng clients send it, read into what a relay needs: dialogue, options, wording of the SDP.

Nothing a client writes here is an error: unknown keys and flags are left out and named in `Policy.unknown`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

from nattrav.control.ng.codec_bencode import Value, octets
from nattrav.control.ng.flags import key_name, parse_rtpp_flags, prefixed, spelling, to_value
from nattrav.net.address import canonical
from relay.session import CallKey, Learning, RtcpMux, SideOptions

CARRIED_OUT = frozenset(
    {"ping", "offer", "answer", "delete", "query", "list", "statistics", "block media", "unblock media"}
)
UNSUPPORTED = frozenset(
    {
        "silence media",
        "unsilence media",
        "block DTMF",
        "unblock DTMF",
        "start recording",
        "stop recording",
        "pause recording",
        "start forwarding",
        "stop forwarding",
        "play media",
        "stop media",
        "play DTMF",
    }
)
"""Commands that rtpengine knows and we do not carry out."""

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
    """The part of a request that an operator writes into his script: the same for call after call."""

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


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Strings are octets as latin-1 text; `arguments` has the keys under their one spelling."""

    command: str
    policy: Policy
    arguments: dict[str, Value]
    call_id: str | None
    from_tag: str | None
    to_tag: str | None
    via_branch: str | None

    @property
    def sdp(self) -> bytes | None:
        """The session description."""
        value = self.arguments.get("sdp")
        return value if isinstance(value, bytes) and value else None

    def key(self) -> CallKey:
        """The dialogue; only with a call-id."""
        return CallKey(self.call_id or "", self.from_tag, self.to_tag, self.via_branch)

    def text(self, name: str) -> str | None:
        """A string argument; None when absent, empty or something else."""
        return _text(self.arguments.get(name))

    def integer(self, name: str) -> int | None:
        """An integer argument, which may come as digits."""
        return _integer(self.arguments.get(name))


def read(command: str, raw: dict[bytes, Value]) -> Request:
    """Read a decoded dictionary whose `command` is known."""
    arguments = {key_name(key): value for key, value in raw.items()}
    if "rtpp-flags" in arguments:
        _unfold(arguments)
    return Request(
        command,
        _policy_of(arguments),
        arguments,
        _text(arguments.get("call-id")),
        _text(arguments.get("from-tag")),
        _text(arguments.get("to-tag")),
        _text(arguments.get("via-branch")),
    )


def side_options(request: Request, *, source: str | None, has_ice: bool = False) -> SideOptions:
    """Give the engine's options. `source` is the control peer; an address in the SDP with ICE is always trusted."""
    policy = request.policy
    flags = policy.flags
    arguments = request.arguments
    sip_type = request.text("sip-message-type")
    code = request.integer("sip-code") if "sip-code" in arguments else None
    is_reply = sip_type is not None and spelling(sip_type) in ("sip-reply", "sip-response")
    delay = request.integer("delete-delay") if "delete-delay" in arguments else None
    direction = policy.direction
    return SideOptions(
        learning=policy.learning,
        strict_source=True if "strict-source" in flags else None,
        media_handover="media-handover" in flags,
        asymmetric="asymmetric" in flags,
        port_latching="port-latching" in flags,
        no_port_latching="no-port-latching" in flags,
        nat_wait="nat-wait" in flags,
        pierce_nat="pierce-nat" in flags,
        unidirectional="unidirectional" in flags,
        signalling_source=received_from(arguments.get("received-from")),
        sip_source_address="sip-source-address" in flags and not has_ice,
        from_interface=direction[0] if direction and direction[0] else None,
        to_interface=direction[1] if len(direction) > 1 and direction[1] else None,
        address_family=policy.address_family,
        rtcp_mux=policy.rtcp_mux,
        tos=policy.tos,
        label=request.text("label"),
        to_label=request.text("to-label"),
        metadata=request.text("metadata"),
        delete_delay=float(delay) if delay is not None and delay >= 0 else None,
        new_branch="new-branch" in flags,
        provisional="provisional" in flags,
        final_response=is_reply and code is not None and code >= 200,
        supports_load_limit="load limit" in policy.supports,
        source=source,
    )


def received_from(value: Value | None) -> str | None:
    """Read `[IP4, address]` or a bare address; None when absent or not a literal address."""
    if isinstance(value, list):
        value = value[-1] if value else None
    text = _text(value)
    if text is None:
        return None
    text = text.rpartition(" ")[2].removeprefix("IP4:").removeprefix("IP6:").strip("[]")
    try:
        return canonical(text)
    except ValueError:
        return None


def _unfold(arguments: dict[str, Value]) -> None:
    """Spread `rtpp-flags` over the keys: lists grow, other keys are set."""
    text = _text(arguments.pop("rtpp-flags"))
    if text is None:
        return
    for key, words in parse_rtpp_flags(text).items():
        value = to_value(words)
        old = arguments.get(key)
        if isinstance(value, list) and old is not None:
            arguments[key] = [*(old if isinstance(old, list) else [old]), *value]
        else:
            arguments[key] = value


def _policy_of(arguments: dict[str, Value]) -> Policy:
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
    number = _integer(octets(text))
    return number if number is not None and number <= 255 else None


def _address(text: str) -> str | None:
    try:
        return canonical(text.strip("[]"))
    except ValueError:
        return None


def _text(value: Value | None) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1") or None
    return str(value) if isinstance(value, int) else None


def _integer(value: Value | None) -> int | None:
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        try:
            return int(value[:20])
        except ValueError:
            return None
    return None
