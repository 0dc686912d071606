"""Sessions on disk: a journal in generations, so that it neither grows for ever nor is ever rewritten at a stroke.

Changes are appended to the newest generation. A new one is begun now and then; once every session has been written
into it, the older ones are removed. Reading replays all generations in order, so a kill at any point loses nothing
that was appended; a torn last line is skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from relay.snapshot import VERSION, latest

PREFIX = "sessions."
SUFFIX = ".jsonl"
LOCK = "sessions.lock"

Record = dict[str, Any]


class SnapshotFiles:
    """The journal in one directory. OSError from every method when the disk does not allow it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self._generation = 0
        self._lock = -1

    def claim(self) -> bool:
        """Take the directory for this process; False when another live process keeps its sessions there."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def load(self) -> list[Record]:
        """Give the sessions that were alive when the last process ended, as records."""
        return list(latest(self._records()).values())

    def age(self, wall: float) -> float | None:
        """Seconds since anything was written, None when there is nothing. `wall` is Unix time."""
        written = [path.stat().st_mtime for _, path in self._files()]
        return wall - max(written) if written else None

    def begin(self) -> None:
        """Start a new generation; what is appended from now on goes there."""
        known = [self._generation, *(number for number, _ in self._files())]
        self._generation = max(known) + 1
        path = self._path(self._generation)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end_generation()
        self._descriptor = descriptor
        self._append(_line({"version": VERSION}))

    def put(self, records: Iterable[Record], gone: Iterable[str] = (), learned: Iterable[Record] = ()) -> None:
        """Append sessions as they are now, Call-IDs of sessions that ended, and what ports of others learned."""
        self.append(lines(records, gone, learned))

    def append(self, data: bytes) -> None:
        """Append what `lines` gave."""
        if data:
            self._append(data)

    def forget_older(self) -> None:
        """Remove generations before the newest one, which now holds every session."""
        for number, path in self._files():
            if number < self._generation:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def close(self) -> None:
        """Let go of everything; the files stay."""
        self._end_generation()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _end_generation(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _files(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._directory.glob(f"{PREFIX}*{SUFFIX}"):
            number = path.name[len(PREFIX) : -len(SUFFIX)]
            if number.isdigit():
                found.append((int(number), path))
        return sorted(found)

    def _path(self, generation: int) -> Path:
        return self._directory / f"{PREFIX}{generation}{SUFFIX}"

    def _records(self) -> Iterator[Record]:
        for _, path in self._files():
            with path.open("rb") as lines:
                for line in lines:
                    try:
                        record = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(record, dict):
                        yield record


def lines(records: Iterable[Record], gone: Iterable[str] = (), learned: Iterable[Record] = ()) -> bytes:
    """Write changes as lines of the journal."""
    return b"".join(
        [
            *(_line({"put": record}) for record in records),
            *(_line({"learned": news}) for news in learned),
            *(_line({"gone": call_id}) for call_id in gone),
        ]
    )


_encoded = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _line(record: Record) -> bytes:
    return _encoded(record).encode("ascii") + b"\n"
