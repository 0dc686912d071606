"""RFC 3489 clients, answered in their own terms: 128-bit transaction ids, IPv4 only, no attribute of odd length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from stun.attributes import (
    AttributeType,
    ChangeFlags,
    MalformedMessage,
    comprehension_required,
    decode_address,
    encode_address,
    encode_error,
    encode_types,
)
from stun.behavior import CHANGE_MASK, REFLECTION_PORTS
from stun.integrity import add_classic_integrity
from stun.message import Message, MessageClass, encode

T = AttributeType

IGNORED = frozenset(
    {
        T.MAPPED_ADDRESS,
        T.SOURCE_ADDRESS,
        T.CHANGED_ADDRESS,
        T.USERNAME,
        T.PASSWORD,
        T.MESSAGE_INTEGRITY,
        T.ERROR_CODE,
        T.UNKNOWN_ATTRIBUTES,
        T.REFLECTED_FROM,
    }
)


@dataclass(frozen=True)
class ClassicRequest:
    """What a classic Binding request asks for."""

    flags: ChangeFlags
    has_change: bool
    to: TransportAddress | None
    """RESPONSE-ADDRESS, where it may be followed."""
    unknown: tuple[int, ...]
    malformed: bool


def read(message: Message, source: TransportAddress, same_ip: bool) -> ClassicRequest:
    """Read the attributes (§8.1). RESPONSE-ADDRESS is unknown unless it names the source's own IP and `same_ip`."""
    unknown: list[int] = []
    seen: set[int] = set()
    flags, has_change, to, malformed = ChangeFlags(0), False, None, False
    for attribute in message.attributes:
        if attribute.type in seen or not comprehension_required(attribute.type):
            continue
        seen.add(attribute.type)
        if attribute.type == T.CHANGE_REQUEST:
            has_change = True
            if len(attribute.value) == 4:
                flags = ChangeFlags(attribute.value[3] & CHANGE_MASK)
            else:
                malformed = True
        elif attribute.type == T.RESPONSE_ADDRESS and same_ip:
            try:
                to = decode_address(attribute.value)
            except MalformedMessage:
                malformed = True
                continue
            if to.host != source.host or to.port in REFLECTION_PORTS:
                to = None
                unknown.append(attribute.type)
        elif attribute.type not in IGNORED:
            unknown.append(attribute.type)
    return ClassicRequest(flags, has_change, to, tuple(unknown), malformed)


def success(
    message: Message,
    mapped: TransportAddress,
    origin: TransportAddress,
    changed: TransportAddress | None,
    *,
    reflected: bool = False,
    key: bytes | None = None,
) -> bytes:
    """Binding response: MAPPED-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS where there is one (§8.1, §11.2)."""
    attributes = [(int(T.MAPPED_ADDRESS), encode_address(mapped)), (int(T.SOURCE_ADDRESS), encode_address(origin))]
    if changed is not None:
        attributes.append((int(T.CHANGED_ADDRESS), encode_address(changed)))
    if reflected:
        attributes.append((int(T.REFLECTED_FROM), encode_address(mapped)))
    reply = encode(message.method, MessageClass.SUCCESS, message.transaction_id, attributes)
    return reply if key is None else add_classic_integrity(reply, key)


def error(message: Message, code: int, unknown: Sequence[int] = (), *, key: bytes | None = None) -> bytes:
    """Error response, with UNKNOWN-ATTRIBUTES for 420."""
    attributes = [(int(T.ERROR_CODE), encode_error(code, classic=True))]
    if unknown:
        attributes.append((int(T.UNKNOWN_ATTRIBUTES), encode_types(unknown, classic=True)))
    reply = encode(message.method, MessageClass.ERROR, message.transaction_id, attributes)
    return reply if key is None else add_classic_integrity(reply, key)
