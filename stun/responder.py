"""What a STUN server answers to one message (RFC 8489 §6.3, RFC 5780 §6, RFC 3489 §8).

The order of work: basic checks → FINGERPRINT → authentication → unknown attributes → behaviour discovery → reply.
Failing a basic check means silence, with a reason. This is the reference the vectorised path is measured against.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from nattrav.net.address import TransportAddress
from stun import classic
from stun.attributes import (
    REASONS,
    AttributeType,
    ChangeFlags,
    MalformedMessage,
    comprehension_required,
    encode_address,
    encode_error,
    encode_types,
    encode_xor_address,
)
from stun.behavior import CHANGE_MASK, REFLECTION_PORTS, Endpoint, SourceScreen
from stun.credentials import Authenticated, Authenticator, Proof, Rejected, Unprotected
from stun.integrity import add_fingerprint, add_integrity, add_integrity_sha256, fingerprint_holds
from stun.message import BINDING, SHARED_SECRET, Attribute, Message, MessageClass, decode, encode

T = AttributeType


class DropReason(enum.Enum):
    """Why a datagram got no answer; the values are metric labels."""

    NOT_STUN = "not_stun"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    BAD_FINGERPRINT = "bad_fingerprint"
    BAD_INTEGRITY = "bad_integrity"
    BAD_SOURCE = "bad_source"
    RESPONSE_SEEN = "response_seen"
    INDICATION = "indication"
    UNSUPPORTED_METHOD = "unsupported_method"
    CLASSIC_REFUSED = "classic_refused"
    RATE_LIMITED = "rate_limited"


class Transport(enum.Enum):
    """How the request came; the values are metric labels."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True)
class Policy:
    """What this server does where the RFCs leave a choice."""

    classic: Literal["on", "plain", "off"] = "on"
    """RFC 3489 clients: answered in full, without CHANGE-REQUEST and CHANGED-ADDRESS, or not at all."""
    software: str = ""
    minimal: bool = False
    """XOR-MAPPED-ADDRESS alone; behaviour discovery is refused."""
    strict_change_request: bool = False
    """Refuse CHANGE-REQUEST without flags too when there is no second address (the letter of RFC 5780)."""
    response_port: bool = True
    response_address: Literal["off", "same_ip"] = "off"
    """Follow RESPONSE-ADDRESS (RFC 3489) only to the address the request came from (TR-111), or refuse it."""
    padding_limit: int = 1500
    """Largest PADDING in a reply, normally the interface's MTU; never more than the request brought."""
    alternate_servers: tuple[TransportAddress, ...] = ()
    """Authenticated clients are sent there with 300 (RFC 8489 §10)."""
    alternate_domain: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: from endpoint `at`, to `to`. `code` is 0 for success; `guarded` replies have a limit of their own."""

    data: bytes
    at: int
    to: TransportAddress
    code: int
    guarded: bool = False
    changed: int = 0
    """The change flags that were followed."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No reply, and why."""

    reason: DropReason


class Refusal(Exception):
    """A request that gets an error response."""

    def __init__(self, code: int, attributes: tuple[tuple[int, bytes], ...] = ()) -> None:
        super().__init__(REASONS[code])
        self.code = code
        self.attributes = attributes


IGNORED_IN_REQUEST = frozenset(
    {
        T.MAPPED_ADDRESS,
        T.USERNAME,
        T.MESSAGE_INTEGRITY,
        T.ERROR_CODE,
        T.UNKNOWN_ATTRIBUTES,
        T.REALM,
        T.NONCE,
        T.MESSAGE_INTEGRITY_SHA256,
        T.PASSWORD_ALGORITHM,
        T.USERHASH,
        T.XOR_MAPPED_ADDRESS,
        T.PRIORITY,
        T.USE_CANDIDATE,
    }
)
"""Known and comprehension-required, yet meaningless in a plain Binding request: no error, no effect."""
_DISCOVERY = frozenset({T.CHANGE_REQUEST, T.PADDING, T.RESPONSE_PORT})


