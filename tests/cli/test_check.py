from __future__ import annotations

import json
from pathlib import Path

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run


def test_a_good_file_is_called_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n.toml"
    file.write_text('[log]\nlevel = "info"\n')
    assert run(["check", str(file)]) == exit_codes.OK
    assert capsys.readouterr().out == f"{file} is good\n"


def test_every_error_of_a_bad_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n.toml"
    file.write_text('[log]\nlevel = "loud"\nlvl = 1\n')
    assert run(["check", "--config", str(file)]) == exit_codes.FAILED
    assert "2 errors" in capsys.readouterr().out
    assert run(["check", "--config", str(file), "--json"]) == exit_codes.FAILED
    items = json.loads(capsys.readouterr().out)["items"]
    assert {item["key"] for item in items} == {"log.level", "log.lvl"}
    assert all(item["reason"] and item["remedy"] and item["source"] == str(file) for item in items)


def test_files_beside_the_main_one_lie_over_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n.toml"
    file.write_text("")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-log.toml").write_text('[log]\nlevel = "loud"\n')
    assert run(["check", str(file)]) == exit_codes.FAILED
    assert "10-log.toml: log.level" in capsys.readouterr().out


def test_a_file_that_is_missing_or_not_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path / "none.toml")]) == exit_codes.FAILED
    assert "No such file" in capsys.readouterr().out
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    assert run(["check", str(tmp_path / "binary.toml")]) == exit_codes.FAILED
    assert "UTF-8" in capsys.readouterr().out
