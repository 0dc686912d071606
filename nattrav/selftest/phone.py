"""A phone as small as RFC 3261 allows: registers, calls, answers, hangs up. Sans-IO; knows nothing of its NAT."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from nattrav.sip.ack_cancel import acknowledge
from nattrav.sip.digest_client import answer_challenge
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond

T1 = 0.5
GIVE_UP = 8.0


class News(enum.Enum):
    """What the phone tells its user."""

    REGISTERED = "registered"
    REGISTRATION_FAILED = "registration failed"
    RINGING = "ringing"
    INCOMING = "incoming"
    ANSWERED = "answered"
    CALL_FAILED = "call failed"
    CONFIRMED = "confirmed"
    ENDED = "ended"


@dataclass(frozen=True)
class Send:
    """Send a datagram to the proxy."""

    data: bytes


@dataclass(frozen=True)
class Tell:
    """Something happened. `media` is where the other side's SDP wants RTP, `detail` a status line or mapped address."""

    news: News
    detail: str = ""
    media: TransportAddress | None = None
    sdp: str = ""


Effect = Send | Tell


@dataclass
class _Pending:
    """A request without a final response."""

    data: bytes
    method: str
    next_send: float
    interval: float
    deadline: float
    challenged: bool = False


@dataclass
class Dialog:
    """The one call of a phone (RFC 3261 §12)."""

    call_id: str
    local: str
    remote: str
    target: str
    route: list[str]
    cseq: int
    invite: bytes = b""
    ok: bytes = b""
    ok_next: float = 0.0
    ok_interval: float = T1
    confirmed: bool = False


