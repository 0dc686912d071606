"""A batch of datagrams as numpy arrays: what the data planes receive, decide on and send."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import (
    SOCKADDR_IN,
    SOCKADDR_IN6,
    SOCKADDR_ROW,
    TransportAddress,
    from_sockaddr,
    to_sockaddr,
)


class Batch:
    """Room for `slots` datagrams of up to `size` bytes.

    data    (slots, size)  uint8   payloads
    length  (slots,)       uint32  bytes used of each payload
    peer    (slots, 32)    uint8   socket address row: the source after a receive, the destination for a send
    peer_length (slots,)   uint32  16 for IPv4, 28 for IPv6
    truncated (slots,)     bool    the datagram was longer than `size`
    count                  int     slots in use after a receive

    A reply batch may share `peer` and `peer_length` with the batch it answers.
    """

    __slots__ = ("count", "data", "length", "peer", "peer_length", "size", "slots", "truncated")

    def __init__(self, slots: int, size: int = 2048, *, peers_of: Batch | None = None) -> None:
        self.slots = slots
        self.size = size
        self.count = 0
        self.data: NDArray[np.uint8] = np.zeros((slots, size), np.uint8)
        self.length: NDArray[np.uint32] = np.zeros(slots, np.uint32)
        self.truncated: NDArray[np.bool_] = np.zeros(slots, np.bool_)
        if peers_of is None:
            self.peer: NDArray[np.uint8] = np.zeros((slots, SOCKADDR_ROW), np.uint8)
            self.peer_length: NDArray[np.uint32] = np.zeros(slots, np.uint32)
        else:
            self.peer, self.peer_length = peers_of.peer, peers_of.peer_length

    def payload(self, slot: int) -> bytes:
        """Copy one payload out."""
        return self.data[slot, : int(self.length[slot])].tobytes()

    def peer_address(self, slot: int) -> TransportAddress:
        """Read one peer row."""
        return from_sockaddr(self.peer[slot].tobytes())

    def put(self, slot: int, payload: bytes, peer: TransportAddress) -> None:
        """Fill one slot for sending. ValueError when the payload does not fit."""
        size = len(payload)
        if size > self.size:
            raise ValueError(f"{size} bytes do not fit into a slot of {self.size}")
        self.data[slot, :size] = np.frombuffer(payload, np.uint8)
        self.length[slot] = size
        self.put_peer(slot, peer)

    def put_peer(self, slot: int, peer: TransportAddress) -> None:
        """Set the address one slot is sent to."""
        raw = to_sockaddr(peer)
        self.peer[slot, : len(raw)] = np.frombuffer(raw, np.uint8)
        self.peer[slot, len(raw) :] = 0
        self.peer_length[slot] = SOCKADDR_IN if len(raw) == SOCKADDR_IN else SOCKADDR_IN6
