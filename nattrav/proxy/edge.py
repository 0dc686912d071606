"""Registrations that go on to a core (edge mode): Path with our token, cached bindings, refreshes absorbed.

Phones behind NATs refresh every minute or two, a core wants an hour: a refresh that changes nothing is answered here
while the core's binding lasts. Bindings are cached from the core's 200 only, so a failed REGISTER leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nattrav.location.bindings import ContactUpdate, Refused, Registration
from nattrav.location.registration import read_registration
from nattrav.proxy.backward import ResponseContext
from nattrav.proxy.contact_values import each_value, with_expires, with_uri
from nattrav.proxy.flow_token import ForgedToken, TokenKind, looks_like_token
from nattrav.proxy.keepalive import Keepalive
from nattrav.proxy.registrar import Registrar
from nattrav.proxy.rooms import Rooms
from nattrav.proxy.routing import RouteSet, Sender
from nattrav.proxy.transactions import ServerTransaction
from nattrav.proxy.ways import Hop
from nattrav.sip.edit import Edit
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import header_number
from nattrav.sip.message import MAX_EXPIRES, Request, Response
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.response import respond
from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri, unescape

USUAL_EXPIRES = 3600
"""Seconds of a registration of which nobody says how long it lasts (RFC 3261 §10.2.1.1)."""


@dataclass(slots=True)
class CoreBinding:
    """What the core knows of one contact. Times are on the core's clock; `contact` is what the core was told."""

    flow: Flow
    call_id: str
    cseq: int
    core_until: float
    phone_expires: int
    contact: str


