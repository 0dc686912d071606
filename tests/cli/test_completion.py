from __future__ import annotations

import json
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.cli.completion import SCRIPTS, SHELLS
from nattrav.cli.completion_scripts import ARGUMENTS, CHOICES, places
from nattrav.cli.values import KINDS, values

CALLS = ["a-1@192.0.2.1", "b:2", "$(reboot)", "--all", "x y", "c;id", "`id`", "d\x1b[2J"]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A control socket that knows some calls, among them hostile ones."""
    monkeypatch.setenv("NATTRAV_RUNTIME_DIR", str(tmp_path))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "proxy.sock"))
    listener.listen(8)

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                line = connection.makefile().readline()
                if not line:
                    return
                request = json.loads(line)
                rows = [{"call_id": call} for call in CALLS] if request["verb"] == "calls.list" else []
                connection.sendall(json.dumps({"id": request["id"], "ok": True, "result": rows}).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(tmp_path / "proxy.sock"))
    thread.join()
    listener.close()


def test_only_names_that_mean_nothing_to_a_shell_are_offered(daemon: Path) -> None:
    assert values("calls") == ["a-1@192.0.2.1", "b:2"]
    assert values("sessions") == []
    assert values("nonsense") == []


def test_every_place_with_names_is_a_command_or_an_option_of_one() -> None:
    known = {place.path for place in places()} | {f"{one.path} {name}" for one in places() for name in one.options}
    assert set(ARGUMENTS) <= known
    assert set(CHOICES) <= known
    assert set(ARGUMENTS.values()) <= set(KINDS)


def test_names_are_asked_for_without_importing_the_command_tree(daemon: Path) -> None:
    code = "import sys; sys.argv[1:] = ['completion', 'values', 'calls']; from nattrav.cli.entry import main; main()\n"
    code += "print([m for m in sys.modules if m in ('typer', 'trio', 'numpy', 'pydantic', 'rich')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["a-1@192.0.2.1", "b:2", "[]"]


def test_scripts_are_printed_and_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert run(["completion", shell]) == exit_codes.OK
        assert capsys.readouterr().out == (SCRIPTS / f"nattrav.{shell}").read_text()
    assert run(["completion", "tcsh"]) == exit_codes.USAGE


LINES = [
    ("nattrav conf", {"config"}),
    ("nattrav config di", {"diff"}),
    ("nattrav --json config reload --dr", {"--dry-run"}),
    ("nattrav status -o j", {"json", "jsonl"}),
    ("nattrav calls kill a", {"a-1@192.0.2.1"}),
    ("nattrav calls show b:", {"b:2"}),
    ("nattrav completion z", {"zsh"}),
    ("nattrav ports list --state u", {"used"}),
]


@pytest.fixture
def command(daemon: Path) -> Path:
    program = daemon / "bin" / "nattrav"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nattrav.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


def shell(name: str, script: str) -> list[str]:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt install {name}")
    ended = subprocess.run([found, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return [line for line in ended.stdout.splitlines() if line]


@pytest.mark.interop
def test_bash_completes_commands_options_and_calls(command: Path) -> None:
    steps = [
        f"COMP_LINE={line!r}; COMP_POINT={len(line)}; _nattrav; printf '%s ' ${{COMPREPLY[@]}}; echo ."
        for line, _ in LINES
    ]
    got = shell("bash", f"PATH={command}:$PATH; . {SCRIPTS}/nattrav.bash\n" + "\n".join(steps))
    # Behind a colon bash wants the rest only.
    expected = [{word.removeprefix("b:") for word in words} for _, words in LINES]
    assert [set(line.split()[:-1]) for line in got] == expected


@pytest.mark.interop
def test_zsh_completes_commands_options_and_calls(command: Path) -> None:
    head = f"PATH={command}:$PATH; compdef() {{ }}; compadd() {{ shift; print -r -- $* }}; _files() {{ print files }}\n"
    steps = [f"words=({' '.join(line.split())}); CURRENT=${{#words}}; _nattrav; print ." for line, _ in LINES]
    got = shell("zsh", f"{head}. {SCRIPTS}/nattrav.zsh\n" + "\n".join(steps))
    offered = [set(line.split()) for line in got if line != "."]
    assert len(offered) == len(LINES)
    for (_, words), found in zip(LINES, offered, strict=True):
        assert words <= found


@pytest.mark.interop
def test_fish_completes_commands_options_and_calls(command: Path) -> None:
    head = f"set -x PATH {command} $PATH; source {SCRIPTS}/nattrav.fish\n"
    steps = [f"complete -C {line!r} | string replace -r '\\t.*' '' | string join ' '; echo ." for line, _ in LINES]
    got = [line for line in shell("fish", head + "\n".join(steps)) if line != "."]
    assert [set(line.split()) for line in got] == [words for _, words in LINES]
