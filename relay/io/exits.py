"""Ways of their own by which the packets of settled flows leave, as a data thread keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nattrav.net import packets
from nattrav.net.next_hops import NextHops
from nattrav.net.options import Socket
from relay.crossbar import Crossbar
from relay.io.backend import Backend
from relay.io.framing import Framing
from relay.io.twins import Twins
from relay.tally import Tally

TRANSMITS = ("socket", "frame")


class Exits(Protocol):
    """The exits of one data thread; every call with its lock held."""

    def __len__(self) -> int:
        """Count the flows that have one."""

    def holds(self, slot: int) -> bool:
        """Tell whether the kernel may still use an exit of this slot."""

    def due(self, now: float) -> bool:
        """Tell whether `tend` has something to do; to be asked between two batches."""

    def tend(self, now: float) -> None:
        """Give up exits that are of no more use, and make new ones."""

    def fail(self, slot: int, code: int) -> None:
        """A send by an exit failed with an errno: its flow does without."""

    def overflows(self) -> int:
        """Datagrams the kernel dropped at sockets of exits, open and closed, for want of buffer."""

    def renew_tos(self, slot: int) -> None:
        """The TOS of a flow's socket may have changed."""

    def close(self) -> None:
        """Close all of them, when the backend is closed."""


def choose_transmit(wanted: str) -> tuple[str, str]:
    """Give (how packets leave, reason) for `socket` or `frame`. Raises ValueError."""
    if wanted not in TRANSMITS:
        raise ValueError(f"transmit {wanted!r}: write one of {', '.join(TRANSMITS)}")
    if wanted == "frame":
        refusal = packets.refusal()
        if refusal is not None:
            return "socket", refusal
    return wanted, "asked for"


def make_exits(
    transmit: str, twins: int, backend: Backend, crossbar: Crossbar, tally: Tally, sockets: Mapping[int, Socket]
) -> Exits:
    """Make the exits of a data thread: frames, or up to `twins` connected sockets."""
    if transmit == "frame":
        return Framing(backend, crossbar, tally, sockets, NextHops(), packets.open_senders)
    return Twins(backend, crossbar, tally, sockets, twins)
