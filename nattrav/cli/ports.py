"""`nattrav ports`: the relay's port pools."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Relay ports: pools, use, quarantine.")


@app.command("list")
def list_() -> None:
    """Show every pool with its use as a bar: # in use, ~ resting, . free.

    Examples: nattrav ports list;  nattrav ports list --json
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, current, emit
    from nattrav.cli.relay_tables import bar

    rows = call("relay", "ports.list")
    if current().format == "table":
        rows = [{**row, "bar": bar(row), "range": f"{row['low']}-{row['high']}"} for row in rows]
    emit(
        rows,
        [
            "interface",
            "address",
            Column("range") if current().format == "table" else Column("low"),
            *([Column("bar", "use")] if current().format == "table" else ["high"]),
            "used",
            Column("quarantined", "resting"),
            "free",
            "total",
            "exhausted",
            "bind_errors",
        ],
    )


@app.command()
def show(port: Annotated[int, typer.Argument(help="Port number.")]) -> None:
    """Show what a port is doing and which call holds it.

    Example: nattrav ports show 30124
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import emit

    emit(call("relay", "ports.show", port=port), ["address", "port", "state", "call_id", "tag", "stream", "component"])


@app.command()
def free() -> None:
    """Show what each pool can give out at once; an audio call takes a pair on each side.

    Example: nattrav ports free -w 2
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import emit

    emit(call("relay", "ports.free"), ["address", "free", "pairs", "resting"])


_LEAKS = {
    "no_session": "no call has it: nattrav restart relay",
    "not_bound": "in use, yet free for the pool",
    "foreign": "another program has it: ss -ulpn",
}


@app.command()
def leaks() -> None:
    """Show ports that no call gives back, and ports that another program holds. Exit code 1 when there are any.

    Example: nattrav ports leaks --json
    """
    from nattrav.cli import exit_codes
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit

    found = call("relay", "ports.leaks")
    what = Column("leak", "what", format=lambda leak: _LEAKS[leak])
    emit(found, ["address", "port", what, "call_id"], empty="no port leaks")
    if found:
        raise typer.Exit(exit_codes.FAILED)
