"""Sending whole batches through an io_uring: one entry a datagram, without message headers for the kernel to copy."""

from __future__ import annotations

import errno
import socket
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from nattrav.net.batch import Batch
from nattrav.net.mmsg import MSG_DONTWAIT
from nattrav.net.uring import OP_SEND, SQE, SQE_SKIP_SUCCESS, Ring, Unavailable

_ATTEMPTS = 3


class RingSends:
    """Sends of one thread; make it there, and use it in no other.

    A datagram that would have to wait is refused, so everything is done with when `send` returns.
    """

    def __init__(self, batch: Batch) -> None:
        """`batch`: the one that is sent from. Raises uring.Unavailable where there is no io_uring."""
        self._batch = batch
        self._ring = Ring(batch.slots, 2 * batch.slots)
        numbers = np.arange(batch.slots, dtype=np.uint64)
        self._entries: NDArray[np.void] = np.zeros(batch.slots, SQE)
        self._entries["opcode"] = OP_SEND
        self._entries["flags"] = SQE_SKIP_SUCCESS
        self._entries["addr"] = np.uint64(batch.data.ctypes.data) + numbers * np.uint64(batch.data.strides[0])
        self._entries["addr2"] = np.uint64(batch.peer.ctypes.data) + numbers * np.uint64(batch.peer.strides[0])
        self._entries["op_flags"] = MSG_DONTWAIT
        # Entries are copied as words: numpy would copy them field by field.
        self._words: NDArray[np.uint64] = self._entries.view(np.uint64).reshape(batch.slots, -1)
        # Looking a field up by name costs more than using it on a small batch.
        self._descriptor, self._length = self._entries["fd"], self._entries["len"]
        self._peer_length = self._entries["addr_len"]

    def send(self, sock: socket.socket, start: int, stop: int, errors: Counter[int]) -> int:
        """Send slots `start` to `stop`; return how many left. Refused ones are counted in `errors` by errno.

        Raises uring.Unavailable when the kernel takes no more entries: close it then, and send otherwise.
        """
        batch, ring = self._batch, self._ring
        self._descriptor[start:stop] = sock.fileno()
        self._length[start:stop] = batch.length[start:stop]
        self._peer_length[start:stop] = batch.peer_length[start:stop]
        position = start
        for first, last in ring.spans(stop - start):
            ring.sqe_words[first:last] = self._words[position : position + last - first]
            position += last - first
        for _ in range(_ATTEMPTS):
            ring.enter()
            if not ring.pending:
                break
        else:
            # Left there, an entry would be sent with the next batch's memory.
            raise Unavailable(errno.EAGAIN, "io_uring takes no more entries")
        refused = ring.completed()
        for result in (refused[:, 1] & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).tolist():
            errors[-result] += 1
        ring.seen(len(refused))
        return stop - start - len(refused)

    def close(self) -> None:
        """Close the ring."""
        self._ring.close()
