"""Bindings on disk: SQLite in write-ahead mode, one thread that writes, nothing read but at the start."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from nattrav.location.bindings import Binding
from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS binding (
    serial INTEGER PRIMARY KEY, aor TEXT NOT NULL, uri TEXT NOT NULL, params TEXT NOT NULL, q REAL NOT NULL,
    registered_at REAL NOT NULL, expires_at REAL NOT NULL, call_id TEXT NOT NULL, cseq INTEGER NOT NULL,
    path TEXT NOT NULL, transport TEXT NOT NULL, listener INTEGER NOT NULL, local_host TEXT NOT NULL,
    local_port INTEGER NOT NULL, remote_host TEXT NOT NULL, remote_port INTEGER NOT NULL, connection INTEGER NOT NULL,
    user_agent TEXT NOT NULL, instance TEXT, reg_id INTEGER, tests TEXT NOT NULL
) WITHOUT ROWID
"""
_PUT = f"INSERT OR REPLACE INTO binding VALUES ({', '.join('?' * 21)})"
_REMOVE = "DELETE FROM binding WHERE serial = ?"

_Change = tuple[str, list[tuple[object, ...]]]


class StoreUnusable(Exception):
    """The file cannot be opened or was written by a newer version; the message says which, and what to do."""


class SqliteJournal:
    """Implements `nattrav.location.location.Journal`. Made, read and closed by one thread; writes from any."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises StoreUnusable."""
        self.path = path
        self.failures = 0
        """Batches that could not be written; the bindings in them live on in memory only."""
        self._queue: queue.SimpleQueue[_Change | threading.Event | None] = queue.SimpleQueue()
        try:
            with closing(_connect(path)) as connection:
                _prepare(connection, path)
        except sqlite3.Error as error:
            raise StoreUnusable(f"{path}: {error}. Move the file away to start without bindings.") from None
        self._thread = threading.Thread(target=self._work, name="bindings", daemon=True)
        self._thread.start()

    def load(self, now: float) -> list[Binding]:
        """Read the bindings that have not expired."""
        with closing(_connect(self.path)) as connection:
            rows = connection.execute("SELECT * FROM binding WHERE expires_at > ? ORDER BY serial", (now,)).fetchall()
        return [_from_row(row) for row in rows]

    def write(self, put: Iterable[Binding], removed: Iterable[Binding]) -> None:
        """Queue changes for the writing thread."""
        puts = [_to_row(binding) for binding in put]
        removals: list[tuple[object, ...]] = [(binding.serial,) for binding in removed]
        if puts:
            self._queue.put((_PUT, puts))
        if removals:
            self._queue.put((_REMOVE, removals))

    def flush(self) -> None:
        """Wait until everything queued so far is on disk."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        connection = _connect(self.path)
        running = True
        while running:
            changes, waiting, running = self._next_batch()
            try:
                with connection:
                    connection.execute("BEGIN")
                    for statement, rows in changes:
                        connection.executemany(statement, rows)
            except sqlite3.Error:
                self.failures += 1
            for event in waiting:
                event.set()
        connection.close()

    def _next_batch(self) -> tuple[list[_Change], list[threading.Event], bool]:
        """Everything that is queued by now, so that a storm of REGISTERs costs few commits."""
        changes: list[_Change] = []
        waiting: list[threading.Event] = []
        item = self._queue.get()
        while True:
            if item is None:
                return changes, waiting, False
            if isinstance(item, threading.Event):
                waiting.append(item)
            else:
                changes.append(item)
            if self._queue.empty() or len(changes) >= 5000:
                return changes, waiting, True
            item = self._queue.get()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise StoreUnusable(f"{path} was written by a newer version ({version}): use that, or move the file away.")
    connection.execute(_SCHEMA)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _to_row(binding: Binding) -> tuple[object, ...]:
    flow = binding.flow
    return (
        binding.serial,
        binding.aor,
        binding.uri,
        json.dumps(binding.params),
        binding.q,
        binding.registered_at,
        binding.expires_at,
        binding.call_id,
        binding.cseq,
        json.dumps(binding.path),
        flow.transport,
        flow.listener,
        *flow.local,
        *flow.remote,
        flow.serial,
        binding.user_agent,
        binding.instance,
        binding.reg_id,
        json.dumps(binding.tests),
    )


def _from_row(row: tuple[object, ...]) -> Binding:
    (serial, aor, uri, params, q, registered_at, expires_at, call_id, cseq, path) = row[:10]
    (transport, listener, local_host, local_port, remote_host, remote_port, connection) = row[10:17]
    (user_agent, instance, reg_id, tests) = row[17:]
    return Binding(
        serial=int(str(serial)),
        aor=str(aor),
        uri=str(uri),
        params=tuple((name, value) for name, value in json.loads(str(params))),
        q=float(str(q)),
        registered_at=float(str(registered_at)),
        expires_at=float(str(expires_at)),
        call_id=str(call_id),
        cseq=int(str(cseq)),
        path=tuple(json.loads(str(path))),
        flow=Flow(
            str(transport),
            int(str(listener)),
            TransportAddress(str(local_host), int(str(local_port))),
            TransportAddress(str(remote_host), int(str(remote_port))),
            int(str(connection)),
        ),
        user_agent=str(user_agent),
        instance=None if instance is None else str(instance),
        reg_id=None if reg_id is None else int(str(reg_id)),
        tests=tuple(json.loads(str(tests))),
    )
