"""Keeps the relay's sessions on disk while they change, and brings them back when the relay starts again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nattrav.net import clock
from relay.engine import Engine
from relay.io.snapshot import SnapshotFiles

FLUSH_EVERY = 0.2
"""Seconds for which a change may be in memory only."""

GENERATION = 30.0
"""Seconds in which every session is written anew, with its counters, into a fresh file."""

TOO_OLD = 600.0
"""Sessions of a relay that was away for longer have ended without us."""


class SessionKeeper:
    """Writes an engine's sessions to a directory. A disk that fails costs the snapshot, never a call."""

    def __init__(self, engine: Engine, directory: Path, log: Any) -> None:
        self._engine = engine
        self._files = SnapshotFiles(directory)
        self._log = log
        self._sweep: list[str] = []
        self._slice = 0
        self._begun = -math.inf
        self._failed = False
        self._off = False

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
        restored, lost = self._engine.restore(records, clock.monotonic())
        if records:
            self._log.info("sessions restored", restored=restored, lost=len(lost))
        for reason in lost[:20]:
            self._log.warning("session not restored", session=reason)

    def tick(self, now: float) -> None:
        """Write what changed; call it every `FLUSH_EVERY` seconds."""
        if self._off:
            self._engine.changed.clear()
            return
        try:
            if now - self._begun >= GENERATION:
                self._begin(now)
            for call_id in self._sweep[-self._slice :]:
                if call_id in self._engine.sessions:
                    self._engine.changed.add(call_id)
            if self._sweep:
                del self._sweep[-self._slice :]
                self._write()
                if not self._sweep:
                    self._files.forget_older()
            else:
                self._write()
        except OSError as error:
            self._fail(error)
        else:
            self._failed = False

    def finish(self) -> None:
        """Write everything once more and let go of the files."""
        try:
            if self._begun > -math.inf:
                self._engine.changed.update(self._engine.sessions)
                self._write()
        except OSError as error:
            self._fail(error)
        finally:
            self._files.close()

    def _begin(self, now: float) -> None:
        first = self._begun == -math.inf
        self._begun = now
        self._files.begin()
        self._sweep = list(self._engine.sessions)
        ticks = 1 if first else GENERATION / FLUSH_EVERY / 2
        self._slice = max(1, math.ceil(len(self._sweep) / ticks))
        if not self._sweep:
            self._files.forget_older()

    def _write(self) -> None:
        if self._engine.changed:
            self._files.put(*self._engine.take_changes())

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._log.warning("sessions cannot be kept over a restart", error=error.strerror or str(error))
        self._failed = True
