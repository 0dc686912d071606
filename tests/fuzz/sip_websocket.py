from __future__ import annotations

from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from nattrav.sip.transport.websocket import WebSocketServer

_UPGRADE = WSConnection(ConnectionType.CLIENT).send(Request(host="example.com", target="/", subprotocols=["sip"]))
SEEDS = [
    _UPGRADE,
    bytes([0x81, 0x85, 1, 2, 3, 4]) + b"hello",
    bytes([0x82, 0xFE, 0x01, 0x00, 1, 2, 3, 4]) + bytes(256),
    bytes([0x89, 0x80, 0, 0, 0, 0, 0x88, 0x80, 0, 0, 0, 0]),
    bytes([0x01, 0x81, 0, 0, 0, 0, 0x41, 0x80, 0x81, 0, 0, 0, 0, 0x42]),
]


def target(data: bytes) -> None:
    """Any octets before or after the handshake give messages, a reply or a fault, never an exception."""
    early = WebSocketServer()
    early.receive(data)
    server = WebSocketServer()
    server.receive(_UPGRADE)
    assert server.established
    decoded = server.receive(data)
    assert all(isinstance(message, bytes) for message in decoded.messages)
    server.encode(b"x\xff")
    server.close()
