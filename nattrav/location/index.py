"""Tables of bindings that stay small with hundreds of thousands in them."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from nattrav.location.bindings import Binding

Key = TypeVar("Key", bound=Hashable)


class Index(Generic[Key]):
    """Bindings under a key that most often has just one: that one stands in the table itself, several in a dict."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Key, Binding | dict[int, Binding]] = {}

    def get(self, key: Key) -> tuple[Binding, ...]:
        """The bindings of a key, in the order in which they came."""
        found = self._found.get(key)
        if found is None:
            return ()
        return (found,) if isinstance(found, Binding) else tuple(found.values())

    def put(self, key: Key, binding: Binding) -> None:
        """Add a binding, or put it in the place of the one with its serial."""
        found = self._found.get(key)
        if found is None or (isinstance(found, Binding) and found.serial == binding.serial):
            self._found[key] = binding
        elif isinstance(found, Binding):
            self._found[key] = {found.serial: found, binding.serial: binding}
        else:
            found[binding.serial] = binding

    def take(self, key: Key, binding: Binding) -> None:
        """Take the binding with this serial out."""
        found = self._found[key]
        if isinstance(found, Binding):
            del self._found[key]
            return
        del found[binding.serial]
        if len(found) == 1:
            (self._found[key],) = found.values()


class Expiries:
    """Serials by the whole second at whose beginning they have expired: eight octets for each time that was set.

    A time set later leaves the earlier one behind, so who takes a serial out asks its binding whether it is over.
    """

    def __init__(self) -> None:
        self._by_second: dict[int, array[int]] = {}
        self._seconds: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, serial: int, expires_at: float) -> None:
        """Note when a binding expires."""
        second = math.ceil(expires_at)
        serials = self._by_second.get(second)
        if serials is None:
            serials = self._by_second[second] = array("q")
            heapq.heappush(self._seconds, second)
        serials.append(serial)
        self._count += 1

    def due(self, now: float) -> Iterator[int]:
        """Take out the serials whose second has come."""
        while self._seconds and self._seconds[0] <= now:
            serials = self._by_second.pop(heapq.heappop(self._seconds))
            self._count -= len(serials)
            yield from serials

    def next_timeout(self) -> float:
        """The first second with serials; infinity for none."""
        return self._seconds[0] if self._seconds else math.inf

    def replace(self, bindings: Iterable[Binding]) -> None:
        """Begin again with the times of these only."""
        self._by_second.clear()
        self._seconds.clear()
        self._count = 0
        for binding in bindings:
            self.add(binding.serial, binding.expires_at)
