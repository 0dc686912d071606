"""Decoding STUN: any bytes give a message that encodes back to its own meaning, or MalformedMessage; nothing else."""

from __future__ import annotations

from stun.attributes import MalformedMessage
from stun.message import decode, encode


def target(data: bytes) -> None:
    """Any bytes give a message that decodes again from its own encoding, or MalformedMessage and nothing else."""
    try:
        message = decode(data)
    except MalformedMessage:
        return
    entries = [(a.type, a.value) for a in message.attributes]
    again = decode(encode(message.method, message.message_class, message.transaction_id, entries))
    assert [(a.type, a.value) for a in again.attributes] == entries
    assert (again.method, again.message_class) == (message.method, message.message_class)
