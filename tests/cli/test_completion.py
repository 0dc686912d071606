from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.cli.completion import candidates


def test_commands_subcommands_and_options_are_completed() -> None:
    assert "config" in candidates([""])
    assert candidates(["con"]) == ["config", "control"]
    assert "reload" in candidates(["config", ""])
    assert "--dry-run" in candidates(["config", "reload", "--d"])
    assert candidates(["status", "-o", "j"]) == ["json", "jsonl"]
    assert candidates(["nonsense", "x"]) == []


def test_an_unknown_shell_is_a_usage_error() -> None:
    assert run(["completion", "tcsh"]) == exit_codes.USAGE


@pytest.mark.interop
def test_bash_completes_with_the_printed_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash: apt install bash")
    assert run(["completion", "bash"]) == exit_codes.OK
    script = tmp_path / "nattrav.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "nattrav").write_text(f'#!/bin/sh\nexec {sys.executable} -m nattrav.cli "$@"\n')
    (tmp_path / "nattrav").chmod(0o755)
    line = f"PATH={tmp_path}:$PATH; . {script}; COMP_WORDS=(nattrav config di); COMP_CWORD=2; _nattrav; echo $COMPREPLY"
    ended = subprocess.run([bash, "-c", line], capture_output=True, text=True, check=True)
    assert ended.stdout == "diff\n"
