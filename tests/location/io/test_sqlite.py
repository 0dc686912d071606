"""Bindings on disk: what was registered is there again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nattrav.location.bindings import Binding
from nattrav.location.io.sqlite import SqliteJournal, StoreUnusable
from nattrav.location.memory import MemoryLocation
from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow


def binding(serial: int, expires_at: float = 1000.0) -> Binding:
    return Binding(
        serial=serial,
        aor="sip:alice@example.com",
        uri=f"sip:alice@10.0.0.{serial % 250};ob",
        params=(("+sip.instance", '"<urn:uuid:1>"'), ("flag", None)),
        q=0.5,
        registered_at=1.25,
        expires_at=expires_at,
        call_id="caf\xe9",
        cseq=2**31 - 1,
        path=("<sip:p1;lr>", "<sip:p2;lr>"),
        flow=Flow("tcp", 65535, TransportAddress("2001:db8::1", 5060), TransportAddress("2001:db8::2", 1), 17),
        user_agent="phone",
        instance='"<urn:uuid:1>"',
        reg_id=1,
        tests=("contact_nonpublic", "cgnat"),
    )


def test_a_restart_loses_no_binding(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "bindings.db")
    journal.write([binding(1), binding(2), binding(3)], [])
    journal.write([], [binding(2)])
    journal.write([binding(3, expires_at=2000.0)], [])
    journal.close()
    again = SqliteJournal(tmp_path / "bindings.db")
    assert again.load(0.0) == [binding(1), binding(3, expires_at=2000.0)]
    assert again.load(1500.0) == [binding(3, expires_at=2000.0)]
    location = MemoryLocation(known=again.load(0.0), journal=again)
    location.remove(list(location))
    again.flush()
    assert again.load(0.0) == []
    assert again.problem is None
    again.close()


def test_what_was_flushed_survives_without_a_clean_end(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "bindings.db")
    journal.write([binding(number) for number in range(1, 2001)], [])
    journal.flush()
    other = SqliteJournal(tmp_path / "bindings.db")
    assert len(other.load(0.0)) == 2000
    other.close()
    journal.close()


def test_the_latest_of_many_changes_is_what_is_written(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "bindings.db")
    for number in range(1, 335):
        journal.write([binding(number)], [])
        journal.write([binding(number, expires_at=2000.0 + number)], [])
    journal.write([], [binding(7)])
    journal.close()
    again = SqliteJournal(tmp_path / "bindings.db")
    found = again.load(0.0)
    assert [one.serial for one in found] == [number for number in range(1, 335) if number != 7]
    assert all(one.expires_at == 2000.0 + one.serial for one in found)
    again.close()


def test_what_could_not_be_written_waits_for_the_next_attempt(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "bindings.db")
    saboteur = sqlite3.connect(tmp_path / "bindings.db")
    saboteur.execute("ALTER TABLE binding RENAME TO elsewhere")
    journal.write([binding(1), binding(2)], [])
    journal.flush()
    assert "no such table" in str(journal.problem)
    journal.write([binding(2, expires_at=3000.0)], [])
    saboteur.execute("ALTER TABLE elsewhere RENAME TO binding")
    saboteur.close()
    journal.flush()
    assert journal.problem is None
    assert journal.load(0.0) == [binding(1), binding(2, expires_at=3000.0)]
    journal.close()


def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "bindings.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnusable, match="Move the file away"):
        SqliteJournal(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bindings.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer version"):
        SqliteJournal(path)
