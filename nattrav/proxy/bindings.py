"""Bindings: which contact of which address-of-record is reached over which flow, until when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow
from nattrav.sip.uri import SipUri


@dataclass(slots=True)
class Binding:
    """One contact of an address-of-record. Times are seconds on the core's clock; `serial` is in its flow tokens.

    `contact` is the URI as the phone sent it, `flow` where its packets really came from.
    """

    aor: str
    contact: str
    flow: Flow
    expires: float
    call_id: str
    cseq: int
    serial: int
    registered: float
    q: float = 1.0
    instance: str | None = None
    reg_id: str | None = None
    path: tuple[str, ...] = ()
    user_agent: str = ""
    nat: bool = False
    tests: list[str] = field(default_factory=list)
    seen: float = 0.0
    losses: int = 0
    params: str = ""
    core_expires: float = 0.0

    def same_contact(self, uri: SipUri) -> bool:
        """Compare contacts as RFC 3261 §19.1.4 does."""
        return self.contact == uri.text or SipUri.parse(self.contact) == uri


class Bindings:
    """All bindings, by address-of-record, by flow and by serial."""

    def __init__(self) -> None:
        self._by_aor: dict[str, list[Binding]] = {}
        self._by_flow: dict[tuple[int, TransportAddress], list[Binding]] = {}
        self._by_serial: dict[int, Binding] = {}
        self._serial = 0
        self.changed: dict[int, Binding | None] = {}

    def __len__(self) -> int:
        return len(self._by_serial)

    def __iter__(self) -> Iterator[Binding]:
        return iter(list(self._by_serial.values()))

    def next_serial(self) -> int:
        """A serial that no live binding has."""
        self._serial = self._serial % 0xFFFFFFFF + 1
        while self._serial in self._by_serial:
            self._serial = self._serial % 0xFFFFFFFF + 1
        return self._serial

    def of(self, aor: str, now: float) -> list[Binding]:
        """Live bindings of an address-of-record, newest first within equal q."""
        found = [one for one in self._by_aor.get(aor, ()) if one.expires > now]
        if len(found) > 1:
            found.sort(key=lambda one: (-one.q, -one.registered))
        return found

    def knows(self, aor: str) -> bool:
        """There is or lately was a binding."""
        return aor in self._by_aor

    def on_flow(self, flow: Flow) -> list[Binding]:
        """Bindings reached over this flow."""
        return self._by_flow.get((flow.listener, flow.remote), [])

    def by_serial(self, serial: int) -> Binding | None:
        """The binding of a flow token."""
        return self._by_serial.get(serial)

    def add(self, binding: Binding) -> None:
        """Put in a new binding."""
        self._by_aor.setdefault(binding.aor, []).append(binding)
        self._by_flow.setdefault((binding.flow.listener, binding.flow.remote), []).append(binding)
        self._by_serial[binding.serial] = binding
        self.changed[binding.serial] = binding

    def move(self, binding: Binding, flow: Flow) -> None:
        """The phone is reached elsewhere now."""
        if (binding.flow.listener, binding.flow.remote) != (flow.listener, flow.remote):
            self._leave_flow(binding)
            self._by_flow.setdefault((flow.listener, flow.remote), []).append(binding)
        binding.flow = flow
        self.changed[binding.serial] = binding

    def touch(self, binding: Binding) -> None:
        """Something in it changed: it will be stored again."""
        self.changed[binding.serial] = binding

    def remove(self, binding: Binding) -> None:
        """Take one out."""
        if self._by_serial.pop(binding.serial, None) is None:
            return
        others = self._by_aor.get(binding.aor, [])
        if binding in others:
            others.remove(binding)
        if not others:
            self._by_aor.pop(binding.aor, None)
        self._leave_flow(binding)
        self.changed[binding.serial] = None

    def _leave_flow(self, binding: Binding) -> None:
        key = (binding.flow.listener, binding.flow.remote)
        there = self._by_flow.get(key, [])
        if binding in there:
            there.remove(binding)
        if not there:
            self._by_flow.pop(key, None)

    def take_changes(self) -> dict[int, Binding | None]:
        """Give what changed since the last call: serial to binding, None for a removed one."""
        changes, self.changed = self.changed, {}
        return changes
