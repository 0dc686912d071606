"""Accounts in an SQLite file: written by `nattrav users`, read by the proxy whenever the file has changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nattrav.proxy.accounts import Account, account_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user (
    name TEXT NOT NULL, domain TEXT NOT NULL DEFAULT '', realm TEXT NOT NULL,
    md5 TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (name, domain)
)
"""


class UsersUnusable(Exception):
    """The file cannot be opened or is no such database; the message says which and what to do."""


class UserFile:
    """One file of users. Passwords are never stored, only the two hashes a digest needs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if not self.path.exists():
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute(_SCHEMA)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise UsersUnusable(f"{self.path}: {error}; name another file in [sip.registrar] users_file") from None

    def put(self, name: str, domain: str | None, realm: str, password: str, *, new: bool) -> bool:
        """Add a user or change the password; False when a new one exists already or an old one does not."""
        account = account_of(name, domain, realm, password)
        with self._open() as connection:
            found = connection.execute(
                "SELECT 1 FROM user WHERE name = ? AND domain = ?", (name, domain or "")
            ).fetchone()
            if (found is not None) == new:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO user VALUES (?, ?, ?, ?, ?)",
                (name, domain or "", realm, account.md5, account.sha256),
            )
        return True

    def remove(self, name: str, domain: str | None) -> bool:
        """Take a user out; False when there is none."""
        with self._open() as connection:
            done = connection.execute("DELETE FROM user WHERE name = ? AND domain = ?", (name, domain or ""))
            return done.rowcount > 0

    def names(self) -> list[tuple[str, str, str]]:
        """Every user's name, domain ("" for all) and realm."""
        if not self.path.exists():
            return []
        with self._open() as connection:
            return [
                (str(name), str(domain), str(realm))
                for name, domain, realm in connection.execute("SELECT name, domain, realm FROM user ORDER BY 1, 2")
            ]

    def load(self, realm: str) -> list[Account]:
        """Read the users whose hashes are for this realm."""
        if not self.path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute("SELECT name, domain, md5, sha256 FROM user WHERE realm = ?", (realm,)).fetchall()
        return [Account(str(name), str(domain) or None, str(md5), str(sha)) for name, domain, md5, sha in rows]

    def changed(self) -> bool:
        """Tell whether the file is another than at the last call."""
        try:
            status = self.path.stat()
        except OSError:
            stamp = None
        else:
            stamp = (status.st_mtime_ns, status.st_size)
        before, self._stamp = self._stamp, stamp
        return stamp != before