class Edge:
    """Decides which REGISTER goes on, and keeps what the core has confirmed."""

    def __init__(self, rooms: Rooms, registrar: Registrar, keepalive: Keepalive) -> None:
        self.rooms = rooms
        self.registrar = registrar
        self.keepalive = keepalive
        self.confirmed: dict[tuple[str, str], CoreBinding] = {}
        self.ignores_path: set[str] = set()
        self._by_token: dict[str, tuple[str, str]] = {}
        self.absorbed = 0
        self.passed = 0

    def aor(self, request: Request) -> str:
        """The address-of-record as the core names it."""
        uri = request.to.sip_uri
        return f"{unescape(uri.user or '')}@{uri.host.lower()}"

    def absorb(self, request: Request, sender: Sender, now: float, *, outage: bool = False) -> bytes | None:
        """Answer a refresh here if all holds: same contact, Call-ID and flow, higher CSeq, core time enough left."""
        settings = self.rooms.parts.sip.edge
        contacts = request.contacts
        if not settings.absorb or contacts == "*" or len(contacts) != 1:
            return None
        contact = contacts[0]
        if _wish(contact, request) == 0:
            return None
        key = (self.aor(request), contact.uri)
        known = self.confirmed.get(key)
        if known is None or known.flow != sender.flow or known.call_id != request.call_id:
            return None
        if request.cseq.number <= known.cseq:
            return None
        left = known.core_until - now
        if outage:
            if left + settings.grace <= 0:
                return None
        elif left < max(2 * known.phone_expires, 0.1 * settings.core_expires):
            return None
        known.cseq = request.cseq.number
        self.absorbed += 1
        if outage:
            self._prolong(request, sender, now, 2 * known.phone_expires)
        headers = [("Contact", f"<{contact.uri}>;expires={known.phone_expires}")]
        headers += [("Path", value.text) for value in request.paths]
        self.registrar.event("refreshed", key[0], sender.flow, request.user_agent)
        return respond(request, 200, to_tag=self.rooms.parts.to_tag(request.via.branch or ""), headers=headers)

    def _prolong(self, request: Request, sender: Sender, now: float, seconds: int) -> None:
        """Keep the binding, and with it the mapping of its phone's NAT, while the core cannot say anything about it."""
        registration = read_registration(request, self.aor(request), sender.flow, tests=tuple(sender.verdict.names))
        contacts = tuple(replace(one, expires=seconds) for one in registration.contacts)
        self._remember(replace(registration, contacts=contacts), sender, now)

    def confirm(self, request: Request, response: Response, sender: Sender, now: float, told: dict[str, str]) -> None:
        """Take the core's 200: what it lists of the request's contacts is bound, what it does not is not.

        `told` maps the phone's contact to the one the core was given in its place.
        """
        parts = self.rooms.parts
        try:
            registration = read_registration(request, self.aor(request), sender.flow, tests=tuple(sender.verdict.names))
            listed = [] if response.contacts == "*" else response.contacts
            granted = {one.sip_uri: one for one in listed}
        except MalformedMessage:
            return
        if registration.remove_all:
            for key in [key for key in self.confirmed if key[0] == registration.aor]:
                del self.confirmed[key]
        updates: list[ContactUpdate] = []
        for contact in registration.contacts:
            there = granted.get(SipUri.parse(told.get(contact.uri, contact.uri)))
            seconds = 0 if there is None else _granted(there, response, contact.expires)
            updates.append(replace(contact, expires=seconds))
            key = (registration.aor, contact.uri)
            if seconds == 0 or contact.expires == 0:
                self.confirmed.pop(key, None)
                continue
            if contact.uri in told:
                self._by_token[SipUri.parse(told[contact.uri]).user or ""] = key
            self.confirmed[key] = CoreBinding(
                sender.flow,
                registration.call_id,
                registration.cseq,
                now + seconds,
                self.phone_expires(sender, seconds),
                told.get(contact.uri, contact.uri),
            )
        self._remember(replace(registration, contacts=tuple(updates)), sender, now)
        if len(self.confirmed) > 2 * parts.sip.limits.bindings:
            self.confirmed = {key: one for key, one in self.confirmed.items() if one.core_until > now}
            self._by_token = {user: key for user, key in self._by_token.items() if key in self.confirmed}

    def _remember(self, registration: Registration, sender: Sender, now: float) -> None:
        outcome = self.rooms.location.register(registration, self.rooms.parts.wall(now))
        if isinstance(outcome, Refused):
            return
        if outcome.moved:
            self.registrar.moved(registration.aor, outcome.moved, sender)
        for binding in outcome.bindings:
            self.keepalive.watch(binding, now)
        self.registrar.watch_expiry(now)

    def phone_expires(self, sender: Sender, granted: int) -> int:
        """How long the phone may stay away."""
        settings = self.rooms.parts.sip.edge
        if not settings.absorb or not sender.verdict.nat:
            return granted
        return min(granted, int(settings.phone_expires))

    def by_contact_token(self, uri: SipUri) -> Hop | None:
        """Find the phone behind a Contact that we had put in the place of its own; after a restart by its binding."""
        if uri.user is None or not looks_like_token(uri.user):
            return None
        key = self._by_token.get(uri.user)
        known = None if key is None else self.confirmed.get(key)
        if key is not None and known is not None:
            bound = self.rooms.location.by_flow(known.flow)
            return Hop(key[1], known.flow, access=True, binding=bound[0] if bound else None)
        try:
            flow = self.rooms.routing.token_flow(self.rooms.parts.signer.read(uri.user))
        except ForgedToken:
            return None
        bound = [] if flow is None else self.rooms.location.by_flow(flow)
        return Hop(bound[0].uri, flow, access=True, binding=bound[0]) if len(bound) == 1 else None


