from __future__ import annotations

import os
from pathlib import Path

import pytest

from nattrav.config.schema import Configuration
from nattrav.daemon.directories import client_directories, runtime_directory, state_directory
from nattrav.daemon.runtime import StartRefused
from nattrav.daemon.service import Place, make_directory


def test_an_option_beats_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"NATTRAV_RUNTIME_DIR": "/a", "RUNTIME_DIRECTORY": "/b:/c"}
    assert runtime_directory(Path("/x"), environ) == Path("/x")
    assert runtime_directory(None, environ) == Path("/a")
    assert runtime_directory(None, {"RUNTIME_DIRECTORY": "/b:/c"}) == Path("/b")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime_directory(None, {}) == Path("/run/nattrav")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runtime_directory(None, {"XDG_RUNTIME_DIR": "/run/user/1000"}) == Path("/run/user/1000/nattrav")


def test_a_command_of_a_user_also_looks_for_the_systems_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    places = [place for place, _ in client_directories(None, {"XDG_RUNTIME_DIR": "/run/user/1000"})]
    assert places[0] == Path("/run/user/1000/nattrav")
    assert places[-1] == Path("/run/nattrav")
    assert [place for place, _ in client_directories(Path("/x"), {})] == [Path("/x")]


def test_state_goes_where_the_file_the_environment_or_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_directory("/s", {"STATE_DIRECTORY": "/b"}) == Path("/s")
    assert state_directory("", {"STATE_DIRECTORY": "/b"}, beside=Path("/r")) == Path("/b")
    assert state_directory("", {}, beside=Path("/r")) == Path("/r")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_directory("", {"HOME": "/home/x"}) == Path("/home/x/.local/state/nattrav")


def test_both_directories_are_made_for_owner_and_group_only(tmp_path: Path) -> None:
    place = Place.choose(Configuration(), tmp_path / "run")
    assert place.runtime_directory.stat().st_mode & 0o777 == 0o750
    assert place.state_directory == tmp_path / "run" / "state"


def test_a_directory_that_cannot_be_made_is_refused_with_the_option_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="choose another with --runtime-dir"):
        make_directory(tmp_path / "file" / "run", "--runtime-dir")
