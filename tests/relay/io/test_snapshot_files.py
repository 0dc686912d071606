"""The journal of sessions on disk."""

from __future__ import annotations

from pathlib import Path

from relay.io.snapshot import SnapshotFiles


def test_what_was_put_is_loaded_and_what_is_gone_is_not(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path / "relay")
    assert files.claim()
    files.begin()
    files.put([{"call_id": "a"}, {"call_id": "b"}])
    files.put([], ["a"])
    files.close()
    assert SnapshotFiles(tmp_path / "relay").load() == [{"call_id": "b"}]


def test_nothing_is_lost_between_two_generations(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path)
    files.begin()
    files.put([{"call_id": "a"}, {"call_id": "b"}])
    files.begin()
    files.put([{"call_id": "b", "new": True}])
    assert SnapshotFiles(tmp_path).load() == [{"call_id": "a"}, {"call_id": "b", "new": True}]
    files.forget_older()
    assert SnapshotFiles(tmp_path).load() == [{"call_id": "b", "new": True}]
    files.close()


def test_a_torn_last_line_and_garbage_are_skipped(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path)
    files.begin()
    files.put([{"call_id": "a"}])
    files.close()
    (path,) = tmp_path.glob("sessions.*")
    path.write_bytes(path.read_bytes() + b'7\n\xff\xfe\n{"put":{"call_id":"torn"')
    assert SnapshotFiles(tmp_path).load() == [{"call_id": "a"}]


def test_age_is_that_of_the_last_write(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path)
    assert files.age(0.0) is None
    files.begin()
    files.close()
    (path,) = tmp_path.glob("sessions.*")
    assert files.age(path.stat().st_mtime + 7.0) == 7.0


def test_an_empty_place_holds_no_sessions(tmp_path: Path) -> None:
    assert SnapshotFiles(tmp_path / "never-made").load() == []


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    first, second = SnapshotFiles(tmp_path / "relay"), SnapshotFiles(tmp_path / "relay")
    assert first.claim()
    assert not second.claim()
    first.close()
    assert second.claim()
    second.close()
