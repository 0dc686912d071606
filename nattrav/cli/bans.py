"""`nattrav bans`: sources that are not heard."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli.connect import call, fail
from nattrav.cli.output import Column, emit

app = typer.Typer(help="Sources that the proxy does not hear: scanners, guessers, and those an operator banned.")

Source = Annotated[str, typer.Argument(help="IP address.")]


@app.command("list")
def list_bans() -> None:
    """Every ban in force, its reason and how long it lasts.

    Example: nattrav bans list -o csv
    """
    columns: list[Column | str] = ["source", "reason", Column("seconds", "ends in", right=True, format="{} s".format)]
    emit(call("proxy", "bans.list"), columns, empty="nobody is banned")


@app.command()
def add(
    source: Source,
    time: Annotated[str, typer.Option("--time", help="How long, such as 30m or 2h; default [sip.limits] ban.")] = "",
) -> None:
    """Do not hear an address for a while.

    Example: nattrav bans add 192.0.2.66 --time 2h
    """
    from nattrav.config.types import duration

    try:
        seconds = duration(time) if time else None
    except ValueError as error:
        fail(f"--time {time}: {error}", 2)
    emit(call("proxy", "bans.add", source=source, seconds=seconds))


@app.command()
def remove(source: Source) -> None:
    """Hear a banned address again.

    Example: nattrav bans remove 192.0.2.66
    """
    emit(call("proxy", "bans.remove", source=source))


app.command("del", hidden=True)(remove)
