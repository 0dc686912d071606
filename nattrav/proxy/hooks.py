"""What an operator's Python file may decide: register, request, response, end of a call.

A hook gets plain values and returns None (go on), `Refuse` or `Route`. It has a time budget; one that fails, takes too
long or returns something else is treated as if it had returned None, and after too many faults it is not called again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

NAMES = ("on_register", "on_request", "on_response", "on_call_end")
FAULTS_ALLOWED = 10


@dataclass(frozen=True)
class Refuse:
    """End the request with this response."""

    status: int = 403
    reason: str | None = None


@dataclass(frozen=True)
class Route:
    """Send the request to these upstreams, in this order; `number` replaces the called user part."""

    upstreams: tuple[str, ...] | list[str] = ()
    number: str | None = None


@dataclass(frozen=True)
class RegisterView:
    """A REGISTER that is authorised. `expires` as asked, None when not said."""

    user: str
    domain: str
    source: str
    contacts: tuple[str, ...]
    expires: int | None
    user_agent: str
    nat_tests: tuple[str, ...]


@dataclass(frozen=True)
class RequestView:
    """A request outside a dialog, authorised. `account` is the authenticated user, `hour` local time as float."""

    method: str
    number: str
    uri: str
    caller: str
    source: str
    account: str | None
    upstream: str | None
    user_agent: str
    hour: float
    weekday: int
    header: Callable[[str], str | None]


@dataclass(frozen=True)
class ResponseView:
    """A final response on its way back."""

    method: str
    status: int
    reason: str
    call_id: str
    upstream: str | None


Decision = Refuse | Route | None


class Budget(Protocol):
    """Runs a function within its time; raises TimeoutError when it takes longer."""

    def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call it."""


class NoBudget:
    """For tests: no limit."""

    def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call it."""
        return function(argument)


class Hooks:
    """The functions of one file. `complain(name, problem)` is told every fault."""

    def __init__(
        self,
        functions: Mapping[str, Callable[[Any], Any]],
        budget: Budget,
        complain: Callable[[str, str], None],
    ) -> None:
        self._functions = {name: functions[name] for name in NAMES if name in functions}
        self._budget = budget
        self._complain = complain
        self.faults = dict.fromkeys(self._functions, 0)

    def has(self, name: str) -> bool:
        """The file defines this hook, and it has not been switched off."""
        return name in self._functions

    def call(self, name: str, argument: object) -> Decision:
        """Ask a hook. Whatever goes wrong in it is a complaint and no decision."""
        function = self._functions.get(name)
        if function is None:
            return None
        try:
            decision = self._budget.run(function, argument)
        except TimeoutError:
            self._fault(name, "took too long")
            return None
        except Exception as error:
            self._fault(name, f"{type(error).__name__}: {error}")
            return None
        if decision is None or isinstance(decision, Refuse | Route):
            return decision
        self._fault(name, f"returned {type(decision).__name__} instead of Refuse, Route or None")
        return None

    def _fault(self, name: str, problem: str) -> None:
        self.faults[name] += 1
        if self.faults[name] >= FAULTS_ALLOWED:
            del self._functions[name]
            problem += "; switched off"
        self._complain(name, problem)


NO_HOOKS = Hooks({}, NoBudget(), lambda name, problem: None)
