"""Bindings, and the rules by which a REGISTER changes them (RFC 3261 §10.3, RFC 5626 §6, RFC 3327).

`now` is wall-clock time in seconds here, because bindings outlive the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri

MOVED = "source_moved"
"""Name of the NAT test that a binding passes when it is refreshed from another source than before."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact under which an address-of-record is reached.

    serial   names the binding for its whole life, through refreshes; never used again
    uri      Contact URI as sent
    params   Contact parameters as sent, but for `expires`
    path     Path vector, topmost first, each as written
    flow     where the registration came from
    tests    names of the NAT tests that said yes
    """

    serial: int
    aor: str
    uri: str
    params: tuple[tuple[str, str | None], ...]
    q: float
    registered_at: float
    expires_at: float
    call_id: str
    cseq: int
    path: tuple[str, ...]
    flow: Flow
    user_agent: str = ""
    instance: str | None = None
    reg_id: int | None = None
    tests: tuple[str, ...] = ()

    def remaining(self, now: float) -> int:
        """Whole seconds left, at least 0."""
        return max(0, round(self.expires_at - now))

    def contact_value(self, now: float) -> str:
        """The Contact value that a 200 to REGISTER lists it by."""
        tail = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.params)
        return f"<{self.uri}>{tail};expires={self.remaining(now)}"

    def same_contact(self, uri: str) -> bool:
        """Compare the contact by RFC 3261 §19.1.4."""
        return self.uri == uri or SipUri.parse(self.uri) == SipUri.parse(uri)


@dataclass(frozen=True, slots=True)
class ContactUpdate:
    """One Contact of a REGISTER. `expires` is None when the client left the choice to us."""

    uri: str
    params: tuple[tuple[str, str | None], ...]
    q: float
    expires: int | None
    instance: str | None = None
    reg_id: int | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """What one REGISTER asks for. No contacts and not `remove_all`: it only wants to know the bindings."""

    aor: str
    contacts: tuple[ContactUpdate, ...]
    remove_all: bool
    call_id: str
    cseq: int
    flow: Flow
    path: tuple[str, ...] = ()
    user_agent: str = ""
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts."""

    min_expires: int = 60
    default_expires: int = 3600
    max_expires: int = 7200
    per_aor: int = 10
    total: int = 200_000


@dataclass(frozen=True, slots=True)
class Registered:
    """The REGISTER was carried out. `bindings` are all that now exist; the others say what changed."""

    bindings: tuple[Binding, ...]
    added: tuple[Binding, ...] = ()
    refreshed: tuple[Binding, ...] = ()
    removed: tuple[Binding, ...] = ()
    moved: tuple[Flow, ...] = ()
    """Flows that refreshed bindings had before, where it was another one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The REGISTER changed nothing. `min_expires` goes into Min-Expires of a 423."""

    status: int
    reason: str
    min_expires: int | None = None


def apply(
    existing: Sequence[Binding], registration: Registration, limits: Limits, serials: Iterator[int], now: float
) -> Registered | Refused:
    """Carry out a REGISTER on the unexpired bindings of its address-of-record: all of it, or nothing.

    `serials` gives the serials of new bindings. Raises MalformedMessage when a contact is no SIP URI.
    """
    if registration.remove_all:
        for binding in existing:
            if _out_of_order(binding, registration):
                return _OUT_OF_ORDER
        return Registered((), removed=tuple(existing))
    bindings = list(existing)
    added: list[Binding] = []
    refreshed: list[Binding] = []
    removed: list[Binding] = []
    moved: list[Flow] = []
    for contact in registration.contacts:
        expires = _granted(contact.expires, limits)
        if expires is None:
            return Refused(423, f"expires below {limits.min_expires}", limits.min_expires)
        known = _find(bindings, contact)
        if known is not None and _out_of_order(known, registration):
            return _OUT_OF_ORDER
        if expires == 0:
            if known is not None:
                bindings.remove(known)
                removed.append(known)
            continue
        if known is None:
            binding = _new(registration, contact, next(serials), now, now + expires)
            bindings.append(binding)
            added.append(binding)
        else:
            binding = _renewed(known, registration, contact, now + expires)
            if known.flow != binding.flow:
                moved.append(known.flow)
                binding = replace(binding, tests=(*binding.tests, MOVED))
            bindings[bindings.index(known)] = binding
            refreshed.append(binding)
    if len(bindings) > max(limits.per_aor, len(existing)):
        return Refused(403, f"more than {limits.per_aor} bindings for one address-of-record")
    return Registered(tuple(bindings), tuple(added), tuple(refreshed), tuple(removed), tuple(moved))


_OUT_OF_ORDER = Refused(500, "CSeq not higher than that of an earlier REGISTER of this Call-ID")


def _granted(asked: int | None, limits: Limits) -> int | None:
    """The expiry to grant, 0 to remove, None for too brief (only below an hour may a registrar say so: §10.3)."""
    expires = limits.default_expires if asked is None else asked
    if expires == 0:
        return 0
    if expires < limits.min_expires and expires < 3600:
        return None
    return min(expires, limits.max_expires)


def _find(bindings: Sequence[Binding], contact: ContactUpdate) -> Binding | None:
    if contact.instance is not None and contact.reg_id is not None:
        for binding in bindings:
            if binding.instance == contact.instance and binding.reg_id == contact.reg_id:
                return binding
        # RFC 5626 §6: flows of one instance share a Contact and are told apart by reg-id alone.
        return next((b for b in bindings if b.reg_id is None and b.same_contact(contact.uri)), None)
    for binding in bindings:
        if binding.same_contact(contact.uri):
            return binding
    return None


def _out_of_order(binding: Binding, registration: Registration) -> bool:
    return binding.call_id == registration.call_id and registration.cseq <= binding.cseq


def _new(registration: Registration, contact: ContactUpdate, serial: int, now: float, expires_at: float) -> Binding:
    SipUri.parse(contact.uri)
    return Binding(
        serial=serial,
        aor=registration.aor,
        uri=contact.uri,
        params=contact.params,
        q=contact.q,
        registered_at=now,
        expires_at=expires_at,
        call_id=registration.call_id,
        cseq=registration.cseq,
        path=registration.path,
        flow=registration.flow,
        user_agent=sys.intern(registration.user_agent),
        instance=contact.instance,
        reg_id=contact.reg_id,
        tests=registration.tests,
    )


def _renewed(known: Binding, registration: Registration, contact: ContactUpdate, expires_at: float) -> Binding:
    """The binding after a refresh. What did not change stays the same object, so that it is in memory once."""
    if known.uri != contact.uri:
        SipUri.parse(contact.uri)
    return Binding(
        serial=known.serial,
        aor=known.aor,
        uri=_kept(known.uri, contact.uri),
        params=_kept(known.params, contact.params),
        q=contact.q,
        registered_at=known.registered_at,
        expires_at=expires_at,
        call_id=_kept(known.call_id, registration.call_id),
        cseq=registration.cseq,
        path=_kept(known.path, registration.path),
        flow=_kept(known.flow, registration.flow),
        user_agent=sys.intern(registration.user_agent),
        instance=_kept(known.instance, contact.instance),
        reg_id=contact.reg_id,
        tests=registration.tests,
    )


def _kept(old: T, new: T) -> T:
    return old if old == new else new
