"""Carries out ng requests: SDP in, SDP out, with the relay's engine deciding in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nattrav.control.ng.codec_bencode import Encodable, Value
from nattrav.control.ng.flags import spelling
from nattrav.control.ng.memory import CallMemory, Offered, counted, manages_version, replaced_origin
from nattrav.control.ng.messages import CARRIED_OUT, UNSUPPORTED, Request, read, side_options
from nattrav.control.ng.party_media import IncompleteDescription, party_media
from nattrav.control.ng.report import session_reply, statistics_reply
from nattrav.control.ng.statistics import ControlStatistics
from nattrav.sdp.description import Connection, Description, MalformedMessage, parse
from nattrav.sdp.media import RTP_PROTOCOLS, has_ice
from nattrav.sdp.rewrite import Place, Unplaceable, Wording, compose
from relay.report import SessionReport
from relay.selection import Selection
from relay.session import CallKey, PartyMedia, Placement, Refusal, SideOptions
from relay.statistics import Statistics

SESSION_LIMIT_REACHED = "Parallel session limit reached"
LIMITS = (SESSION_LIMIT_REACHED, "CPU usage limit exceeded", "Load limit exceeded", "Bandwidth limit exceeded")
NOT_FOUND = "Call-ID not found or tags didn't match"
LIST_LIMIT = 32
UNKNOWN_LIMIT = 256

Reply = dict[str, Encodable]


class Relay(Protocol):
    """The engine, as far as ng requests need it. All raise Refusal with the exact ng reason."""

    def offer(self, key: CallKey, media: Sequence[PartyMedia], options: SideOptions, now: float) -> list[Placement]:
        """Open or change a dialogue; `key.from_tag` offers."""

    def answer(self, key: CallKey, media: Sequence[PartyMedia], options: SideOptions, now: float) -> list[Placement]:
        """Complete an exchange; `key.to_tag` answers what `key.from_tag` offered."""

    def delete(
        self,
        key: CallKey,
        *,
        honour_to_tag: bool = False,
        fatal: bool = False,
        delay: float | None = None,
        now: float,
    ) -> SessionReport:
        """End a dialogue or a call."""

    def query(
        self, call_id: str, from_tag: str | None = None, to_tag: str | None = None, *, now: float
    ) -> SessionReport:
        """Describe a call."""

    def block(self, selection: Selection) -> None:
        """Hold media back."""

    def unblock(self, selection: Selection) -> None:
        """Let media pass again."""

    def list(self, limit: int = 32) -> list[str]:
        """Call-ids, in no order."""

    def statistics(self, now: float, *, traffic: bool = False) -> Statistics:
        """Every counter; with `traffic` also each pool's."""