class Responder:
    """Answers requests that reach any of `endpoints`; keeps no state about clients."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        policy: Policy | None = None,
        authenticator: Authenticator | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.policy = policy or Policy()
        self.authenticator = authenticator
        self.screen = SourceScreen(endpoints)
        self._known = IGNORED_IN_REQUEST if self.policy.minimal else IGNORED_IN_REQUEST | _DISCOVERY
        if not self.policy.response_port:
            self._known -= {T.RESPONSE_PORT}

    def respond(
        self,
        data: bytes,
        at: int,
        source: TransportAddress,
        transport: Transport = Transport.UDP,
        *,
        wall: float = 0.0,
    ) -> Answer | Drop:
        """Answer one datagram or framed message that reached endpoint `at`. `wall` is the time nonces live by."""
        if self.screen.refuses(source):
            return Drop(DropReason.BAD_SOURCE)
        return self.judge(data, at, source, transport, wall=wall)

    def judge(
        self,
        data: bytes,
        at: int,
        source: TransportAddress,
        transport: Transport = Transport.UDP,
        *,
        wall: float = 0.0,
    ) -> Answer | Drop:
        """Do as `respond` does, for a source that is already screened."""
        try:
            message = decode(data)
        except MalformedMessage as malformed:
            return Drop(DropReason.MALFORMED if malformed.stun else DropReason.NOT_STUN)
        if message.message_class in (MessageClass.SUCCESS, MessageClass.ERROR):
            return Drop(DropReason.RESPONSE_SEEN)
        if message.classic:
            return self._respond_classic(message, at, source, transport)
        if message.method != BINDING:
            return Drop(DropReason.UNSUPPORTED_METHOD)
        if message.message_class is MessageClass.INDICATION:
            return Drop(DropReason.INDICATION)
        closing = message.find(T.FINGERPRINT)
        if closing is not None and not fingerprint_holds(message):
            return Drop(DropReason.BAD_FINGERPRINT)
        proof: Proof = Unprotected()
        try:
            if self.authenticator is not None:
                verdict = self.authenticator.check(message, source, wall)
                if isinstance(verdict, Rejected):
                    raise Refusal(verdict.code, verdict.attributes)
                proof = verdict
                self._send_elsewhere(message, source, proof, transport)
            return self._succeed(message, at, source, transport, proof)
        except Refusal as refusal:
            attributes = [(int(T.ERROR_CODE), encode_error(refusal.code)), *refusal.attributes]
            reply = self._close(message, MessageClass.ERROR, attributes, proof)
            return Answer(reply, at, source, refusal.code, guarded=True)

    def _succeed(
        self, message: Message, at: int, source: TransportAddress, transport: Transport, proof: Proof
    ) -> Answer:
        considered = effective(message)
        endpoint = self.endpoints[at]
        discovery = {} if self.policy.minimal else discovery_attributes(considered)
        unknown = [t for t in dict.fromkeys(a.type for a in considered) if comprehension_required(t)]
        unknown = [t for t in unknown if t not in self._known or self._refuses_change(t, discovery, endpoint)]
        if unknown:
            raise Refusal(420, ((T.UNKNOWN_ATTRIBUTES, encode_types(unknown)),))
        userhash = message.first(T.USERHASH)
        if userhash is not None and len(userhash) != 32:
            raise Refusal(400)
        flags, port, padding = self._read_discovery(discovery, transport)
        reply_from = at if endpoint.changed is None else endpoint.changed[flags >> 1]
        attributes = self._success_attributes(message, reply_from, at, source)
        if padding is not None:
            attributes.append((T.PADDING, b"\0" * min(self.policy.padding_limit + 3 & ~3, len(padding) + 3 & ~3)))
        reply = self._close(message, MessageClass.SUCCESS, attributes, proof)
        to = source if port is None else TransportAddress(source.host, port)
        return Answer(reply, reply_from, to, 0, guarded=port is not None, changed=flags)

    def _refuses_change(self, kind: int, discovery: dict[int, bytes], endpoint: Endpoint) -> bool:
        """Without a full set CHANGE-REQUEST counts as unknown, unless it asks for nothing (several clients do)."""
        if kind != T.CHANGE_REQUEST or endpoint.changed is not None:
            return False
        value = discovery[kind]
        return self.policy.strict_change_request or len(value) != 4 or bool(value[3] & CHANGE_MASK)

    def _read_discovery(
        self, found: dict[int, bytes], transport: Transport
    ) -> tuple[ChangeFlags, int | None, bytes | None]:
        """Give change flags, response port and padding (RFC 5780 §6.1). Raises Refusal."""
        flags = ChangeFlags(0)
        change, response_port, padding = (found.get(t) for t in (T.CHANGE_REQUEST, T.RESPONSE_PORT, T.PADDING))
        if change is not None:
            if len(change) != 4:
                raise Refusal(400)
            flags = ChangeFlags(change[3] & CHANGE_MASK)
        port = None
        if response_port is not None:
            if len(response_port) not in (2, 4):
                raise Refusal(400)
            port = int.from_bytes(response_port[:2], "big")
            if port in REFLECTION_PORTS:
                raise Refusal(400)
        if port is not None and padding is not None:
            raise Refusal(400)
        if transport is not Transport.UDP and (flags or port is not None or padding is not None):
            raise Refusal(400)
        return flags, port, padding

    def _success_attributes(
        self, message: Message, reply_from: int, at: int, source: TransportAddress
    ) -> list[tuple[int, bytes]]:
        mapped = (int(T.XOR_MAPPED_ADDRESS), encode_xor_address(source, message.transaction_id))
        if self.policy.minimal:
            return [mapped]
        attributes = [
            (int(T.MAPPED_ADDRESS), encode_address(source)),
            mapped,
            (int(T.RESPONSE_ORIGIN), encode_address(self.endpoints[reply_from].advertised)),
        ]
        changed = self.endpoints[at].changed
        if changed is not None:
            attributes.append((int(T.OTHER_ADDRESS), encode_address(self.endpoints[changed[3]].advertised)))
        return attributes

    def _send_elsewhere(
        self, message: Message, source: TransportAddress, proof: Authenticated, transport: Transport
    ) -> None:
        """Redirect an authenticated client (RFC 8489 §10, §14.15); its own family's server comes first."""
        if not self.policy.alternate_servers or any(message.find(t) for t in _DISCOVERY):
            return
        same = [a for a in self.policy.alternate_servers if a.family == source.family]
        if not same:
            return
        other = [a for a in self.policy.alternate_servers if a.family != source.family]
        attributes = [(int(T.ALTERNATE_SERVER), encode_address(a)) for a in (*same[:1], *other[:1])]
        if self.policy.alternate_domain and transport is Transport.TLS and proof.sha256:
            attributes.append((T.ALTERNATE_DOMAIN, self.policy.alternate_domain.encode()))
        raise Refusal(300, tuple(attributes))

    def _close(
        self, message: Message, message_class: MessageClass, attributes: list[tuple[int, bytes]], proof: Proof
    ) -> bytes:
        """Build the reply: SOFTWARE, then the integrity that was checked, then FINGERPRINT if the request had one."""
        if self.policy.software:
            attributes.append((T.SOFTWARE, self.policy.software.encode()))
        reply = encode(message.method, message_class, message.transaction_id, attributes)
        if isinstance(proof, Authenticated):
            reply = (add_integrity_sha256 if proof.sha256 else add_integrity)(reply, proof.key)
        return add_fingerprint(reply) if message.find(T.FINGERPRINT) else reply

    def _respond_classic(
        self, message: Message, at: int, source: TransportAddress, transport: Transport
    ) -> Answer | Drop:
        if self.policy.classic == "off" or ":" in source.host or self.policy.minimal:
            return Drop(DropReason.CLASSIC_REFUSED)
        if message.message_class is not MessageClass.REQUEST:
            return Drop(DropReason.INDICATION)
        if message.method == SHARED_SECRET:
            # A shared secret is given out over TLS only, and this server's credentials are configured instead.
            reply = classic.error(message, 433 if transport is not Transport.TLS else 600)
            return Answer(reply, at, source, 433 if transport is not Transport.TLS else 600, guarded=True)
        if message.method != BINDING or transport is not Transport.UDP:
            return Drop(DropReason.UNSUPPORTED_METHOD)
        key = None
        if self.authenticator is not None:
            verdict = self.authenticator.check_classic(message)
            if isinstance(verdict, Rejected):
                return Answer(classic.error(message, verdict.code), at, source, verdict.code, guarded=True)
            key = verdict.key
        request = classic.read(message, source, self.policy.response_address == "same_ip")
        endpoint = self.endpoints[at]
        changed = endpoint.changed if self.policy.classic == "on" else None
        unknown = list(request.unknown)
        if changed is None and (request.flags or (self.policy.strict_change_request and request.has_change)):
            unknown = list(dict.fromkeys([*unknown, int(T.CHANGE_REQUEST)]))
        if unknown:
            return Answer(classic.error(message, 420, unknown, key=key), at, source, 420, guarded=True)
        if request.malformed:
            return Answer(classic.error(message, 400, key=key), at, source, 400, guarded=True)
        reply_from = at if changed is None else changed[request.flags >> 1]
        reply = classic.success(
            message,
            source,
            self.endpoints[reply_from].advertised,
            None if changed is None else self.endpoints[changed[3]].advertised,
            reflected=request.to is not None,
            key=key,
        )
        to = source if request.to is None else request.to
        return Answer(reply, reply_from, to, 0, guarded=request.to is not None, changed=request.flags)


