"""What data threads note about the requests they answer: copies of heads and sources, a batch at a time, bounded.

The reply path pays two gathers a batch; what the notes mean is worked out elsewhere, later, at its own pace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nattrav.net.address import TransportAddress, from_sockaddr
from nattrav.net.batch import Batch
from stun.attributes import MAGIC_COOKIE, AttributeType
from stun.discovery import Dependence

HEAD = 40
"""Bytes of a request that are kept: the header and a RUN_ID that comes first."""
_ROWS_MAX = 64
_NOTES_MAX = 2048
_PLAIN_ENOUGH = 64
_PLAIN_EVERY = 16
_CLAIMED = 0x80
_BEHAVIOURS = (Dependence.INDEPENDENT, Dependence.ADDRESS, Dependence.PORT, Dependence.ADDRESS_AND_PORT)
_RUN = AttributeType.RUN_ID.to_bytes(2, "big") + b"\x00\x10"


@dataclass(frozen=True)
class Note:
    """Some requests of one batch: heads (n, 40), sources (n, 32), change flags (n,), all of one time and endpoint."""

    time: float
    at: int
    heads: NDArray[np.uint8]
    sources: NDArray[np.uint8]
    flags: NDArray[np.uint8]


@dataclass(frozen=True)
class Claim:
    """The result of a run, as its probe tells it; None where it could not be determined."""

    mapping: Dependence | None
    filtering: Dependence | None


@dataclass(frozen=True)
class Observation:
    """One request as the record keeper sees it."""

    time: float
    at: int
    source: TransportAddress
    flags: int
    transaction: bytes
    classic: bool = False
    run: bytes | None = None
    """Name of a run of this project's probe."""
    reported: TransportAddress | None = None
    """The local address that such a probe says it has."""
    claim: Claim | None = None
    """What such a probe found out in the end."""


class Notebook:
    """Notes of one data thread; when nobody reads, the oldest are lost and counted."""

    def __init__(self, primary: frozenset[int] = frozenset()) -> None:
        """`primary`: endpoints where everybody asks; of the plain requests there, a sample will do."""
        self.lost = 0
        self._primary = primary
        self._skipped = 0
        self._notes: deque[Note] = deque(maxlen=_NOTES_MAX)

    def write(
        self,
        now: float,
        at: int,
        batch: Batch,
        rows: NDArray[np.intp],
        kinds: NDArray[np.uint8],
        *,
        plain: bool = False,
    ) -> None:
        """Note answered rows: all with change flags, and of the plain ones no more than a few dozen.

        `plain` says that no request had any attribute: once enough are noted, most such batches are passed over.
        """
        if plain and at in self._primary and len(self._notes) > _PLAIN_ENOUGH:
            self._skipped += 1
            if self._skipped % _PLAIN_EVERY:
                return
        if len(rows) > _ROWS_MAX:
            step = -(-len(rows) // _ROWS_MAX)
            chosen = (kinds & 3) != 0
            chosen[::step] = True
            rows, kinds = rows[chosen], kinds[chosen]
        if len(self._notes) == _NOTES_MAX:
            self.lost += 1
        self._notes.append(
            Note(now, at, batch.data[rows, :HEAD], batch.peer[rows], (kinds & np.uint8(3)) << np.uint8(1))
        )

    def read(self) -> list[Note]:
        """Take all notes."""
        notes = []
        while self._notes:
            notes.append(self._notes.popleft())
        return notes


def observations(notes: list[Note], primary: frozenset[int], limit: int, plain_limit: int) -> Iterator[Observation]:
    """Read notes: up to `limit` that tell something about a NAT, then up to `plain_limit` others.

    `primary`: endpoints where everybody asks; what arrives at the others is discovery.
    """
    telling, plain = [], []
    for note in notes:
        run = (note.heads[:, 20:24] == np.frombuffer(_RUN, np.uint8)).all(axis=1) & _long_enough(note.heads)
        special = run | (note.flags != 0)
        if note.at not in primary:
            special[:] = True
        telling += [(note, row) for row in np.flatnonzero(special).tolist()]
        plain += [(note, row) for row in np.flatnonzero(~special).tolist()]
    for note, row in telling[:limit] + plain[:plain_limit]:
        yield _observation(note, row)


def _long_enough(heads: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether requests reach as far as their heads: behind a shorter one stands what came in that buffer before it."""
    return (heads[:, 2].astype(np.uint16) << 8 | heads[:, 3]) >= HEAD - 20


def _observation(note: Note, row: int) -> Observation:
    head = note.heads[row].tobytes()
    modern = head[4:8] == MAGIC_COOKIE
    run, reported, claim = None, None, None
    if modern and head[20:24] == _RUN and _long_enough(note.heads[row : row + 1])[0]:
        run, reported, claim = read_run(head[24:40])
    return Observation(
        note.time,
        note.at,
        from_sockaddr(note.sources[row].tobytes()),
        int(note.flags[row]),
        head[4:20],
        not modern,
        run,
        reported,
        claim,
    )


def write_run(run: bytes, local: TransportAddress | None, claim: Claim | None = None) -> bytes:
    """Code RUN_ID: 8 bytes of the run, 2 of its result once there is one, the local port and IPv4 address."""
    result = bytes(2) if claim is None else bytes([_CLAIMED | _code(claim.mapping), _code(claim.filtering)])
    if local is None or ":" in local.host:
        return run + result + bytes(6)
    address = bytes(int(part) for part in local.host.split("."))
    return run + result + local.port.to_bytes(2, "big") + address


def read_run(value: bytes) -> tuple[bytes, TransportAddress | None, Claim | None]:
    """Read RUN_ID."""
    claim = Claim(_behaviour(value[8]), _behaviour(value[9])) if value[8] & _CLAIMED else None
    if not any(value[12:16]):
        return value[:8], None, claim
    host = ".".join(str(octet) for octet in value[12:16])
    return value[:8], TransportAddress(host, int.from_bytes(value[10:12], "big")), claim


def _code(behaviour: Dependence | None) -> int:
    return 0 if behaviour is None else 1 + _BEHAVIOURS.index(behaviour)


def _behaviour(code: int) -> Dependence | None:
    number = code & ~_CLAIMED
    return _BEHAVIOURS[number - 1] if 0 < number <= len(_BEHAVIOURS) else None
