"""Keeps the relay's sessions on disk while they change, and brings them back when the relay starts again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nattrav.control.ng.memory import CallMemory
from nattrav.net import clock
from nattrav.net.immutable import immutable
from relay.engine import Engine
from relay.io.snapshot import SnapshotFiles, lines
from relay.snapshot import Record

FLUSH_EVERY = 0.2
"""Seconds for which a change may be in memory only."""

GENERATION = 30.0
"""Seconds in which every session is written anew, with its counters, into a fresh file."""

TOO_OLD = 600.0
"""Sessions of a relay that was away for longer have ended without us."""


AT_ONCE = 250
"""Sessions written at once, changed ones and as many of the sweep: more would hold up requests."""

PATIENCE = 10.0
"""Seconds for which sessions are tried again whose ports were not free at the start.

After a kill the kernel takes a while to let go of what an io_uring held.
"""

RETRY = 5.0
"""Seconds after which a disk that failed is tried again, with everything."""


@immutable
class Writing:
    """One piece of work for the disk: perhaps a new generation first, then lines, then perhaps the end of old ones."""

    begin: bool
    data: bytes
    forget: bool


class SessionKeeper:
    """Keeps an engine's sessions, and what their SDP was told, in a directory.

    A disk that fails or hangs costs the snapshot, never a call: `collect` and `done` belong to the engine's thread,
    `write` may run in another.
    """

    def __init__(self, engine: Engine, memory: CallMemory, directory: Path, log: Any) -> None:
        self._engine = engine
        self._memory = memory
        self._files = SnapshotFiles(directory)
        self._log = log
        self._sweep: list[str] = []
        self._slice = 0
        self._begun = -math.inf
        self._failed = False
        self._off = False
        self._waiting: list[Record] = []
        """Records of sessions that could not be restored yet, to be tried again until `_patient_until`."""
        self._patient_until = 0.0
        self._next_try = 0.0
        self.behind = False
        """More had changed than `collect` took: call it again soon."""
        self._forgettable = False
        """Everything is in the newest generation."""

    @property
    def settled(self) -> bool:
        """No session waits to be restored any more."""
        return not self._waiting

    def restore(self) -> None:
        """Take up what the last process left."""
        try:
            if not self._files.claim():
                self._off = True
                self._log.warning("another relay keeps its sessions here: ours will not survive a restart")
                return
            age = self._files.age(clock.wall())
            records = self._files.load() if age is not None and age <= TOO_OLD else []
        except OSError as error:
            self._fail(error)
            return
        self._patient_until = clock.monotonic() + PATIENCE
        self._restore(records, clock.monotonic())

    def _restore(self, records: list[Record], now: float) -> None:
        restored, lost = self._engine.restore(records, now)
        self._waiting = []
        for record in records:
            call_id = record.get("call_id")
            if call_id in self._engine.sessions:
                self._memory.thaw(call_id, record.get("ng") or {})
            else:
                self._waiting.append(record)
        self._next_try = now + 0.5
        if now >= self._patient_until:
            self._waiting.clear()
            for reason in lost[:20]:
                self._log.warning("session not restored", session=reason)
        if restored:
            self._log.info("sessions restored", restored=restored, waiting=len(self._waiting))

    def _try_again(self, now: float) -> None:
        if self._waiting and now >= self._next_try:
            known = self._engine.sessions
            self._restore([record for record in self._waiting if record.get("call_id") not in known], now)

    def collect(self, now: float) -> Writing | None:
        """Give what changed, to be written; call it every `FLUSH_EVERY` seconds."""
        if self._off:
            self._engine.forget_changes()
            return None
        self._try_again(now)
        begin = now - self._begun >= GENERATION
        if begin:
            first = self._begun == -math.inf
            self._begun = now
            self._sweep = list(self._engine.sessions)
            share = math.ceil(len(self._sweep) / (GENERATION / FLUSH_EVERY / 2))
            self._slice = max(1, AT_ONCE if first else share)
        swept = [call_id for call_id in self._sweep[-self._slice :] if call_id in self._engine.sessions]
        del self._sweep[-self._slice :]
        self._forgettable = self._forgettable or (bool(begin or swept) and not self._sweep)
        forget = self._forgettable and not self._waiting
        if forget:
            self._forgettable = False
        data = self._lines(AT_ONCE, swept)
        self.behind = bool(self._engine.changed)
        return Writing(begin, data, forget) if begin or data or forget else None

    def write(self, work: Writing) -> OSError | None:
        """Carry out what `collect` gave; the fault if the disk has one. Give it to `done`."""
        try:
            if work.begin:
                self._files.begin()
            self._files.append(work.data)
            if work.forget:
                self._files.forget_older()
        except OSError as error:
            return error
        return None

    def done(self, fault: OSError | None, now: float) -> None:
        """Take note of how `write` went. After a fault everything is written anew, a while later."""
        if fault is None:
            self._failed = False
            return
        self._fail(fault)
        self._begun = now - GENERATION + RETRY

    def finish(self) -> None:
        """Write everything once more and let go of the files."""
        try:
            if self._begun > -math.inf and not self._off:
                self._engine.changed.update(self._engine.sessions)
                self._files.append(self._lines(None))
        except OSError as error:
            self._fail(error)
        finally:
            self._files.close()

    def _lines(self, limit: int | None, also: Sequence[str] = ()) -> bytes:
        changes = self._engine.take_changes(limit, also)
        for record in changes.records:
            told = self._memory.freeze(record["call_id"])
            if told:
                record["ng"] = told
        return lines(*changes)

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._log.warning("sessions cannot be kept over a restart", error=error.strerror or str(error))
        self._failed = True