class RegisterContext(ResponseContext):
    """A REGISTER on its way to the core."""

    __slots__ = ("edge", "told", "upstream_name")

    def __init__(
        self, edge: Edge, server: ServerTransaction, request: Request, routes: RouteSet, sender: Sender, loop_part: str
    ) -> None:
        super().__init__(edge.rooms, server, request, routes, sender, None, loop_part)
        self.edge = edge
        self.told: dict[str, str] = {}
        self.upstream_name = ""

    def _adjust_request(self, edit: Edit, hop: Hop, now: float) -> None:
        request = self.request
        assert request is not None
        edge, parts = self.edge, self.rooms.parts
        self.upstream_name = hop.upstream.name if hop.upstream is not None else ""
        edge.passed += 1
        contacts = request.contacts
        outbound = "outbound" in request.tokens("supported") and contacts != "*"
        listener = parts.listeners[self.sender.flow.listener]
        token = self.rooms.routing.token_for(self.sender.flow, now, kind=TokenKind.EDGE)
        rewrites = self.sender.treatment.contact == "rewrite" or self.upstream_name in edge.ignores_path
        if rewrites and contacts != "*":
            self.told = {contact.uri: listener.uri(token) for contact in contacts}
            self._write_contacts(edit, lambda value: with_uri(value, self.told[value.uri]))
        else:
            has_reg_id = contacts != "*" and any("reg-id" in contact.params for contact in contacts)
            ob = ";ob" if outbound and has_reg_id else ""
            edit.prepend("Path", f"<{listener.uri(token)};lr{ob}>")
            if "path" not in request.tokens("supported"):
                edit.append("Supported", "path")
        settings = parts.sip.edge
        if settings.absorb and self.sender.verdict.nat and contacts != "*" and contacts:
            asked = _wish(contacts[0], request)
            if asked is None or 0 < asked < settings.core_expires:
                self._ask_longer(edit, int(settings.core_expires))

    def _ask_longer(self, edit: Edit, seconds: int) -> None:
        """Ask the core for a registration that outlasts many refreshes."""
        edit.set("Expires", str(seconds))
        self._write_contacts(
            edit, lambda value: with_expires(value.text, seconds) if "expires" in value.params else value.text
        )

    @staticmethod
    def _write_contacts(edit: Edit, write: Callable[[NameAddr], str]) -> None:
        for index, name in enumerate(edit.names):
            if name == "contact":
                edit.lines[index] = each_value(edit.lines[index], write)

    def _adjust_response(self, edit: Edit, response: Response, now: float) -> None:
        request = self.request
        if request is None or response.status >= 300:
            return
        contacts = [] if request.contacts == "*" else request.contacts
        self.edge.confirm(request, response, self.sender, now, self.told)
        if not self.told and not response.has("path") and contacts:
            # The core dropped our Path (RFC 3327 §5.3): from now on our token stands in the Contact itself.
            self.edge.ignores_path.add(self.upstream_name)
        aor = self.edge.aor(request)
        if self.upstream_name in self.edge.ignores_path and not self.told:
            # What the core keeps does not lead here: the next refresh must not be answered in its place.
            for contact in contacts:
                self.edge.confirmed.pop((aor, contact.uri), None)
        back = {put: own for own, put in self.told.items()}

        def as_the_phone_knows_it(value: NameAddr) -> str:
            own = back.get(value.uri, value.uri)
            text = value.text if own == value.uri else with_uri(value, own)
            known = self.edge.confirmed.get((aor, own)) if any(one.uri == own for one in contacts) else None
            return text if known is None else with_expires(text, known.phone_expires)

        self._write_contacts(edit, as_the_phone_knows_it)

    def _unanswered_by_all(self, now: float) -> None:
        """The core is down: keep phones that it knows, ask the others to come back at different times."""
        request = self.request
        if request is None or self.server.final:
            return
        data = self.edge.absorb(request, self.sender, now, outage=True)
        if data is not None:
            self.done = True
            self.server.respond(200, data, now)
            return
        spread = 30 + self.rooms.parts.randomness(1)[0] // 4
        tag = self.rooms.parts.to_tag(self.server.key[0])
        self.done = True
        self.server.respond(503, respond(request, 503, to_tag=tag, headers=[("Retry-After", str(spread))]), now)


def _wish(contact: NameAddr, request: Request) -> int | None:
    """How long a contact is to be registered; None when its phone leaves that to the registrar."""
    if "expires" in contact.params:
        return header_number(contact.params["expires"], MAX_EXPIRES)
    return request.expires


def _granted(listed: NameAddr, response: Response, asked: int | None) -> int:
    """How long the core keeps a contact; one that does not say took what was asked (RFC 3261 §10.2.4)."""
    granted = header_number(listed.params.get("expires"), MAX_EXPIRES)
    if granted is None:
        granted = response.expires
    if granted is None:
        granted = asked
    return USUAL_EXPIRES if granted is None else granted
