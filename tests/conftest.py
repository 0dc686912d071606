"""Runs `async def` tests under trio; `autojump_clock` gives a test a clock that jumps over sleeps."""

from __future__ import annotations

import functools
import inspect

import pytest
import trio
import trio.testing
from hypothesis import settings

# How long one example takes says something about the machine, nothing about the code.
settings.register_profile("nattrav", deadline=None)
settings.load_profile("nattrav")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(getattr(function, "hypothesis", function)) and not inspect.iscoroutinefunction(
        function
    ):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    clock = arguments.get("autojump_clock")
    with_limit = functools.partial(_limited, function, arguments)
    trio.run(with_limit, clock=clock)
    return True


async def _limited(function: object, arguments: dict[str, object]) -> None:
    with trio.fail_after(120):
        await function(**arguments)  # type: ignore[operator]


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """A clock that jumps to the next deadline whenever every task is asleep."""
    return trio.testing.MockClock(autojump_threshold=0)
