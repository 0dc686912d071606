"""A stage for the proxy's core: parties with addresses, a relay that rewrites SDP, and a clock that tests move.

Tests read as sequence diagrams: a party sends a text, the stage carries out the effects, and gives what arrived where.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.core import Proxy
from nattrav.proxy.effects import AskRelay, Connect, Drop, DropReason, Log, Lookup, Record, Send
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Settings
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.transport.flow import Flow, listener_id

US = "203.0.113.10"
PHONE = TransportAddress("198.51.100.7", 40001)
OTHER = TransportAddress("198.51.100.9", 40009)
GATEWAY = TransportAddress("203.0.113.80", 5060)

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
)


def sdp(host: str, port: int = 4000) -> str:
    """One audio stream."""
    return SDP.format(host=host, port=port)


class FakeRelay:
    """Answers as a relay would: every SDP comes back with the relay's address and a port of its own."""

    host = "203.0.113.20"

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refuse: set[str] = set()
        self._port = 30000

    def reply(self, command: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append((command, arguments))
        if command in self.refuse:
            return None
        if command == "delete":
            return {"result": "ok"}
        self._port += 2
        text = arguments["sdp"].decode("latin-1")
        text = re.sub(r"IN IP[46] \S+", f"IN IP4 {self.host}", text)
        text = re.sub(r"m=audio [1-9]\d*", f"m=audio {self._port}", text)
        return {"result": "ok", "sdp": text.encode("latin-1")}

    @property
    def commands(self) -> list[str]:
        return [command for command, _ in self.asked]


@dataclass
class Arrival:
    """A message that left the proxy: on which flow, and what it was."""

    flow: Flow | Any
    message: Request | Response
    data: bytes

    @property
    def to(self) -> TransportAddress:
        address: TransportAddress = self.flow.remote
        return address

    @property
    def line(self) -> str:
        return self.message.start_line

    @property
    def text(self) -> str:
        return self.data.decode("latin-1")


def readable(data: bytes) -> Request | Response:
    """Parse what the proxy sent; a response to a broken request carries the broken fields."""
    try:
        return parse_datagram_untrusted(data)
    except MalformedMessage as fault:
        if fault.message is None:
            raise
        return fault.message


def counter() -> Callable[[int], bytes]:
    """Randomness that repeats itself from run to run."""
    count = 0

    def give(length: int) -> bytes:
        nonlocal count
        count += 1
        return bytes((count * 31 + index) % 256 for index in range(length))

    return give


def udp_listener(host: str = US) -> Listener:
    bound = TransportAddress(host, 5060)
    return Listener(listener_id("udp", bound), "udp", bound, host, 5060)


@dataclass
class Stage:
    """The proxy and everything around it."""

    sip: SipSection = field(
        default_factory=lambda: SipSection.model_validate({"registrar": {"authentication": "none"}})
    )
    upstreams: list[Upstream] = field(
        default_factory=lambda: [Upstream.model_validate({"name": "gw", "target": str(GATEWAY)})]
    )
    listeners: list[Listener] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        listeners = self.listeners or [udp_listener()]
        settings = Settings(self.sip, self.upstreams, **self.extra)
        self.proxy = Proxy(settings, listeners, [b"k" * 32], counter(), wall_offset=1_700_000_000.0)
        self.relay = FakeRelay()
        self.now = 100.0
        self.drops: list[DropReason] = []
        self.logs: list[Log] = []
        self.records: list[dict[str, Any]] = []
        self.names: dict[str, list[tuple[str, tuple[str, int], str | None]]] = {}
        self.any_name: list[tuple[str, tuple[str, int], str | None]] = []
        self.held: list[AskRelay] | None = None

    def flow(self, source: TransportAddress, transport: str = "udp", serial: int = 0) -> Flow:
        listener = next(one for one in self.proxy.parts.listeners.all if one.transport == transport)
        return Flow(transport, listener.id, listener.bound, source, serial)

    def send(self, source: TransportAddress | Flow, text: str | bytes) -> list[Arrival]:
        """Let a party send; give what left the proxy because of it."""
        flow = source if isinstance(source, Flow) else self.flow(source)
        data = text if isinstance(text, bytes) else text.encode("latin-1")
        return self._carry_out(self.proxy.receive(flow, data, self.now))

    def wait(self, seconds: float) -> list[Arrival]:
        """Let time pass, one deadline after the other."""
        end = self.now + seconds
        arrivals: list[Arrival] = []
        while True:
            at = self.proxy.next_timeout()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            arrivals += self._carry_out(self.proxy.handle_timeout(self.now))
        self.now = end
        return arrivals

    def relay_answers(self) -> list[Arrival]:
        """Let the relay answer what was held back."""
        held, self.held = self.held or [], None
        arrivals: list[Arrival] = []
        for ask in held:
            reply = self.relay.reply(ask.command, ask.arguments)
            arrivals += self._carry_out(self.proxy.relay_reply(ask.request, reply, self.now))
        return arrivals

    def _carry_out(self, effects: list[Any]) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for effect in effects:
            match effect:
                case Send(flow, data):
                    if data.strip(b"\r\n\0"):
                        arrivals.append(Arrival(flow, readable(data), data))
                case Connect(target, data, _):
                    arrivals.append(Arrival(target, readable(data), data))
                case AskRelay(request, command, _, arguments):
                    if self.held is not None:
                        self.held.append(effect)
                        continue
                    reply = self.relay.reply(command, arguments)
                    arrivals += self._carry_out(self.proxy.relay_reply(request, reply, self.now))
                case Lookup(request, uri):
                    arrivals += self._carry_out(
                        self.proxy.next_hops(request, self.names.get(uri, self.any_name), self.now)
                    )
                case Drop(reason, _):
                    self.drops.append(reason)
                case Log():
                    self.logs.append(effect)
                case Record(fields):
                    self.records.append(fields)
        return arrivals


def request(
    method: str,
    uri: str,
    *,
    via: str = "10.0.0.5:5060",
    branch: str = "z9hG4bKa1",
    from_: str = "<sip:alice@203.0.113.10>;tag=at",
    to: str = "<sip:bob@203.0.113.10>",
    call_id: str = "call1@10.0.0.5",
    cseq: int = 1,
    contact: str | None = "<sip:alice@10.0.0.5:5060>",
    headers: str = "",
    body: str = "",
    rport: str = ";rport",
    content_type: str = "application/sdp",
    transport: str = "UDP",
    cseq_method: str | None = None,
    max_forwards: int | None = 70,
) -> str:
    """Write a request as a phone would."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} {via};branch={branch}{rport}",
    ]
    if max_forwards is not None:
        lines.append(f"Max-Forwards: {max_forwards}")
    lines += [f"From: {from_}", f"To: {to}", f"Call-ID: {call_id}", f"CSeq: {cseq} {cseq_method or method}"]
    if contact is not None:
        lines.append(f"Contact: {contact}")
    text = "\r\n".join(lines) + "\r\n" + headers
    if body:
        text += f"Content-Type: {content_type}\r\n"
    return text + f"Content-Length: {len(body)}\r\n\r\n{body}"


def response(
    to: Arrival | Request,
    status: int,
    reason: str = "Whatever",
    *,
    tag: str | None = "bt",
    contact: str | None = "<sip:bob@203.0.113.80>",
    headers: str = "",
    body: str = "",
) -> str:
    """Answer a request as the party that received it would: every Via and Record-Route copied."""
    message = to.message if isinstance(to, Arrival) else to
    lines = [f"SIP/2.0 {status} {reason}"]
    for name, line in zip(message.names, message.lines, strict=True):
        if name in ("via", "from", "call-id", "cseq") or (name == "record-route" and status < 300):
            lines.append(line)
        elif name == "to":
            lines.append(f"{line};tag={tag}" if tag and "tag=" not in line else line)
    if contact is not None and status < 300:
        lines.append(f"Contact: {contact}")
    text = "\r\n".join(lines) + "\r\n" + headers
    if body:
        text += "Content-Type: application/sdp\r\n"
    return text + f"Content-Length: {len(body)}\r\n\r\n{body}"


def register(
    user: str = "alice",
    *,
    private: str = "10.0.0.5:5060",
    cseq: int = 1,
    expires: int = 300,
    branch: str = "z9hG4bKreg1",
    call_id: str = "reg1@10.0.0.5",
    contact: str | None = None,
    headers: str = "",
) -> str:
    """Write a REGISTER."""
    return request(
        "REGISTER",
        f"sip:{US}",
        via=private,
        branch=branch,
        from_=f"<sip:{user}@{US}>;tag=rt",
        to=f"<sip:{user}@{US}>",
        call_id=call_id,
        cseq=cseq,
        contact=contact or f"<sip:{user}@{private}>",
        headers=f"Expires: {expires}\r\n{headers}",
    )
