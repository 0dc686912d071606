"""Bindings on disk: SQLite in write-ahead mode, one thread that writes, nothing read but at the start.

A REGISTER is answered before its binding is on disk, at most `REST` seconds (and the time of one commit) before. An
end in order writes all; after a crash of the process what was answered in that time is missing, until the phone's next
REGISTER. Commits are not forced to the disk one by one: a crash of the whole host may cost the last seconds.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from functools import cache, lru_cache
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
_COLUMNS = 21
_REMOVE = "DELETE FROM binding WHERE serial = ?"

REST = 0.05
"""Seconds between two commits, in which changes gather; the latest of one binding is the one that is written."""
RETRY = 1.0
"""Seconds until changes that could not be written are tried again."""
MAX_UNWRITTEN = 500_000
"""Changes that wait for a disk that takes none; beyond that they are given up."""
_ROWS = (100, 10, 1)
"""Rows per statement: one call into SQLite for many, because each call hands the interpreter to another thread."""

_Changes = dict[int, Binding | None]


class StoreUnusable(Exception):
    """The file cannot be opened or was written by a newer version; the message says which, and what to do."""


class SqliteJournal:
    """Implements `nattrav.location.location.Journal`. Made, read and closed by one thread; writes from any."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises StoreUnusable."""
        self.path = path
        self.problem: str | None = None
        """Why the last batch could not be written; None when it was. Its changes wait for the next attempt."""
        self._changes: _Changes = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._hurry = threading.Event()
        self._waiting: list[threading.Event] = []
        self._closing = False
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
        """Leave changes to the writing thread."""
        with self._lock:
            for binding in put:
                self._changes[binding.serial] = binding
            for binding in removed:
                self._changes[binding.serial] = None
        if not self._changed.is_set():
            self._changed.set()

    def flush(self) -> None:
        """Wait until everything that was written so far is in the file, or could not be."""
        done = threading.Event()
        with self._lock:
            self._waiting.append(done)
        self._hurry.set()
        self._changed.set()
        done.wait()

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._closing = True
        self._hurry.set()
        self._changed.set()
        self._thread.join()

    def _work(self) -> None:
        with closing(_connect(self.path)) as connection:
            while not self._closing:
                self._changed.wait()
                self._hurry.wait(RETRY if self.problem else REST)
                self._write_changes(connection)
            self._write_changes(connection)

    def _write_changes(self, connection: sqlite3.Connection) -> None:
        """Write everything there is by now, so that a storm of REGISTERs costs few commits."""
        self._changed.clear()
        self._hurry.clear()
        with self._lock:
            changes, self._changes = self._changes, {}
            waiting, self._waiting = self._waiting, []
        try:
            with connection:
                connection.execute("BEGIN")
                _put(connection, [_to_row(one) for one in changes.values() if one is not None])
                connection.executemany(_REMOVE, [(serial,) for serial, one in changes.items() if one is None])
            self.problem = None
        except sqlite3.Error as error:
            self.problem = str(error)
            self._keep(changes)
        for event in waiting:
            event.set()

    def _keep(self, changes: _Changes) -> None:
        """Put back what could not be written, under what has changed since."""
        with self._lock:
            if len(changes) + len(self._changes) <= MAX_UNWRITTEN:
                self._changes = changes | self._changes
        self._changed.set()


def _put(connection: sqlite3.Connection, rows: list[tuple[object, ...]]) -> None:
    start = 0
    for size in _ROWS:
        statement = _put_statement(size)
        while len(rows) - start >= size:
            connection.execute(statement, [value for row in rows[start : start + size] for value in row])
            start += size


@cache
def _put_statement(rows: int) -> str:
    row = f"({', '.join('?' * _COLUMNS)})"
    return f"INSERT OR REPLACE INTO binding VALUES {', '.join([row] * rows)}"


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


@lru_cache(maxsize=1024)
def _json(values: tuple[object, ...]) -> str:
    return json.dumps(values)


def _to_row(binding: Binding) -> tuple[object, ...]:
    flow = binding.flow
    return (
        binding.serial,
        binding.aor,
        binding.uri,
        _json(binding.params),
        binding.q,
        binding.registered_at,
        binding.expires_at,
        binding.call_id,
        binding.cseq,
        _json(binding.path),
        flow.transport,
        flow.listener,
        *flow.local,
        *flow.remote,
        flow.serial,
        binding.user_agent,
        binding.instance,
        binding.reg_id,
        _json(binding.tests),
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