def effective(message: Message) -> list[Attribute]:
    """What counts of a modern message: after an integrity attribute only its successors are read (§14.5-14.7)."""
    considered = []
    for attribute in message.attributes:
        if attribute.type in (T.MESSAGE_INTEGRITY, T.MESSAGE_INTEGRITY_SHA256):
            break
        considered.append(attribute)
    return considered


def discovery_attributes(considered: list[Attribute]) -> dict[int, bytes]:
    """The first of each RFC 5780 attribute that steers the reply."""
    found: dict[int, bytes] = {}
    for attribute in considered:
        if attribute.type in _DISCOVERY:
            found.setdefault(attribute.type, attribute.value)
    return found


_NOWHERE = TransportAddress("0.0.0.0", 0)
_KEEPALIVE = Responder((Endpoint(_NOWHERE, _NOWHERE),), Policy(minimal=True, classic="off"))


def answer_keepalive(datagram: bytes, source: TransportAddress) -> bytes | None:
    """Answer a Binding request that came to a SIP port (RFC 5626 §8): XOR-MAPPED-ADDRESS, nothing else.

    None when the datagram is no such request; SIP never begins with an octet below 4 (RFC 7983).
    """
    if len(datagram) < 20 or datagram[0] > 3:
        return None
    answer = _KEEPALIVE.respond(datagram, 0, source)
    return answer.data if isinstance(answer, Answer) else None
