"""What one writer counts: one block of unsigned 64-bit slots, named by views; blocks of several writers add up."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stun.attributes import REASONS
from stun.responder import Answer, Drop, DropReason, Transport

TRANSPORTS = tuple(Transport)
FAMILIES = (4, 6)
CODES = (0, *REASONS)
REASON_ORDER = tuple(DropReason)
CHANGES = ("port", "ip", "ip_port")
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Upper bounds of the batch-size histogram."""

_TRANSPORT = {transport: row for row, transport in enumerate(TRANSPORTS)}
_CODE = {code: column for column, code in enumerate(CODES)}
_REASON = {reason: slot for slot, reason in enumerate(REASON_ORDER)}


class Counters:
    """Counts of one thread.

    requests  (transport, family)   responses (transport, code)   dropped (reason,)
    changes   (port, ip, ip_port)   request_bytes, response_bytes (1,): of answered requests and of the answers
    batches   (bucket,)             batch_calls (1,)              slow (1,): requests that left the vector path
    """

    def __init__(self) -> None:
        shapes = {
            "requests": (len(TRANSPORTS), len(FAMILIES)),
            "responses": (len(TRANSPORTS), len(CODES)),
            "dropped": (len(REASON_ORDER),),
            "changes": (len(CHANGES),),
            "request_bytes": (1,),
            "response_bytes": (1,),
            "batches": (len(BATCH_BOUNDS) + 1,),
            "slow": (1,),
        }
        self.block: NDArray[np.uint64] = np.zeros(sum(int(np.prod(s)) for s in shapes.values()), np.uint64)
        views = {}
        start = 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            views[name] = self.block[start : start + size].reshape(shape)
            start += size
        self.requests: NDArray[np.uint64] = views["requests"]
        self.responses: NDArray[np.uint64] = views["responses"]
        self.dropped: NDArray[np.uint64] = views["dropped"]
        self.changes: NDArray[np.uint64] = views["changes"]
        self.request_bytes: NDArray[np.uint64] = views["request_bytes"]
        self.response_bytes: NDArray[np.uint64] = views["response_bytes"]
        self.batches: NDArray[np.uint64] = views["batches"]
        self.slow: NDArray[np.uint64] = views["slow"]

    @classmethod
    def total(cls, parts: Iterable[Counters]) -> Counters:
        """Add up the blocks of several writers."""
        result = cls()
        for part in parts:
            result.block += part.block
        return result

    def count_drop(self, reason: DropReason, by: int = 1) -> None:
        """Count datagrams that got no answer."""
        self.dropped[_REASON[reason]] += np.uint64(by)

    def count_requests(self, transport: Transport, ipv6: bool, by: int = 1) -> None:
        """Count decoded requests."""
        self.requests[_TRANSPORT[transport], int(ipv6)] += np.uint64(by)

    def count_answers(self, transport: Transport, code: int, by: int, bytes_in: int, bytes_out: int) -> None:
        """Count replies that were handed to the kernel."""
        self.responses[_TRANSPORT[transport], _CODE[code]] += np.uint64(by)
        self.request_bytes[0] += np.uint64(bytes_in)
        self.response_bytes[0] += np.uint64(bytes_out)

    def count_change(self, flags: int, by: int = 1) -> None:
        """Count a CHANGE-REQUEST that was followed; `flags` is 2, 4 or 6."""
        self.changes[(flags >> 1) - 1] += np.uint64(by)

    def count_batch(self, size: int) -> None:
        """Count one receive call that brought `size` datagrams."""
        self.batches[min((size - 1).bit_length(), len(BATCH_BOUNDS))] += 1

    def count(self, outcome: Answer | Drop, transport: Transport, ipv6: bool, bytes_in: int) -> None:
        """Count what the responder said about one message."""
        if isinstance(outcome, Drop):
            self.count_drop(outcome.reason)
            return
        self.count_requests(transport, ipv6)
        self.count_answers(transport, outcome.code, 1, bytes_in, len(outcome.data))
        if outcome.changed:
            self.count_change(outcome.changed)

    def drops(self) -> dict[str, int]:
        """Drops by the reason's word."""
        return {reason.value: int(self.dropped[slot]) for slot, reason in enumerate(REASON_ORDER)}
