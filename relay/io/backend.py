"""What a data thread asks of the system: many sockets in, many sockets out, one wait."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from nattrav.net.frames import Frames
from nattrav.net.options import Socket
from relay.steer import Departures, Lengths, Rows


class Arrivals(NamedTuple):
    """Datagrams that came: to which slot, in which frame, how many octets. Arrays of one length."""

    slots: Rows
    frames: Rows
    lengths: Lengths


NOTHING = Arrivals(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.int32))


class Backend(Protocol):
    """Belongs to one data thread; only `wake` and `file` may be called from another."""

    name: str
    frames: Frames
    released: list[int]
    """Slots whose sockets the kernel no longer uses, to be taken from here."""
    exhausted: int
    """Times the kernel found no free frame for a datagram."""
    rearmed: int
    """Times receiving on a socket ended by itself and was asked for again."""
    failures: list[tuple[int, int]]
    """(route, errno) of sends the kernel refused, to be taken from here."""
    twins_released: list[int]
    """Slots whose twins the kernel no longer uses, to be taken from here."""
    twins_failed: list[int]
    """Slots whose twins reported an error instead of a datagram, to be taken from here."""
    misfits: list[tuple[Rows, Lengths]]
    """Routes whose headers had to be fitted to payloads of other lengths, and those lengths, to be taken from here."""

    def file(self, slot: int, sock: Socket) -> int:
        """Give the number that sends name a socket by."""

    def attach(self, slot: int, sock: Socket) -> None:
        """Receive on a socket from now on, and send through it."""

    def detach(self, slot: int, sock: Socket) -> None:
        """Receive no more. The slot appears in `released` when that is certain."""

    def attach_twin(self, slot: int, twin: Socket) -> int:
        """Receive on a second socket of the same slot; give the number that sends name it by.

        There must be room: as many twins as the backend was made for.
        """

    def detach_twin(self, slot: int, twin: Socket) -> None:
        """Receive no more on it. The slot appears in `twins_released` when that is certain."""

    def attach_sender(self, sock: Socket) -> int:
        """Send whole frames through a packet socket; give the number that sends name it by.

        There must be room: as many senders as the backend was made for.
        """

    def detach_sender(self, file: int) -> None:
        """Send through it no more."""

    def exchange(self, departures: Departures | None, timeout: float | None) -> Arrivals:
        """Send a batch, give its frames back, and wait for the next one: at most `timeout` seconds, None = forever.

        Frames of what is returned are valid until the next call.
        """

    def wake(self) -> None:
        """End the wait from another thread."""

    def close(self) -> None:
        """Release what the backend holds; sockets stay open."""
