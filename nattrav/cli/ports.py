"""`nattrav ports`: the relay's port pools."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Relay ports: pools, use, quarantine.")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 1000,
    state: Annotated[str, typer.Option("--state", help="Only these: used, quarantined or aside.")] = "",
) -> None:
    """List ports that are not free: in use with the call that has it, resting, or set aside because of another program.

    Examples: nattrav ports list --state used;  nattrav ports list -o csv --fields port,call_id
    """
    _busy(limit, state, "every port is free" if not state else f"no port is {state}")


@app.command()
def quarantine(limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 1000) -> None:
    """List ports that rest after a call, each with the time until it can be used again, soonest first.

    Example: nattrav ports quarantine
    """
    _busy(limit, "quarantined", "no port rests")


def _busy(limit: int, state: str, empty: str) -> None:
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit

    rows = call("relay", "ports.list", limit=limit, state=state)
    if state == "quarantined":
        rows.sort(key=lambda row: row["free_in"] or 0.0)
    resting = state == "quarantined"
    columns: list[Column | str] = [
        "address",
        "port",
        Column("state", wide=resting),
        Column("component", wide=resting),
        Column("stream", wide=True),
        Column("call_id", "call", wide=resting),
        Column("tag", wide=True),
        Column("free_in", "free in", right=True, format="{:.1f} s".format),
    ]
    emit(rows, columns, empty=empty)


@app.command()
def pools() -> None:
    """Show every pool with its use as a bar: # in use, ~ resting, . free.

    Examples: nattrav ports pools;  nattrav ports pools --json
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit
    from nattrav.cli.relay_tables import bar

    rows = [row | {"range": f"{row['low']}-{row['high']}", "bar": bar(row, 16)} for row in call("relay", "ports.pools")]
    emit(
        rows,
        [
            "interface",
            "address",
            "range",
            Column("bar", "use"),
            "used",
            Column("quarantined", "resting"),
            "free",
            Column("low", wide=True),
            Column("high", wide=True),
            Column("total", wide=True),
            Column("exhausted", wide=True),
            Column("bind_errors", "bind errors", wide=True),
        ],
        empty="the relay has no pool",
    )


@app.command()
def show(port: Annotated[int, typer.Argument(help="Port number.")]) -> None:
    """Show what a port is doing and which call holds it.

    Example: nattrav ports show 30124
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit

    columns: list[Column | str] = [
        "address",
        "port",
        "state",
        "component",
        Column("stream", wide=True),
        Column("call_id", "call"),
        "tag",
        Column("free_in", "free in", right=True, format="{:.1f} s".format),
    ]
    emit(call("relay", "ports.show", port=port), columns)


@app.command()
def free() -> None:
    """Show what each pool can give out at once; an audio call takes a pair on each side.

    Example: nattrav ports free -w 2
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import emit

    emit(call("relay", "ports.free"), ["address", "free", "pairs", "resting"], empty="the relay has no pool")


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
