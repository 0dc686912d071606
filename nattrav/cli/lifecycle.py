"""`nattrav drain|undrain|restart`: taking a node or a service out of use without cutting calls."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.confirm import DryRun
from nattrav.cli.connect import call, fail
from nattrav.cli.output import current, emit

POLL = 2.0


def drain(
    until_empty: Annotated[
        bool, typer.Option("--until-empty", "--wait", help="Return when the last call has ended.")
    ] = False,
    dry_run: DryRun = False,
    longest: Annotated[
        str, typer.Option("--max", "--timeout", help="With --wait: give up after this time, as 30m or 3600.")
    ] = "2h",
) -> None:
    """Take no new calls: INVITE and OPTIONS get 503, /readyz turns red, calls in progress go on.

    Examples: nattrav drain;  nattrav drain --wait --timeout 30m && systemctl restart nattrav
    """
    from nattrav.config.types import duration

    try:
        limit = duration(float(longest) if longest.isdigit() else longest)
    except ValueError as error:
        fail(f"--max {longest}: {error}", exit_codes.USAGE)
    if dry_run:
        emit(call("supervisor", "drain.state") | {"dry_run": True})
        return
    state: dict[str, Any] = call("supervisor", "drain")
    for role in state.pop("not_told"):
        print(f"nattrav: the {role} was not told: it cannot drain, or does not answer", file=sys.stderr)
    deadline = time.monotonic() + limit
    while until_empty and (state["calls"] or state["sessions"]):
        if time.monotonic() >= deadline:
            fail(f"still {state['calls']} calls and {state['sessions']} sessions after {longest}", exit_codes.TIMEOUT)
        if current().human and sys.stderr.isatty():
            print(f"\r{state['calls']} calls, {state['sessions']} sessions to go ", end="", file=sys.stderr)
        time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))
        state = call("supervisor", "drain.state")
    emit(state)


def undrain() -> None:
    """Take new calls again.

    Example: nattrav undrain
    """
    state = call("supervisor", "undrain")
    state.pop("not_told")
    emit(state)


def restart(role: Annotated[str, typer.Argument(help="relay, stun or proxy")]) -> None:
    """Restart one service: the relay keeps its sessions, the proxy its bindings and dialogs.

    Example: nattrav restart proxy
    """
    emit(call("supervisor", "service.restart", answer_within=30, role=role))
