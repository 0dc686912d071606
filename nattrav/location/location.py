"""What every location service offers, whatever it keeps its bindings in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from nattrav.location.bindings import Binding, Limits, Refused, Registered, Registration
from nattrav.sip.transport.flow import Flow


class Location(Protocol):
    """Bindings by address-of-record. `now` is wall-clock seconds. Answers at once, never from disk."""

    limits: Limits

    def __len__(self) -> int:
        """How many bindings there are."""

    def __iter__(self) -> Iterator[Binding]:
        """Every binding, in no order."""

    def register(self, registration: Registration, now: float) -> Registered | Refused:
        """Carry out a REGISTER. Raises MalformedMessage when a contact is no SIP URI."""

    def lookup(self, aor: str, now: float) -> list[Binding]:
        """The unexpired bindings of an address-of-record, highest q and latest first."""

    def by_serial(self, serial: int) -> Binding | None:
        """The binding a flow token names."""

    def by_flow(self, flow: Flow) -> list[Binding]:
        """The bindings that came over a flow."""

    def remove(self, bindings: Iterable[Binding]) -> None:
        """Forget bindings, for whatever reason but expiry."""

    def expire(self, now: float) -> list[Binding]:
        """Forget and return the bindings whose time is over."""

    def next_timeout(self) -> float:
        """When `expire` has something to do; infinity for never."""


class Journal(Protocol):
    """Where changes are written down."""

    def write(self, put: Iterable[Binding], removed: Iterable[Binding]) -> None:
        """Note changes; returns at once."""
