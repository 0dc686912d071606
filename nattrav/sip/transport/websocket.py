"""SIP over WebSocket (RFC 7118): one message per WebSocket message, sub-protocol `sip`."""

from __future__ import annotations

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from nattrav.sip.errors import MalformedMessage
from nattrav.sip.parser import MAX_STREAM_MESSAGE
from nattrav.sip.transport.codec import Decoded

SUBPROTOCOL = "sip"
_MAX_HANDSHAKE = 16384


class _WebSocket:
    """What both sides share; wsproto keeps the protocol's state."""

    def __init__(self, connection: WSConnection) -> None:
        self.fault: MalformedMessage | None = None
        self.established = False
        self._connection = connection
        self._message = bytearray()
        self._handshake = 0
        self._ended = False

    @property
    def partial(self) -> bool:
        """A message, or the handshake, is not complete."""
        return bool(self._message) or not self.established

    def start(self) -> bytes:
        """Octets to send first."""
        return b""

    def receive(self, data: bytes) -> Decoded:
        """Take octets from the peer."""
        messages: list[bytes] = []
        reply = bytearray()
        keepalives = 0
        if self._ended:
            return Decoded(messages, b"", 0)
        if not self.established:
            self._handshake += len(data)
            if self._handshake > _MAX_HANDSHAKE:
                self._fail("WebSocket handshake too long")
                return Decoded(messages, b"", 0)
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                answer = self._handle(event, messages)
                if answer is not None:
                    reply += self._connection.send(answer)
                if isinstance(event, Ping | Pong):
                    keepalives += 1
                if self._has_ended():
                    break
        except (RemoteProtocolError, LocalProtocolError, UnicodeError) as error:
            # wsproto lets the decoding of a broken Host header field escape.
            self._fail(f"WebSocket: {error}")
            hint = getattr(error, "event_hint", None)
            if hint is not None and not self.established:
                reply += self._connection.send(hint)
        # RFC 7118 clients may also send the double CRLF of RFC 5626 as a message.
        crlf = [message for message in messages if not message.strip(b"\r\n\0")]
        if crlf:
            messages = [message for message in messages if message.strip(b"\r\n\0")]
            keepalives += len(crlf)
            reply += self.encode(b"\r\n")
        return Decoded(messages, bytes(reply), keepalives)

    def _handle(self, event: Event, messages: list[bytes]) -> Event | None:
        match event:
            case Message():
                data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
                self._message += data
                if len(self._message) > MAX_STREAM_MESSAGE:
                    self._fail("WebSocket message too long")
                    return CloseConnection(code=1009)
                if event.message_finished:
                    messages.append(bytes(self._message))
                    self._message.clear()
            case Ping():
                return event.response()
            case CloseConnection():
                self._fail("closed by peer")
                return event.response()
            case _:
                return self._shake_hands(event)
        return None

    def _shake_hands(self, event: Event) -> Event | None:
        raise NotImplementedError

    def _has_ended(self) -> bool:
        return self._ended

    def _fail(self, reason: str) -> None:
        self._ended = True
        self.fault = MalformedMessage(reason)

    def encode(self, message: bytes) -> bytes:
        """Wrap one message: text when it is UTF-8, else binary (RFC 7118 §5)."""
        if self._ended or not self.established:
            return b""
        try:
            return self._connection.send(TextMessage(data=message.decode()))
        except UnicodeDecodeError:
            return self._connection.send(BytesMessage(data=message))

    def ping(self) -> bytes:
        """A keepalive of ours."""
        return b"" if self._ended or not self.established else self._connection.send(Ping())

    def close(self) -> bytes:
        """The closing frame."""
        if self._ended or not self.established:
            return b""
        self._ended = True
        return self._connection.send(CloseConnection(code=1001))


class WebSocketServer(_WebSocket):
    """Our side of a connection that was accepted: refuses clients that do not ask for the `sip` sub-protocol."""

    def __init__(self) -> None:
        super().__init__(WSConnection(ConnectionType.SERVER))

    def _shake_hands(self, event: Event) -> Event | None:
        if not isinstance(event, Request):
            return None
        if SUBPROTOCOL not in [name.lower() for name in event.subprotocols]:
            self._fail("WebSocket client does not ask for sub-protocol sip")
            return RejectConnection(status_code=400, has_body=False)
        self.established = True
        return AcceptConnection(subprotocol=SUBPROTOCOL)


class WebSocketClient(_WebSocket):
    """Our side of a connection we opened. `host` goes into the Host header field."""

    def __init__(self, host: str, path: str = "/") -> None:
        super().__init__(WSConnection(ConnectionType.CLIENT))
        self._host = host
        self._path = path

    def start(self) -> bytes:
        """The upgrade request."""
        return self._connection.send(Request(host=self._host, target=self._path, subprotocols=[SUBPROTOCOL]))

    def _shake_hands(self, event: Event) -> Event | None:
        match event:
            case AcceptConnection(subprotocol="sip"):
                self.established = True
            case AcceptConnection():
                self._fail("WebSocket server does not speak sub-protocol sip")
                return CloseConnection(code=1002)
            case RejectConnection() | RejectData():
                self._fail("WebSocket server refused")
            case _:
                pass
        return None
