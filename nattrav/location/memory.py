"""Bindings in memory, with a journal beside them when they are to survive."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from nattrav.location.bindings import Binding, Limits, Refused, Registered, Registration, apply
from nattrav.location.index import Expiries, Index
from nattrav.location.location import Journal
from nattrav.sip.transport.flow import Flow


class MemoryLocation:
    """The location service: tables by address-of-record, serial and flow, and by the second of expiry.

    known         bindings from before the restart
    journal       is told every change
    first_serial  serials start here or above the known ones; the time of the start in seconds makes sure that a
                  serial from before the restart, in some token still around, does not name a new binding
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        known: Iterable[Binding] = (),
        journal: Journal | None = None,
        first_serial: int = 1,
    ) -> None:
        self.limits = limits if limits is not None else Limits()
        self._journal = journal
        self._by_aor: Index[str] = Index()
        self._by_serial: dict[int, Binding] = {}
        self._by_flow: Index[Flow] = Index()
        self._expiries = Expiries()
        highest = 0
        for binding in known:
            self._put(binding)
            highest = max(highest, binding.serial)
        self._serials = itertools.count(max(highest + 1, first_serial))

    def __len__(self) -> int:
        return len(self._by_serial)

    def __iter__(self) -> Iterator[Binding]:
        return iter(list(self._by_serial.values()))

    def register(self, registration: Registration, now: float) -> Registered | Refused:
        """Carry out a REGISTER (see `nattrav.location.bindings.apply`); 503 when the table is full."""
        existing = [b for b in self._by_aor.get(registration.aor) if b.expires_at > now]
        outcome = apply(existing, registration, self.limits, self._serials, now)
        if isinstance(outcome, Refused):
            return outcome
        if outcome.added and len(self) + len(outcome.added) > self.limits.total:
            return Refused(503, f"more than {self.limits.total} bindings")
        for binding in outcome.removed:
            self._take(binding)
        for binding in outcome.refreshed:
            self._renew(self._by_serial[binding.serial], binding)
        for binding in outcome.added:
            self._put(binding)
        if self._journal is not None and (outcome.added or outcome.refreshed or outcome.removed):
            self._journal.write((*outcome.added, *outcome.refreshed), outcome.removed)
        return outcome

    def lookup(self, aor: str, now: float) -> list[Binding]:
        """The unexpired bindings of an address-of-record, highest q and latest first."""
        found = [binding for binding in self._by_aor.get(aor) if binding.expires_at > now]
        found.sort(key=lambda binding: (-binding.q, -binding.serial))
        return found

    def by_serial(self, serial: int) -> Binding | None:
        """The binding a flow token names."""
        return self._by_serial.get(serial)

    def by_flow(self, flow: Flow) -> list[Binding]:
        """The bindings that came over a flow."""
        return list(self._by_flow.get(flow))

    def remove(self, bindings: Iterable[Binding]) -> None:
        """Forget bindings; those that are gone or newer by now are left alone."""
        removed = [binding for binding in bindings if self._by_serial.get(binding.serial) == binding]
        for binding in removed:
            self._take(binding)
        if self._journal is not None and removed:
            self._journal.write((), removed)

    def expire(self, now: float) -> list[Binding]:
        """Forget and return the bindings whose time is over, at the next whole second."""
        expired = []
        for serial in self._expiries.due(now):
            binding = self._by_serial.get(serial)
            if binding is not None and binding.expires_at <= now:
                self._take(binding)
                expired.append(binding)
        if self._journal is not None and expired:
            self._journal.write((), expired)
        return expired

    def next_timeout(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return self._expiries.next_timeout()

    def _put(self, binding: Binding) -> None:
        self._by_aor.put(binding.aor, binding)
        self._by_serial[binding.serial] = binding
        self._by_flow.put(binding.flow, binding)
        self._watch(binding)

    def _renew(self, old: Binding, binding: Binding) -> None:
        self._by_aor.put(binding.aor, binding)
        self._by_serial[binding.serial] = binding
        if old.flow != binding.flow:
            self._by_flow.take(old.flow, old)
        self._by_flow.put(binding.flow, binding)
        if math.ceil(old.expires_at) != math.ceil(binding.expires_at):
            self._watch(binding)

    def _watch(self, binding: Binding) -> None:
        self._expiries.add(binding.serial, binding.expires_at)
        if len(self._expiries) > 4 * len(self._by_serial) + 1000:
            self._expiries.replace(self._by_serial.values())

    def _take(self, binding: Binding) -> None:
        del self._by_serial[binding.serial]
        self._by_aor.take(binding.aor, binding)
        self._by_flow.take(binding.flow, binding)
