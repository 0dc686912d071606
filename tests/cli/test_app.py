from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import GROUPS, build, run
from nattrav.cli.connect import call


def test_groups_are_listed_once() -> None:
    names = [group.name for group in GROUPS]
    assert len(names) == len(set(names))


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == exit_codes.OK
    assert capsys.readouterr().out == "nattrav 0.1.0\n"


def test_a_wrong_command_or_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == exit_codes.USAGE
    assert run(["-o", "xml", "status"]) == exit_codes.USAGE
    assert "choose one of" in capsys.readouterr().err


def test_a_command_without_a_daemon_tells_the_places_it_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATTRAV_RUNTIME_DIR", str(tmp_path / "a"))
    with pytest.raises(SystemExit) as ended:
        call("relay", "sessions.list")
    assert ended.value.code == exit_codes.UNREACHABLE
    told = capsys.readouterr().err
    assert f"{tmp_path}/a/relay.sock (NATTRAV_RUNTIME_DIR)" in told
    assert "nattrav run" in told


def test_start_up_imports_neither_trio_nor_numpy_nor_pydantic() -> None:
    code = "import sys, nattrav.cli.app as a; a.run(['--help']); print([m for m in sys.modules if m in "
    code += "('trio', 'numpy', 'pydantic', 'structlog', 'starlette')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["config", "schema"], ["config", "init"], ["--help"]])
def test_a_reader_that_goes_away_is_no_failure_and_no_noise(words: list[str]) -> None:
    code = f"from nattrav.cli.entry import main; import sys, time; sys.argv[1:] = {words!r}; time.sleep(0.1); main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (exit_codes.OK, b"")


def test_ctrl_c_below_a_nursery_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise BaseExceptionGroup("nursery", [KeyboardInterrupt()])

    monkeypatch.setattr("trio.run", ask)
    assert run(["sip", "ping", "192.0.2.1"]) == exit_codes.INTERRUPTED


def test_every_command_has_an_example() -> None:
    import typer.main

    def commands(group: Any, path: str) -> Iterator[tuple[str, str]]:
        for name, command in group.commands.items():
            if command.hidden:
                continue
            if getattr(command, "commands", None):
                yield from commands(command, f"{path} {name}")
            else:
                yield f"{path} {name}", command.help or ""

    tree = typer.main.get_command(build(None))
    assert [
        path
        for path, help in commands(tree, "nattrav")
        if path not in help and f"nattrav {path.split()[-1]}" not in help
    ] == []
