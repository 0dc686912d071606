"""`make demo` shows all twelve steps and ends well; `python -m tests.natlab clean` removes only what nobody uses."""

from __future__ import annotations

import pytest

from tests.natlab import demo
from tests.natlab.__main__ import abandoned, main
from tests.natlab.laboratory import Laboratory
from tests.natlab.namespaces import PREFIX, create, leftovers

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]


def test_the_demonstration_prints_twelve_steps_and_the_verdict(
    laboratory: Laboratory, user_agents: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status = demo.main(["--seconds", "2.5"])
    printed, faults = capsys.readouterr()
    assert status == 0, faults
    numbers = [line.split(".")[0].strip() for line in printed.splitlines() if line[:3].strip(" .").isdigit()]
    assert numbers == [str(number) for number in range(1, 13)]
    assert printed.rstrip().endswith("verdict: both")


def test_only_what_a_dead_run_left_behind_is_removed(
    laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = f"{PREFIX}999999999x0-internet"
    create(dead, laboratory.directory)
    assert abandoned([dead, laboratory.internet.name]) == [dead]
    assert main(["clean"]) == 0
    assert dead not in leftovers()
    assert laboratory.internet.name in leftovers()
    assert "removed" in capsys.readouterr().out
