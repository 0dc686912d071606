"""Calls for `nattrav bench sip`: a caller and a gateway on two sockets, INVITE with SDP to BYE, some at a time."""

from __future__ import annotations

import re
import select
import socket
import time
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress

GIVE_UP = 2.0
"""Seconds after which a call has failed; nothing is sent twice."""

_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
_COPIED = re.compile(rb"^(?:via|from|call-id|cseq|record-route)[ \t]*:.*\r\n", re.IGNORECASE | re.MULTILINE)
_TO = re.compile(rb"^to[ \t]*:[^\r\n]*", re.IGNORECASE | re.MULTILINE)
_CALL = re.compile(rb"^call-id[ \t]*:[ \t]*bench-(\d+)", re.IGNORECASE | re.MULTILINE)
_METHOD = re.compile(rb"^cseq[ \t]*:[ \t]*\d+[ \t]+([A-Z]+)", re.IGNORECASE | re.MULTILINE)
_ROUTE = re.compile(rb"^record-route[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Figures:
    """How the calls went."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    seconds: float = 0.0
    setup: list[float] = field(default_factory=list)
    """Seconds from INVITE to 200, of each call."""


class Callers:
    """Places calls through a proxy to its own gateway."""

    def __init__(self, gateway: socket.socket) -> None:
        self._gateway = gateway
        self._caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._caller.bind(("127.0.0.1", 0))
        for sock in (self._gateway, self._caller):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._host = f"127.0.0.1:{self._caller.getsockname()[1]}".encode()
        self._far = f"127.0.0.1:{gateway.getsockname()[1]}".encode()
        self._open: dict[bytes, float] = {}
        self._answered: set[bytes] = set()
        self.figures = Figures()

    def run(self, proxy: TransportAddress, seconds: float, at_once: int) -> Figures:
        """Keep so many calls going for that long, and let the last ones end."""
        figures = self.figures
        begun = time.monotonic()
        end = begun + seconds
        while True:
            now = time.monotonic()
            if now < end:
                while len(self._open) < at_once:
                    self._invite(proxy, now)
            elif not self._open:
                break
            ready, _, _ = select.select([self._caller, self._gateway], [], [], 0.1)
            for sock in ready:
                self._drain(sock, proxy)
            for call in [call for call, since in self._open.items() if now - since > GIVE_UP]:
                del self._open[call]
                figures.failed += 1
        figures.seconds = time.monotonic() - begun
        self._caller.close()
        return figures

    def _invite(self, proxy: TransportAddress, now: float) -> None:
        self.figures.started += 1
        call = b"%d" % self.figures.started
        self._open[call] = now
        head = b"INVITE sip:1234@%b SIP/2.0\r\n" % str(proxy).encode()
        self._send(proxy, head, b"i" + call, call, b"1 INVITE", b"<sip:1234@bench.invalid>", b"", _SDP)

    def _send(
        self,
        proxy: TransportAddress,
        head: bytes,
        branch: bytes,
        call: bytes,
        cseq: bytes,
        to: bytes,
        route: bytes,
        body: bytes,
    ) -> None:
        lines = [
            head + b"Via: SIP/2.0/UDP %b;branch=z9hG4bK%b;rport" % (self._host, branch),
            route + b"Max-Forwards: 70",
            b"From: <sip:bench@10.0.0.5>;tag=%b" % call,
            b"To: " + to,
            b"Call-ID: bench-%b" % call,
            b"CSeq: " + cseq,
            b"Contact: <sip:bench@10.0.0.5:5060>",
            *([b"Content-Type: application/sdp"] if body else []),
            b"Content-Length: %d" % len(body),
            b"",
            body,
        ]
        self._caller.sendto(b"\r\n".join(lines), proxy)

    def _drain(self, sock: socket.socket, proxy: TransportAddress) -> None:
        while True:
            try:
                data, peer = sock.recvfrom(8192)
            except BlockingIOError:
                return
            call = _CALL.search(data)
            if call is None:
                continue
            if sock is self._gateway:
                self._at_gateway(data, peer)
            else:
                self._at_caller(data, call[1], proxy)

    def _at_gateway(self, data: bytes, peer: tuple[str, int]) -> None:
        """Answer INVITE and BYE; an ACK needs none."""
        method = data[:3]
        if method not in (b"INV", b"BYE"):
            return
        to = _TO.search(data)
        head = b"SIP/2.0 200 OK\r\n" + b"".join(_COPIED.findall(data)) + (to[0] if to else b"")
        if method == b"INV":
            head += b";tag=g\r\nContact: <sip:gw@%b>\r\nContent-Type: application/sdp\r\n" % self._far
            body = _SDP
        else:
            head += b"\r\n"
            body = b""
        self._gateway.sendto(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body), peer)

    def _at_caller(self, data: bytes, call: bytes, proxy: TransportAddress) -> None:
        """The 200 to INVITE is followed by ACK and BYE at once, that to BYE ends the call."""
        if call not in self._open or data[8:9] == b"1":
            return
        method = _METHOD.search(data)
        if data[8:9] != b"2" or method is None:
            del self._open[call]
            self._answered.discard(call)
            self.figures.failed += 1
            return
        if method[1] == b"BYE":
            del self._open[call]
            self._answered.discard(call)
            self.figures.completed += 1
            return
        if call in self._answered:
            return
        self._answered.add(call)
        self.figures.setup.append(time.monotonic() - self._open[call])
        route = b"".join(b"Route: %b\r\n" % value for value in reversed(_ROUTE.findall(data)))
        target = b" sip:gw@%b SIP/2.0\r\n" % self._far
        to = b"<sip:1234@bench.invalid>;tag=g"
        self._send(proxy, b"ACK" + target, b"a" + call, call, b"1 ACK", to, route, b"")
        self._send(proxy, b"BYE" + target, b"b" + call, call, b"2 BYE", to, route, b"")
