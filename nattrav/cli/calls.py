"""`nattrav calls`: calls in progress, their records, and missed ones."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from nattrav.cli.connect import call
from nattrav.cli.output import Column, emit

app = typer.Typer(help="Calls in progress, and missed ones.", invoke_without_command=True)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%d %b %H:%M:%S")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


LIVE = [
    Column("call_id", "call"),
    Column("from"),
    Column("to"),
    Column("state"),
    Column("duration", right=True, format=_seconds),
    Column("relayed", format=lambda relayed: "yes" if relayed else "no"),
    Column("upstream", format=lambda name: name or ""),
]
MISSED = [
    Column("start", "when", format=_time),
    Column("from"),
    Column("to"),
    Column("cause"),
    Column("code", right=True),
    Column("call_id", "call"),
]


@app.callback()
def default(
    context: typer.Context,
    missed: Annotated[bool, typer.Option("--missed", help="Calls nobody answered, newest last.")] = False,
) -> None:
    """Without a verb: list."""
    if missed:
        emit(call("proxy", "calls.missed"), MISSED, empty="no missed calls")
    elif context.invoked_subcommand is None:
        list_calls()


@app.command("list")
def list_calls(limit: Annotated[int, typer.Option(help="Show at most so many.")] = 1000) -> None:
    """Calls in progress.

    Example: nattrav calls list --json
    """
    emit(call("proxy", "calls.list", limit=limit), LIVE, empty="no calls")


@app.command()
def kill(
    call_id: Annotated[str, typer.Argument(help="Call-ID.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a call: both sides get a BYE, the relay session goes.

    Example: nattrav calls kill 3c26700857a8-k1n2 --yes
    """
    if not yes:
        typer.confirm(f"end the call {call_id}?", abort=True)
    emit(call("proxy", "calls.kill", call_id=call_id))


@app.command()
def ladder(
    call_id: Annotated[str, typer.Argument(help="Call-ID.")],
    full: Annotated[bool, typer.Option("--full", help="Whole messages instead of the changed lines.")] = False,
) -> None:
    """The messages of one call and what we changed in each; the same as `nattrav explain`.

    Example: nattrav calls ladder 3c26700857a8-k1n2 --full
    """
    from nattrav.cli.explain import explain

    explain(call_id, full=full)


@app.command()
def show(call_id: Annotated[str, typer.Argument(help="Call-ID.")]) -> None:
    """The record of one call.

    Example: nattrav calls show 3c26700857a8-k1n2
    """
    emit(call("proxy", "calls.show", call_id=call_id))
