"""The registrar: REGISTER requests carried out on the location service (RFC 3261 §10.3, RFC 5626 §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from nattrav.location import bindings as location_bindings
from nattrav.location.bindings import Binding, Registration
from nattrav.location.location import Location
from nattrav.location.registration import read_registration
from nattrav.proxy.nat import is_nat
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Sender
from nattrav.proxy.timers import Timed
from nattrav.proxy.validate import Refused
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow

Watcher = Callable[[str, str, Flow, str], None]
"""Sees what happens to bindings: the event, the address-of-record, the flow, the User-Agent."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A 200 with these header fields; `bindings` are all that the address-of-record now has."""

    headers: tuple[tuple[str, str], ...]
    bindings: tuple[Binding, ...] = ()


class Registrar:
    """Takes REGISTER requests that are authorised already."""

    SWEEP = 1.0

    def __init__(self, parts: Parts, location: Location) -> None:
        self._parts = parts
        self._location = location
        self._sweep = _Sweep(self)
        self._watchers: tuple[Watcher, ...] = ()

    def register(self, request: Request, aor: str, sender: Sender, now: float) -> Registered | Refused:
        """Carry out a request, wholly or not at all."""
        try:
            if _lacks_outbound(request):
                self.event("rejected", aor, sender.flow, request.user_agent)
                return Refused(439, "N1")
            registration = read_registration(request, aor, sender.flow, tests=tuple(sender.verdict.names))
            if sender.access and registration.path:
                # Only edges that we know may say that they are on the way; a phone would steer calls to strangers.
                registration = replace(registration, path=())
            outcome = self._location.register(self._shortened(registration, sender), self._parts.wall(now))
        except MalformedMessage as fault:
            self.event("rejected", aor, sender.flow, request.user_agent)
            reason = fault.reason[:80].encode("ascii", "replace").decode()
            return Refused(400, "8.1", reason=reason, why=f"it is malformed: {reason}")
        if isinstance(outcome, location_bindings.Refused):
            self.event("rejected", aor, sender.flow, request.user_agent)
            headers: tuple[tuple[str, str], ...] = ()
            if outcome.min_expires is not None:
                headers = (("Min-Expires", str(outcome.min_expires)),)
            elif outcome.status == 503:
                headers = (("Retry-After", "60"),)
            return Refused(outcome.status, "8.1", headers, why=outcome.reason)
        for event, changed in (
            ("added", outcome.added),
            ("refreshed", outcome.refreshed),
            ("removed", outcome.removed),
        ):
            for one in changed:
                self.event(event, aor, one.flow, one.user_agent)
        if outcome.moved:
            self.moved(aor, outcome.moved, sender)
        self.watch_expiry(now)
        return Registered(self._headers(request, outcome.bindings, registration.path, now), outcome.bindings)

    def _shortened(self, registration: Registration, sender: Sender) -> Registration:
        """Let phones behind a NAT come back more often, when the operator wants that."""
        longest = self._parts.sip.registrar.nat_expires
        if longest is None or not sender.verdict.nat:
            return registration
        default = self._parts.sip.registrar.default_expires
        contacts = tuple(
            replace(one, expires=int(min(longest, default if one.expires is None else one.expires)))
            for one in registration.contacts
        )
        return replace(registration, contacts=contacts)

    def _headers(
        self, request: Request, bindings: Iterable[Binding], path: Iterable[str], now: float
    ) -> tuple[tuple[str, str], ...]:
        wall = self._parts.wall(now)
        headers = [("Contact", one.contact_value(wall)) for one in bindings]
        headers += [("Path", value) for value in path]
        if any(one.reg_id is not None for one in bindings) and "outbound" in request.tokens("supported"):
            headers.append(("Require", "outbound"))
            headers.append(("Flow-Timer", str(int(self._parts.sip.keepalive.interval))))
        return tuple(headers)

    def event(self, name: str, aor: str, flow: Flow, user_agent: str | None) -> None:
        """Count what happened to a binding, and tell who watches."""
        self._parts.count("nattrav_sip_registration_events_total", name)
        for watcher in self._watchers:
            watcher(name, aor, flow, user_agent or "")

    def add_watcher(self, watcher: Watcher) -> None:
        """Tell `watcher` of every event from now on."""
        self._watchers += (watcher,)

    def remove_watcher(self, watcher: Watcher) -> None:
        """End what `add_watcher` began."""
        self._watchers = tuple(one for one in self._watchers if one is not watcher)

    def moved(self, aor: str, before: Iterable[Flow], sender: Sender) -> None:
        """A binding was refreshed from another source: its NAT made a new mapping, or its phone changed networks."""
        for flow in before:
            self._parts.count("nattrav_sip_nat_detections_total", location_bindings.MOVED)
            self._parts.log("info", "source_moved", aor=aor, before=str(flow), now=str(sender.flow))

    def drop(self, bindings: Iterable[Binding], event: Literal["removed", "expired"]) -> None:
        """Take bindings out: their flow is gone, their phone is dead, or an operator wants it."""
        gone = list(bindings)
        self._location.remove(gone)
        for one in gone:
            self.event(event, one.aor, one.flow, one.user_agent)

    def watch_expiry(self, now: float) -> None:
        """Look for expired bindings from now on, as long as there are any."""
        if self._sweep.deadline is None and len(self._location):
            self._parts.timers.set(self._sweep, now + self.SWEEP)

    def sweep(self, now: float) -> None:
        """Take out what has expired."""
        for one in self._location.expire(self._parts.wall(now)):
            self.event("expired", one.aor, one.flow, one.user_agent)
        self.watch_expiry(now)


class _Sweep(Timed):
    def __init__(self, registrar: Registrar) -> None:
        super().__init__()
        self._registrar = registrar

    def expire(self, now: float) -> None:
        self._registrar.sweep(now)


_WANTS_OUTBOUND = {"reg-id", "+sip.instance"}


def _lacks_outbound(request: Request) -> bool:
    """The client asks for outbound, but its first hop does not do it: the lowest Path has no `ob` (RFC 5626 §6)."""
    if "supported" not in request.names or "outbound" not in request.tokens("supported"):
        return False
    contacts = request.contacts
    if contacts == "*" or not any(contact.params.keys() >= _WANTS_OUTBOUND for contact in contacts):
        return False
    paths = request.paths
    return "ob" not in paths[-1].sip_uri.params if paths else len(request.vias) > 1


def behind_nat(binding: Binding) -> bool:
    """The registration showed a NAT."""
    return is_nat(binding.tests)
