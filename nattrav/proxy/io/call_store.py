"""Calls in progress in an SQLite file, so that a restart does not forget whom to hang up and what to bill."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

_VERSION = 1
_SCHEMA = "CREATE TABLE IF NOT EXISTS call (session TEXT, tag TEXT, fields TEXT NOT NULL, PRIMARY KEY (session, tag))"

Key = tuple[str, str]


class CallsUnreadable(Exception):
    """The file cannot be used; the message says which and what to do."""


class CallStore:
    """One file. `write` may run in another thread than `load`, one at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises CallsUnreadable."""
        self.path = path
        try:
            with closing(self._connect()) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version > _VERSION:
                    raise CallsUnreadable(
                        f"{path} was written by a newer version ({version}): use that, or move the file away."
                    )
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error as error:
            raise CallsUnreadable(f"{path}: {error}. Move the file away to start without calls.") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def load(self) -> list[str]:
        """Every call that was written and did not end, as its line of JSON."""
        with closing(self._connect()) as connection:
            return [str(fields) for (fields,) in connection.execute("SELECT fields FROM call")]

    def write(self, put: Mapping[Key, str], removed: Iterable[Key]) -> str | None:
        """Note changes in one commit; give what the disk had against it, None when all is well."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN")
                rows = [(*key, fields) for key, fields in put.items()]
                connection.executemany("INSERT OR REPLACE INTO call VALUES (?, ?, ?)", rows)
                connection.executemany("DELETE FROM call WHERE session = ? AND tag = ?", list(removed))
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            return str(error)
        return None