class Handler:
    """One relay's ng side.

    mark    value of `a=rtpengine` that tells our own SDP: 12 hexadecimal digits, random per process
    epoch   Unix time at monotonic zero
    """

    def __init__(self, engine: Relay, *, mark: str = "", epoch: float = 0.0, memory: CallMemory | None = None) -> None:
        self._engine = engine
        self._mark = mark
        self._epoch = epoch
        self.memory = memory if memory is not None else CallMemory()
        self.statistics = ControlStatistics()
        self._known_strangers: set[str] = set()
        self._new_strangers: list[str] = []

    def handle(self, raw: dict[bytes, Value], *, source: str | None, now: float) -> Reply:
        """Carry out one decoded request and give its reply; never raises for what a client sent."""
        command = raw.get(b"command")
        if not isinstance(command, bytes):
            return error('Dictionary contains no key "command"')
        name = command.decode("latin-1")
        if name == "ping":
            return {"result": "pong"}
        if name not in CARRIED_OUT:
            return error("unsupported" if name in UNSUPPORTED else "Unrecognized command")
        request = read(name, raw)
        try:
            match name:
                case "offer" | "answer":
                    return self._exchange(request, source, now)
                case "delete":
                    return self._delete(request, now)
                case "query":
                    return self._query(request, now)
                case "list":
                    return self._list(request)
                case "statistics":
                    counters = statistics_reply(self._engine.statistics(now, traffic=True), self.statistics.export())
                    return {"statistics": counters, "result": "ok"}
                case _:
                    return self._block(request)
        except Refusal as refusal:
            return _refused(refusal, request)

    def session_closed(self, call_id: str) -> None:
        """Forget what only mattered while the call lived."""
        self.memory.forget(call_id)

    def take_unknown(self) -> list[str]:
        """Give keys and flags that were asked for and are not known here; each once, and only the first few hundred."""
        found, self._new_strangers = self._new_strangers, []
        return found

    def _note_unknown(self, words: tuple[str, ...]) -> None:
        for word in words:
            if word not in self._known_strangers and len(self._known_strangers) < UNKNOWN_LIMIT:
                self._known_strangers.add(word)
                self._new_strangers.append(word)

    def _exchange(self, request: Request, source: str | None, now: float) -> Reply:
        """Offer or answer: parse, ask the engine for places, write the SDP for the other party."""
        answering = request.command == "answer"
        if request.policy.unknown:
            self._note_unknown(request.policy.unknown)
        sdp, call_id = request.sdp, request.call_id
        if sdp is None:
            raise Refusal("No SDP body in message")
        if call_id is None:
            raise Refusal("No call-id in message")
        if request.from_tag is None:
            raise Refusal("No from-tag in message")
        if answering and request.to_tag is None:
            raise Refusal("No to-tag in message")
        try:
            description = parse(sdp)
        except MalformedMessage:
            raise Refusal("Failed to parse SDP") from None
        if self._mark and self._mark in description.session.attributes.get("rtpengine", ()):
            return {"sdp": sdp, "result": "ok"}
        has_ice = _any_ice(description)
        if has_ice and request.policy.ice not in (None, "remove"):
            self._note_unknown((f"ICE={request.policy.ice}",))
        options = side_options(request, source=source, has_ice=has_ice)
        offered = self.memory.offered(call_id, request.from_tag) if answering else ()
        protocols = self._protocols(description, request, offered, answering=answering)
        host = options.signalling_source if options.sip_source_address else None
        try:
            media = party_media(description, host, source=options.signalling_source)
        except IncompleteDescription:
            raise Refusal("Incomplete SDP specification") from None
        key = request.key()
        if answering:
            places = self._engine.answer(key, media, options, now)
            sender = request.to_tag or ""
        else:
            places = self._engine.offer(key, media, options, now)
            sender = request.from_tag
            self.memory.offer(call_id, sender, description)
        return {"sdp": self._write(description, places, request, protocols, offered, sender), "result": "ok"}

    def _write(
        self,
        description: Description,
        places: Sequence[Placement],
        request: Request,
        protocols: dict[int, str],
        offered: tuple[Offered, ...],
        sender: str,
    ) -> bytes:
        policy = request.policy
        flags, replace = policy.flags, policy.replace
        media_address = policy.media_address
        host = Connection(6 if ":" in media_address else 4, media_address, literal=True) if media_address else None
        origin = name = shown = None
        if replace:
            shown = self.memory.shown(request.call_id or "", sender)
            origin, name = replaced_origin(description, shown, replace, _ours(places, host))
        wording = Wording(
            origin=origin,
            name=name,
            host=host,
            zero_address="zero-address" in replace,
            own_direction="original-sendrecv" in flags,
            rtcp="none" if "no-rtcp-attribute" in flags else "full" if "full-rtcp-attribute" in flags else "short",
            loop_mark=self._mark if self._mark and "loop-protect" in flags else None,
            make_mid="generate-mid" in flags,
            protocols=protocols or None,
            allowed={index: section.formats for index, section in enumerate(offered)} if offered else None,
        )
        try:
            text = compose(description, places, wording)
        except Unplaceable:
            raise Refusal("Error rewriting SDP") from None
        if shown is not None and origin is not None and manages_version(replace):
            text = counted(text, origin, shown, always="force-increment-sdp-ver" in replace)
        return text

    @staticmethod
    def _protocols(
        description: Description, request: Request, offered: tuple[Offered, ...], *, answering: bool
    ) -> dict[int, str]:
        """Give the protocol to write where it is not the received one: AVP and AVPF may be exchanged, no more."""
        wanted = request.policy.transport_protocol
        found: dict[int, str] = {}
        for index, section in enumerate(description.sections):
            protocol = section.protocol
            if protocol not in RTP_PROTOCOLS or section.port == 0:
                continue
            if wanted is not None and wanted in RTP_PROTOCOLS:
                target = wanted
            elif answering and wanted is None and index < len(offered) and offered[index].protocol in RTP_PROTOCOLS:
                target = offered[index].protocol
            else:
                continue
            if target == protocol:
                continue
            if target.removesuffix("F") == protocol.removesuffix("F"):
                found[index] = target
            elif wanted is not None:
                raise Refusal("Error rewriting SDP")
        return found

    def _delete(self, request: Request, now: float) -> Reply:
        if request.call_id is None:
            raise Refusal("No call-id in message")
        flags = request.policy.flags
        delay = request.integer("delete-delay") if "delete-delay" in request.arguments else None
        try:
            report = self._engine.delete(
                request.key(),
                honour_to_tag="to-tag" in flags,
                fatal="fatal" in flags,
                delay=float(delay) if delay is not None and delay >= 0 else None,
                now=now,
            )
        except Refusal as refusal:
            if "fatal" in flags:
                raise
            return {"warning": refusal.reason, "result": "ok"}
        reply = {} if "fast" in flags else session_reply(report, epoch=self._epoch)
        return {**reply, "result": "ok"}

    def _query(self, request: Request, now: float) -> Reply:
        if request.call_id is None:
            raise Refusal("No call-id in message")
        report = self._engine.query(request.call_id, request.from_tag, request.to_tag, now=now)
        return {**session_reply(report, epoch=self._epoch), "result": "ok"}

    def _block(self, request: Request) -> Reply:
        if request.call_id is None:
            raise Refusal("No call-id in message")
        flags = request.policy.flags
        selection = Selection(
            request.call_id,
            label=request.text("label"),
            address=request.text("address"),
            from_tag=request.from_tag,
            directional="directional" in flags,
            to_tag=request.to_tag,
            to_label=request.text("to-label"),
            every="all" if "all" in flags else spelling(request.text("all") or "none"),
            set_label=request.text("set-label"),
        )
        (self._engine.block if request.command == "block media" else self._engine.unblock)(selection)
        return {"result": "ok"}

    def _list(self, request: Request) -> Reply:
        limit = request.integer("limit") if "limit" in request.arguments else LIST_LIMIT
        if limit is None or limit < 0:
            return error("invalid limit, must be >= 0")
        return {"calls": self._engine.list(limit), "result": "ok"}


def error(reason: str) -> Reply:
    """An error reply."""
    return {"result": "error", "error-reason": reason}


def _refused(refusal: Refusal, request: Request) -> Reply:
    """Limits are told in the way that makes the client at hand try its next relay."""
    if not refusal.load_limit:
        return error(refusal.reason)
    if "load limit" not in request.policy.supports:
        return error(SESSION_LIMIT_REACHED)
    message = refusal.reason if refusal.reason in LIMITS else "Load limit exceeded"
    return {"result": "load limit", "message": message}


def _any_ice(description: Description) -> bool:
    return any(has_ice(description, section) for section in description.sections)


def _ours(places: Sequence[Place], host: Connection | None) -> tuple[str, str] | None:
    """Our address for `o=`: that of the first stream that has one."""
    if host is not None:
        return f"IP{host.family}", host.host
    for place in places:
        if place.rtp is not None:
            return ("IP6" if ":" in place.rtp.host else "IP4"), place.rtp.host
    return None
