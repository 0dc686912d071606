"""A request as ng clients send it, read into what a relay needs: dialogue, options, wording of the SDP.

Nothing a client writes here is an error: unknown keys and flags are left out and named in `Policy.unknown`.
"""

from __future__ import annotations

from nattrav.control.ng.codec_bencode import Value
from nattrav.control.ng.flags import key_name, parse_rtpp_flags, spelling, to_value
from nattrav.control.ng.policy import Policy, integer_of, read_policy, text_of
from nattrav.net.address import canonical
from nattrav.net.immutable import immutable
from relay.session import CallKey, SideOptions

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


@immutable
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
        return text_of(self.arguments.get(name))

    def integer(self, name: str) -> int | None:
        """An integer argument, which may come as digits."""
        return integer_of(self.arguments.get(name))


def read(command: str, raw: dict[bytes, Value]) -> Request:
    """Read a decoded dictionary whose `command` is known."""
    arguments = {key_name(key): value for key, value in raw.items()}
    if "rtpp-flags" in arguments:
        _unfold(arguments)
    return Request(
        command,
        read_policy(arguments),
        arguments,
        text_of(arguments.get("call-id")),
        text_of(arguments.get("from-tag")),
        text_of(arguments.get("to-tag")),
        text_of(arguments.get("via-branch")),
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
    text = text_of(value)
    if text is None:
        return None
    text = text.rpartition(" ")[2].removeprefix("IP4:").removeprefix("IP6:").strip("[]")
    try:
        return canonical(text)
    except ValueError:
        return None


def _unfold(arguments: dict[str, Value]) -> None:
    """Spread `rtpp-flags` over the keys: lists grow, other keys are set."""
    text = text_of(arguments.pop("rtpp-flags"))
    if text is None:
        return
    for key, words in parse_rtpp_flags(text).items():
        value = to_value(words)
        old = arguments.get(key)
        if isinstance(value, list) and old is not None:
            arguments[key] = [*(old if isinstance(old, list) else [old]), *value]
        else:
            arguments[key] = value
