"""A SIP user agent of few words for tests of what stands between two of them: one call, G.711, UDP on loopback.

It claims to sit at a private address, as a phone behind a NAT does; packets come from loopback all the same.
"""

from __future__ import annotations

import re
import secrets
import socket
import struct
from dataclasses import dataclass, field

WAIT = 5.0


@dataclass
class Message:
    """A received message: start line, header fields in order, body."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    def first(self, name: str) -> str:
        """The first value of a header field."""
        return next(value for key, value in self.fields if key == name.lower())

    def all(self, name: str) -> list[str]:
        """Every value of a header field."""
        return [value for key, value in self.fields if key == name.lower()]

    @property
    def status(self) -> int:
        """Status of a response, 0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/") else 0

    @property
    def method(self) -> str:
        """Method of a request, or of the request that a response answers."""
        return self.first("cseq").split()[1]


@dataclass
class Dialog:
    """What the next request of a call needs."""

    call_id: str
    local: str
    remote: str
    target: str
    routes: list[str] = field(default_factory=list)
    cseq: int = 1
    branch: str = ""
    first_target: str = ""


class Talker:
    """One phone. `name` is its user part, `private` the address it believes in."""

    def __init__(self, name: str, proxy: tuple[str, int], private: str) -> None:
        self.name = name
        self.voice = secrets.token_bytes(8)
        self.private = private
        self.proxy = proxy
        self.sip = _udp()
        self.rtp = _udp()
        self.dialog: Dialog | None = None
        self.media: tuple[str, int] | None = None
        self._sequence = 0

    def close(self) -> None:
        """Close the sockets."""
        self.sip.close()
        self.rtp.close()

    @property
    def uri(self) -> str:
        """The phone's address of record."""
        return f"sip:{self.name}@{self.proxy[0]}:{self.proxy[1]}"

    @property
    def contact(self) -> str:
        """Where the phone believes it is reached."""
        return f"<sip:{self.name}@{self.private}:5060>"

    def sdp(self, *more: str, address: str | None = None) -> bytes:
        """The phone's offer or answer. The port it claims is not the one its NAT gave it."""
        lines = [
            "v=0",
            f"o={self.name} 1 1 IN IP4 {self.private}",
            "s=-",
            f"c=IN IP4 {address or self.private}",
            "t=0 0",
            "m=audio 4000 RTP/AVP 0",
            *more,
        ]
        return "".join(line + "\r\n" for line in lines).encode()

    def register(self) -> Message:
        """Register at the proxy."""
        self._request("REGISTER", f"sip:{self.proxy[0]}:{self.proxy[1]}", self._new(self.uri))
        return self.response(200)

    def invite(self, uri: str, *more: str) -> None:
        """Call somebody."""
        self.dialog = self._new(uri)
        self._request("INVITE", uri, self.dialog, self.sdp(*more))

    def reinvite(self, body: bytes) -> None:
        """Offer anew within the call."""
        assert self.dialog is not None
        self.dialog.cseq += 1
        self._request("INVITE", self.dialog.target, self.dialog, body)

    def ack(self) -> None:
        """Acknowledge a 2xx."""
        assert self.dialog is not None
        self._request("ACK", self.dialog.target, self.dialog)

    def bye(self) -> None:
        """End the call."""
        assert self.dialog is not None
        self.dialog.cseq += 1
        self._request("BYE", self.dialog.target, self.dialog)

    def cancel(self) -> None:
        """Give the call up before it is answered."""
        assert self.dialog is not None
        self._request("CANCEL", self.dialog.first_target, self.dialog, branch=self.dialog.branch)

    def response(self, status: int) -> Message:
        """Wait for a response, skipping provisional ones; take dialog and media address from it."""
        while True:
            message = self.receive()
            if message.status == 0 or (message.status < 200 and message.status != status):
                continue
            if message.status == 200 and message.method == "CANCEL" and status == 487:
                continue
            assert message.status == status, message.start
            if message.method == "INVITE" and self.dialog is not None and status < 300:
                self._hear(message.body)
                if status >= 200:
                    self.dialog.remote = message.first("to")
                    self.dialog.target = _inside(message.first("contact"))
                    if not self.dialog.routes:
                        self.dialog.routes = _listed(message.all("record-route"))[::-1]
            elif message.method == "INVITE" and status >= 300 and self.dialog is not None:
                self._request(
                    "ACK", self.dialog.first_target, self.dialog, branch=self.dialog.branch, to=message.first("to")
                )
            return message

    def request(self, method: str) -> Message:
        """Wait for a request; an INVITE makes or refreshes the dialog."""
        while True:
            message = self.receive()
            if message.status or message.start.split()[0] != method:
                continue
            if method == "INVITE":
                if self.dialog is None:
                    self.dialog = Dialog(
                        message.first("call-id"),
                        f"{message.first('to')};tag={secrets.token_hex(4)}",
                        message.first("from"),
                        "",
                        _listed(message.all("record-route")),
                    )
                self.dialog.target = _inside(message.first("contact"))
                self._hear(message.body)
            return message

    def respond(self, request: Message, status: int, body: bytes = b"") -> None:
        """Answer a request."""
        assert self.dialog is not None
        head = [f"SIP/2.0 {status} Whatever"]
        head += [f"Via: {via}" for via in request.all("via")]
        head += [f"Record-Route: {route}" for route in request.all("record-route")]
        local = request.first("to") if "tag=" in request.first("to") else self.dialog.local
        head += [f"From: {request.first('from')}", f"To: {local}", f"Call-ID: {request.first('call-id')}"]
        head += [f"CSeq: {request.first('cseq')}", f"Contact: {self.contact}"]
        self._send(head, body)

    def receive(self) -> Message:
        """Take the next message off the socket."""
        data = self.sip.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        start, *lines = head.decode().split("\r\n")
        fields = [(line.partition(":")[0].strip().lower(), line.partition(":")[2].strip()) for line in lines]
        return Message(start, fields, body)

    def speak(self, count: int = 3) -> None:
        """Send some RTP packets to where the other side's description said."""
        assert self.media is not None
        for _ in range(count):
            self._sequence += 1
            header = struct.pack("!BBHII", 0x80, 0, self._sequence, 160 * self._sequence, hash(self.voice) & 0xFFFFFFFF)
            self.rtp.sendto(header + self.voice.ljust(160, b"\xff"), self.media)

    def hears(self, other: Talker) -> bool:
        """Tell whether the other's packets arrive; both should have spoken."""
        self.rtp.settimeout(0.3)
        for _ in range(20):
            try:
                packet = self.rtp.recv(2048)
            except TimeoutError:
                return False
            if packet[12:].startswith(other.voice):
                return True
        return False

    def _hear(self, body: bytes) -> None:
        address = re.search(rb"c=IN IP4 (\S+)", body)
        port = re.search(rb"m=audio (\d+)", body)
        if address and port:
            self.media = (address[1].decode(), int(port[1]))

    def _new(self, uri: str) -> Dialog:
        local = f"<{self.uri}>;tag={secrets.token_hex(4)}"
        return Dialog(secrets.token_hex(8), local, f"<{uri}>", uri, first_target=uri)

    def _request(
        self, method: str, uri: str, dialog: Dialog, body: bytes = b"", *, branch: str = "", to: str = ""
    ) -> None:
        branch = branch or f"z9hG4bK{secrets.token_hex(6)}"
        if method == "INVITE":
            dialog.branch = branch
        head = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {self.private}:5060;rport;branch={branch}"]
        head += [f"Route: {route}" for route in dialog.routes]
        head += [f"From: {dialog.local}", f"To: {to or dialog.remote}", f"Call-ID: {dialog.call_id}"]
        head += [f"CSeq: {dialog.cseq} {method}", f"Contact: {self.contact}", "Max-Forwards: 70", "User-Agent: talker"]
        self._send(head, body)

    def _send(self, head: list[str], body: bytes) -> None:
        if body:
            head.append("Content-Type: application/sdp")
        head.append(f"Content-Length: {len(body)}")
        self.sip.sendto("\r\n".join(head).encode() + b"\r\n\r\n" + body, self.proxy)


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(WAIT)
    return sock


def _inside(name_addr: str) -> str:
    found = re.search(r"<([^>]*)>", name_addr)
    return found[1] if found else name_addr


def _listed(values: list[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",")]


def connect(caller: Talker, callee: Talker) -> None:
    """Set a call up."""
    caller.invite(callee.uri)
    invite = callee.request("INVITE")
    callee.respond(invite, 180)
    callee.respond(invite, 200, callee.sdp())
    caller.response(200)
    caller.ack()
    callee.request("ACK")


def hang_up(one: Talker, other: Talker) -> None:
    """End the call."""
    one.bye()
    other.respond(other.request("BYE"), 200)
    one.response(200)


def assert_both_hear(one: Talker, other: Talker) -> None:
    """Both speak until both hear each other."""
    heard = [False, False]
    for _ in range(5):
        one.speak()
        other.speak()
        heard = [heard[0] or one.hears(other), heard[1] or other.hears(one)]
        if all(heard):
            return
    assert heard == [True, True]
