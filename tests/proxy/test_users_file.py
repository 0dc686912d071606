"""Accounts in a file, and the commands that change it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from nattrav.cli import app
from nattrav.proxy.io.users import UserFile, UsersUnusable
from nattrav.sip.digest import Algorithm, ha1


def test_a_user_is_added_changed_and_removed(tmp_path: Path) -> None:
    file = UserFile(tmp_path / "users.sqlite")
    assert file.put("alice", None, "nattrav", "one", new=True)
    assert not file.put("alice", None, "nattrav", "two", new=True)
    assert file.put("alice", None, "nattrav", "two", new=False)
    (account,) = file.load("nattrav")
    assert account.md5 == ha1(Algorithm.MD5, "alice", "nattrav", "two")
    assert file.load("elsewhere") == []
    assert file.remove("alice", None)
    assert not file.remove("alice", None)


def test_the_file_is_readable_by_its_owner_only_and_holds_no_password(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    UserFile(path).put("alice", None, "nattrav", "very-secret-word", new=True)
    assert path.stat().st_mode & 0o077 == 0
    assert b"very-secret-word" not in path.read_bytes()


def test_a_change_is_noticed_once(tmp_path: Path) -> None:
    file = UserFile(tmp_path / "users.sqlite")
    assert not file.changed()
    UserFile(file.path).put("alice", None, "nattrav", "pw", new=True)
    assert file.changed()
    assert not file.changed()


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "users.sqlite").write_bytes(b"no database at all, really" * 40)
    with pytest.raises(UsersUnusable, match="users_file"):
        UserFile(tmp_path / "users.sqlite").load("nattrav")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "nattrav.toml"
    config.write_text(f'[node]\nstate_directory = "{tmp_path}"\n')
    options = ["--config", str(config)]

    def run(*words: str, typed: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        return app.run([*words, *options])

    assert run("users", "add", "alice", typed="secret\n") == 0
    assert run("users", "add", "alice", typed="secret\n") == 1
    assert run("users", "passwd", "bob", typed="secret\n") == 4
    assert run("users", "list") == 0
    assert "alice" in capsys.readouterr().out
    assert run("users", "remove", "alice") == 2
    assert run("users", "remove", "alice", "--yes") == 0
    assert run("users", "remove", "alice") == 4
