"""`nattrav bench`: a bundle of its own is started, loaded for a moment, and gone afterwards."""

from __future__ import annotations

import json
import subprocess

import pytest

from nattrav.cli.app import run


def children() -> list[str]:
    return [
        line
        for line in subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if "nattrav-bench-" in line
    ]


@pytest.mark.parametrize("words", [["stun", "--sockets", "2"], ["relay", "--sessions", "2"], ["sip", "--at-once", "2"]])
def test_each_measures_something_and_leaves_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = set(children())
    assert run(["bench", *words, "--seconds", "0.3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    assert told["completed"] > 0
    assert told["completed"] <= told["sent"]
    assert told["per_second"] > 0
    assert told["cpu_us"] >= 0
    assert set(children()) <= before


def test_a_server_that_does_not_answer_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "stun", "--server", "127.0.0.1:9", "--seconds", "0.2", "--sockets", "1"]) == 1
    assert "no answers came back" in capsys.readouterr().err
