"""`--watch SECONDS` repeats what only shows, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.cli.output import Output, take
from nattrav.cli.watch import repeat, shows_only


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answering(*codes: int) -> Callable[[], int]:
    left = iter(codes)
    return lambda: next(left)


def interrupted_after(rounds: int, slept: list[float]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == rounds:
            raise KeyboardInterrupt

    return sleep


def test_a_listing_is_repeated_until_the_operator_ends_it_also_while_the_daemon_is_away() -> None:
    slept: list[float] = []
    codes = answering(exit_codes.OK, exit_codes.UNREACHABLE, exit_codes.OK)
    with pytest.raises(KeyboardInterrupt):
        repeat(codes, ["sessions", "list"], Output(watch=2.0), sleep=interrupted_after(3, slept))
    assert slept == [2.0, 2.0, 2.0]


def test_a_terminal_is_cleared_between_tables_and_nothing_else_is() -> None:
    for form, tty, cleared in (("table", True, 2), ("json", True, 0), ("table", False, 0)):
        stream = Terminal() if tty else io.StringIO()
        with pytest.raises(KeyboardInterrupt):
            repeat(answering(0, 0), ["status"], Output(form, watch=1.0, stream=stream), sleep=interrupted_after(2, []))
        assert stream.getvalue().count("\x1b[2J") == cleared


def test_wrong_usage_ends_it_at_once() -> None:
    assert repeat(answering(exit_codes.USAGE), ["calls", "list"], Output(watch=1.0)) == exit_codes.USAGE


@pytest.mark.parametrize(
    ("line", "shows"),
    [
        ("status", True),
        ("calls", True),
        ("calls list --missed", True),
        ("ports show 30000", True),
        ("sessions kill --all --yes", False),
        ("sessions watch", False),
        ("drain", False),
        ("users add list", False),
        ("", False),
    ],
)
def test_only_what_shows_may_be_repeated(line: str, shows: bool) -> None:
    assert shows_only(line.split()) is shows


def test_what_changes_something_is_refused_before_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drain", "-w", "2"]) == exit_codes.USAGE
    assert "commands that only show" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "86401"])
def test_seconds_that_make_no_sense_are_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([f"--watch={seconds}", "status"]) == exit_codes.USAGE
    assert "give seconds" in capsys.readouterr().err


def test_it_may_stand_anywhere_on_the_line() -> None:
    for line in (["-w", "2", "calls", "list"], ["calls", "list", "--watch=2"], ["calls", "-w", "2", "list"]):
        rest, output = take(line)
        assert (rest, output.watch) == (["calls", "list"], 2.0)
