"""The registrar (RFC 3261 §10.3): bindings made, refreshed and removed, all contacts of a request or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nattrav.proxy.bindings import Binding, Bindings
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Sender
from nattrav.proxy.timers import Timed
from nattrav.proxy.validate import Refused
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.name_addr import NameAddr
from nattrav.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Registered:
    """A 200 with these header fields. `nat_binding` is a live binding that needs keepalives, if any."""

    headers: tuple[tuple[str, str], ...]
    kept: tuple[Binding, ...] = ()


class Registrar:
    """Takes REGISTER requests that are authorised already."""

    def __init__(self, parts: Parts, bindings: Bindings) -> None:
        self._parts = parts
        self._bindings = bindings
        self._sweep = _Sweep(self)
        self.events = {"added": 0, "refreshed": 0, "removed": 0, "expired": 0, "rejected": 0}

    def register(self, request: Request, aor: str, sender: Sender, now: float) -> Registered | Refused:
        """Update the bindings of `aor` as the request asks (steps 6 to 8). A refused request leaves no trace."""
        try:
            contacts = request.contacts
            wishes = [] if contacts == "*" else [self._wish(request, one, sender) for one in contacts]
        except MalformedMessage as fault:
            return self._reject(Refused(fault.status, "8.1", reason="Bad Contact"))
        if contacts == "*":
            return self._remove_all(request, aor, now)
        for wish in wishes:
            if isinstance(wish, Refused):
                return self._reject(wish)
        present = self._bindings.of(aor, now)
        plan: list[tuple[Literal["add", "refresh", "remove"], Binding | None, _Wish]] = []
        adding = 0
        for wish in wishes:
            assert isinstance(wish, _Wish)
            known = self._matching(present, wish)
            if known is not None and known.call_id == request.call_id and request.cseq.number <= known.cseq:
                return self._reject(Refused(500, "8.1", reason="CSeq out of order"))
            if wish.expires == 0:
                if known is not None:
                    plan.append(("remove", known, wish))
            elif known is not None:
                plan.append(("refresh", known, wish))
            else:
                adding += 1
                plan.append(("add", None, wish))
        limits = self._parts.sip.limits
        if adding and len(present) + adding > limits.contacts_per_user:
            # The phone that comes back under ever new addresses shall not lock itself out: the oldest give way.
            surplus = len(present) + adding - limits.contacts_per_user
            for old in sorted(present, key=lambda one: one.registered)[:surplus]:
                self._drop(old, "removed")
        if adding and len(self._bindings) + adding > limits.bindings:
            return self._reject(Refused(503, "8.1", (("Retry-After", "60"),), "Too many bindings"))
        for action, known, wish in plan:
            self._carry_out(action, known, wish, request, aor, sender, now)
        return self._answer(request, aor, now)

    def _wish(self, request: Request, contact: NameAddr, sender: Sender) -> _Wish | Refused:
        uri = SipUri.parse(contact.uri)
        settings = self._parts.sip.registrar
        text = contact.params.get("expires")
        asked = int(text) if text and text.isdigit() and len(text) < 11 else request.expires
        expires = settings.default_expires if asked is None else float(asked)
        if 0 < expires < settings.min_expires:
            return Refused(423, "8.1", (("Min-Expires", str(int(settings.min_expires))),))
        longest = settings.max_expires
        if sender.verdict.nat and settings.nat_expires is not None:
            longest = min(longest, settings.nat_expires)
        expires = min(expires, longest)
        q_text = contact.params.get("q") or "1"
        try:
            q = min(1.0, max(0.0, float(q_text)))
        except ValueError:
            q = 1.0
        instance = contact.params.get("+sip.instance")
        reg_id = contact.params.get("reg-id")
        return _Wish(uri, expires, q, instance, reg_id if instance is not None else None)

    def _matching(self, present: list[Binding], wish: _Wish) -> Binding | None:
        for one in present:
            if wish.reg_id is not None:
                if one.instance == wish.instance and one.reg_id == wish.reg_id:
                    return one
            elif one.reg_id is None and one.same_contact(wish.uri):
                return one
        return None

    def _carry_out(
        self,
        action: str,
        known: Binding | None,
        wish: _Wish,
        request: Request,
        aor: str,
        sender: Sender,
        now: float,
    ) -> None:
        bindings = self._bindings
        if known is not None and action == "remove":
            self._drop(known, "removed")
            return
        if known is None:
            known = Binding(
                aor=aor,
                contact=wish.uri.text,
                flow=sender.flow,
                expires=now + wish.expires,
                call_id=request.call_id,
                cseq=request.cseq.number,
                serial=bindings.next_serial(),
                registered=now,
            )
            bindings.add(known)
            self.events["added"] += 1
            self._parts.count("nattrav_sip_registration_events_total", "added")
        else:
            self.events["refreshed"] += 1
            self._parts.count("nattrav_sip_registration_events_total", "refreshed")
            bindings.move(known, sender.flow)
        known.contact = wish.uri.text
        known.expires = now + wish.expires
        known.call_id, known.cseq = request.call_id, request.cseq.number
        known.registered = known.seen = now
        known.q, known.instance, known.reg_id = wish.q, wish.instance, wish.reg_id
        known.user_agent = (request.user_agent or "")[:120]
        known.nat, known.tests = sender.verdict.nat, sender.verdict.names
        known.losses = 0
        if self._sweep.deadline is None:
            self._parts.timers.set(self._sweep, now + 1.0)

    def _remove_all(self, request: Request, aor: str, now: float) -> Registered | Refused:
        if request.expires != 0:
            return self._reject(Refused(400, "8.1", reason="Contact * needs Expires 0"))
        present = self._bindings.of(aor, now)
        for one in present:
            if one.call_id == request.call_id and request.cseq.number <= one.cseq:
                return self._reject(Refused(500, "8.1", reason="CSeq out of order"))
        for one in present:
            self._drop(one, "removed")
        return self._answer(request, aor, now)

    def _answer(self, request: Request, aor: str, now: float) -> Registered:
        headers: list[tuple[str, str]] = []
        kept = self._bindings.of(aor, now)
        for one in kept:
            extra = f";expires={round(one.expires - now)}"
            if one.q != 1.0:
                extra += f";q={one.q:g}"
            if one.instance is not None:
                extra += f";+sip.instance={one.instance}"
            if one.reg_id is not None:
                extra += f";reg-id={one.reg_id}"
            headers.append(("Contact", f"<{one.contact}>{extra}"))
        if any(one.reg_id is not None for one in kept) and "outbound" in request.tokens("supported"):
            headers.append(("Require", "outbound"))
            headers.append(("Flow-Timer", str(int(self._parts.sip.keepalive.interval))))
        return Registered(tuple(headers), tuple(kept))

    def _reject(self, refused: Refused) -> Refused:
        self.events["rejected"] += 1
        self._parts.count("nattrav_sip_registration_events_total", "rejected")
        return refused

    def drop(self, binding: Binding, event: Literal["removed", "expired"]) -> None:
        """Take a binding out: its flow is gone, its phone is dead, or an operator wants it."""
        self._drop(binding, event)

    def _drop(self, binding: Binding, event: str) -> None:
        self._bindings.remove(binding)
        self.events[event] += 1
        self._parts.count("nattrav_sip_registration_events_total", event)

    def sweep(self, now: float) -> None:
        """Take out what has expired, once a second while there are bindings."""
        for binding in self._bindings:
            if binding.expires <= now:
                self._drop(binding, "expired")
        if len(self._bindings):
            self._parts.timers.set(self._sweep, now + 1.0)


class _Sweep(Timed):
    def __init__(self, registrar: Registrar) -> None:
        super().__init__()
        self._registrar = registrar

    def expire(self, now: float) -> None:
        self._registrar.sweep(now)


@dataclass(frozen=True, slots=True)
class _Wish:
    """One Contact of a REGISTER, understood. `expires` 0 removes."""

    uri: SipUri
    expires: float
    q: float
    instance: str | None
    reg_id: str | None
