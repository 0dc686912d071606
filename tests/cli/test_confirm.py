"""Who is asked before something ends, and what counts as consent."""

from __future__ import annotations

import io

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.confirm import confirm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y\n", "yes\n", " Y \n"])
def test_a_yes_on_a_terminal_goes_on(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    confirm("This ends 3 calls.", False)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "This ends 3 calls. [y/N] ")


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
def test_anything_else_does_nothing(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pytest.raises(SystemExit) as ended:
        confirm("This ends 3 calls.", False)
    assert ended.value.code == exit_codes.FAILED


def test_without_a_terminal_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(SystemExit) as ended:
        confirm("This ends 3 calls.", False, option="--yes-really")
    assert ended.value.code == exit_codes.USAGE
    assert "Add --yes-really" in capsys.readouterr().err
    confirm("This ends 3 calls.", True)