@dataclass
class Phone:
    """`inside` is its private address, `token` gives fresh random text for tags and branches."""

    user: str
    domain: str
    inside: TransportAddress
    media: TransportAddress
    token: Callable[[], str]
    password: str | None = None
    registered: bool = False
    mapped: TransportAddress | None = None
    dialog: Dialog | None = None
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _cseq: int = 0
    _registration: str = ""

    @property
    def aor(self) -> str:
        """Address of record."""
        return f"sip:{self.user}@{self.domain}"

    @property
    def contact(self) -> str:
        """The private Contact, as phones send it."""
        return f"<sip:{self.user}@{self.inside}>"

    def register(self, expires: int, now: float) -> list[Effect]:
        """Start a registration; 0 ends it."""
        self._registration = self._registration or self.token()
        head = [
            f"From: <{self.aor}>;tag={self._registration}",
            f"To: <{self.aor}>",
            f"Call-ID: {self._registration}@selftest",
            f"Contact: {self.contact}",
            f"Expires: {expires}",
        ]
        return self._request("REGISTER", f"sip:{self.domain}", head, b"", now)

    def invite(self, callee: str, now: float) -> list[Effect]:
        """Call a user of the same domain."""
        target = f"sip:{callee}@{self.domain}"
        local = f"<{self.aor}>;tag={self.token()}"
        self.dialog = Dialog(f"{self.token()}@selftest", local, f"<{target}>", target, [], self._cseq + 1)
        head = [f"From: {local}", f"To: <{target}>", f"Call-ID: {self.dialog.call_id}", f"Contact: {self.contact}"]
        return self._request("INVITE", target, head, self._sdp(), now)

    def bye(self, now: float) -> list[Effect]:
        """Hang up."""
        if self.dialog is None:
            return []
        return self._request("BYE", self.dialog.target, self._in_dialog(self.dialog), b"", now)

    def receive(self, data: bytes, now: float) -> list[Effect]:
        """Take one datagram from the proxy. Anything that is not SIP, or not ours, is ignored."""
        try:
            message = parse_datagram_untrusted(data)
        except MalformedMessage:
            return []
        return self._response(message, now) if isinstance(message, Response) else self._received(message, now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        times = [min(p.next_send, p.deadline) for p in self._pending.values()]
        if self.dialog is not None and self.dialog.ok and not self.dialog.confirmed:
            times.append(self.dialog.ok_next)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> list[Effect]:
        """Retransmit what is due (timers A, E and the 2xx of §13.3.1.4); give up what is overdue."""
        effects: list[Effect] = []
        for branch, pending in list(self._pending.items()):
            if now >= pending.deadline:
                del self._pending[branch]
                effects.append(self._failed(pending.method, "no answer"))
            elif now >= pending.next_send:
                pending.interval *= 2
                pending.next_send = now + pending.interval
                effects.append(Send(pending.data))
        if (dialog := self.dialog) is not None and dialog.ok and not dialog.confirmed and now >= dialog.ok_next:
            dialog.ok_interval = min(dialog.ok_interval * 2, 4.0)
            dialog.ok_next = now + dialog.ok_interval
            effects.append(Send(dialog.ok))
        return effects

    def _request(self, method: str, uri: str, head: list[str], body: bytes, now: float) -> list[Effect]:
        self._cseq += 1
        branch = f"z9hG4bK{self.token()}"
        data = self._written(method, uri, branch, self._cseq, head, body)
        self._pending[branch] = _Pending(data, method, now + T1, T1, now + GIVE_UP)
        return [Send(data)]

    def _written(self, method: str, uri: str, branch: str, cseq: int, head: list[str], body: bytes) -> bytes:
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.inside};branch={branch};rport",
            "Max-Forwards: 70",
            *head,
            f"CSeq: {cseq} {method}",
            "User-Agent: nattrav-selftest",
        ]
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + body

    def _response(self, response: Response, now: float) -> list[Effect]:
        pending = self._pending.get(response.via.branch or "")
        method = response.cseq.method
        if pending is None:
            dialog = self.dialog
            if dialog is not None and method == "INVITE" and 200 <= response.status < 300 and dialog.confirmed:
                return [Send(self._ack(dialog))]
            return []
        via = response.via
        if via.received is not None and via.rport is not None:
            self.mapped = TransportAddress(via.received, via.rport)
        if response.status < 200:
            pending.next_send = pending.deadline = now + GIVE_UP * (4 if method == "INVITE" else 1)
            return [Tell(News.RINGING)] if response.status == 180 else []
        del self._pending[via.branch or ""]
        effects: list[Effect] = []
        if method == "INVITE" and response.status >= 300:
            effects.append(Send(acknowledge(pending.data, response)))
        if response.status in (401, 407) and self.password is not None and not pending.challenged:
            return effects + self._answer_challenge(pending, response, now)
        if response.status >= 300:
            return [*effects, self._failed(method, f"{response.status} {response.reason}")]
        return effects + self._succeeded(method, response)

    def _answer_challenge(self, pending: _Pending, response: Response, now: float) -> list[Effect]:
        sent = parse_datagram_untrusted(pending.data)
        assert isinstance(sent, Request)
        assert self.password is not None
        name = "Authorization" if response.status == 401 else "Proxy-Authorization"
        challenges = response.all("www-authenticate" if response.status == 401 else "proxy-authenticate")
        answer = answer_challenge(
            challenges, user=self.user, password=self.password, method=sent.method, uri=sent.request_uri,
            cnonce=self.token(),
        )  # fmt: skip
        if answer is None:
            return [self._failed(pending.method, "a challenge with no algorithm that is known here")]
        kept = ("from", "to", "call-id", "contact", "expires")
        head = [line for name_, line in zip(sent.names, sent.lines, strict=True) if name_ in kept]
        effects = self._request(sent.method, sent.request_uri, [*head, f"{name}: {answer}"], sent.body, now)
        for again in self._pending.values():
            again.challenged = again.challenged or again.data is effects[0].data  # type: ignore[union-attr]
        return effects

    def _succeeded(self, method: str, response: Response) -> list[Effect]:
        if method == "REGISTER":
            self.registered = bool(response.contacts)
            return [Tell(News.REGISTERED, str(self.mapped or ""))]
        if method == "BYE":
            self.dialog = None
            return [Tell(News.ENDED)]
        dialog = self.dialog
        if method != "INVITE" or dialog is None:
            return []
        dialog.remote = response.first("to") or dialog.remote
        if response.contacts and response.contacts != "*":
            dialog.target = str(response.contacts[0].uri)
        dialog.route = list(reversed(response.all("record-route")))
        dialog.cseq = response.cseq.number
        dialog.confirmed = True
        sdp = response.body.decode("latin-1")
        return [Send(self._ack(dialog)), Tell(News.ANSWERED, "200", media_address(sdp), sdp)]

    def _ack(self, dialog: Dialog) -> bytes:
        branch = f"z9hG4bK{self.token()}"
        return self._written("ACK", dialog.target, branch, dialog.cseq, self._in_dialog(dialog), b"")

    def _in_dialog(self, dialog: Dialog) -> list[str]:
        return [
            *(f"Route: {route}" for route in dialog.route),
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"Contact: {self.contact}",
        ]

    def _received(self, request: Request, now: float) -> list[Effect]:
        if request.method == "ACK":
            if self.dialog is None or self.dialog.confirmed or request.call_id != self.dialog.call_id:
                return []
            self.dialog.confirmed = True
            return [Tell(News.CONFIRMED)]
        if request.method == "INVITE":
            return self._invited(request, now)
        if request.method == "BYE" and self.dialog is not None and request.call_id == self.dialog.call_id:
            self.dialog = None
            return [Send(respond(request, 200, to_tag=None)), Tell(News.ENDED)]
        status = 200 if request.method == "OPTIONS" else 481 if request.to.tag else 405
        return [Send(respond(request, status, to_tag=self.token()))]

    def _invited(self, request: Request, now: float) -> list[Effect]:
        dialog = self.dialog
        if dialog is not None:
            if request.call_id == dialog.call_id and dialog.ok:
                return [Send(dialog.ok)]
            return [Send(respond(request, 486, to_tag=self.token()))]
        tag = self.token()
        sdp = request.body.decode("latin-1")
        record = [("Record-Route", value) for value in request.all("record-route")]
        ok = respond(
            request, 200, to_tag=tag, body=self._sdp(),
            headers=[*record, ("Contact", self.contact), ("Content-Type", "application/sdp")],
        )  # fmt: skip
        contacts = request.contacts
        target = str(contacts[0].uri) if contacts and contacts != "*" else request.request_uri
        local = f"{request.first('to')};tag={tag}"
        self.dialog = Dialog(
            request.call_id, local, request.first("from") or "", target, request.all("record-route"), 0, ok=ok,
            ok_next=now + T1,
        )  # fmt: skip
        ringing = respond(request, 180, to_tag=tag, headers=[*record, ("Contact", self.contact)])
        return [Send(ringing), Send(ok), Tell(News.INCOMING, request.request_uri, media_address(sdp), sdp)]

    def _failed(self, method: str, why: str) -> Tell:
        return Tell(News.REGISTRATION_FAILED if method == "REGISTER" else News.CALL_FAILED, f"{method}: {why}")

    def _sdp(self) -> bytes:
        return (
            f"v=0\r\no={self.user} 1 1 IN IP4 {self.media.host}\r\ns=-\r\nc=IN IP4 {self.media.host}\r\nt=0 0\r\n"
            f"m=audio {self.media.port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
        ).encode()


def media_address(sdp: str) -> TransportAddress | None:
    """Where the first stream of this SDP wants its RTP; None when it says nowhere."""
    host, port = None, 0
    for line in sdp.splitlines():
        if line.startswith("c=IN IP"):
            host = line.split()[-1].partition("/")[0]
        elif line.startswith("m=audio "):
            port = int(line.split()[1].partition("/")[0])
    try:
        return TransportAddress.parse(host, port) if host and port else None
    except ValueError:
        return None
