"""`nattrav calls`: calls in progress, their records, and missed ones."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.confirm import DryRun, Yes, YesReally, confirm
from nattrav.cli.connect import call, fail
from nattrav.cli.output import Column, emit

app = typer.Typer(help="Calls in progress, and missed ones.", invoke_without_command=True)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%d %b %H:%M:%S")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def _party(uri: str) -> str:
    return uri.removeprefix("sip:")


LIVE = [
    Column("call_id", "call"),
    Column("from", format=_party),
    Column("to", format=_party),
    Column("state"),
    Column("duration", "time", right=True, format=_seconds),
    Column("relayed", wide=True),
    Column("upstream"),
    Column("age", right=True, format=_seconds, wide=True),
    Column("caller", wide=True),
    Column("callee", wide=True),
]
MISSED = [
    Column("start", "when", format=_time),
    Column("from", format=_party),
    Column("to", format=_party),
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
def list_calls(
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 1000,
    filter: Annotated[str | None, typer.Option("--filter", help="Condition, as in 'age>3600 and relayed=no'.")] = None,
) -> None:
    """Calls in progress.

    Examples: nattrav calls list --json;  nattrav calls list --filter 'upstream=gateway and duration>2h'
    """
    rows = call("proxy", "calls.list", limit=limit, filter=filter)
    emit(rows, LIVE, empty="no calls" if filter is None else "no call meets the condition")


@app.command()
def kill(
    call_id: Annotated[str | None, typer.Argument(help="Call-ID.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every call; wants --yes-really.")] = False,
    yes: Yes = False,
    yes_really: YesReally = False,
    dry_run: DryRun = False,
) -> None:
    """End a call: both sides get a BYE, the relay session goes.

    Examples: nattrav calls kill 3c26700857a8-k1n2 --yes;  nattrav calls kill --all --yes-really
    """
    if (call_id is None) == (not every):
        fail("name one Call-ID, or --all", exit_codes.USAGE)
    if every:
        number = call("proxy", "calls.kill", all=True, dry_run=True)["killed"]
        if not dry_run:
            confirm(f"This ends {number} call{'s' if number != 1 else ''}.", yes_really, option="--yes-really")
    else:
        call("proxy", "calls.kill", call_id=call_id, dry_run=True)
        if not dry_run:
            confirm(f"This ends the call {call_id}.", yes)
    emit(call("proxy", "calls.kill", call_id=call_id, all=every, dry_run=dry_run) | {"dry_run": dry_run})


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
def show(call_id: Annotated[str, typer.Argument(help="Call-ID, or how it begins.")]) -> None:
    """The record of one call.

    Example: nattrav calls show 3c26700857a8-k1n2
    """
    emit(call("proxy", "calls.show", call_id=call_id))
