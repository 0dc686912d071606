"""`nattrav ports leaks`: what is wrong with a port, its remedy, and the exit code."""

from __future__ import annotations

import pytest

from nattrav.cli import connect
from nattrav.cli.app import run


def test_a_leak_is_explained_and_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"address": "203.0.113.5", "port": 30124, "leak": "no_session", "call_id": None}]
    monkeypatch.setattr(connect, "call", lambda role, verb, **args: rows)
    assert run(["ports", "leaks"]) == 1
    out = capsys.readouterr().out
    assert "nattrav restart relay" in out
    assert max(map(len, out.splitlines())) <= 80
    assert run(["ports", "leaks", "-o", "csv"]) == 1
    assert capsys.readouterr().out.splitlines()[1] == "203.0.113.5,30124,no_session,"
