"""`nattrav upstreams`: gateways and cores, which of them are up, and taking one out of use."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nattrav.cli.connect import call
from nattrav.cli.output import Column, emit

app = typer.Typer(help="Gateways and cores behind this edge.")

Name = Annotated[str, typer.Argument(help="Name of the [[upstream]].")]


@app.command("list")
def list_upstreams() -> None:
    """Gateways and cores, and which of them are up.

    Example: nattrav upstreams list
    """
    columns: list[Column | str] = [
        "name",
        "target",
        Column("state", "state"),
        Column("prefixes", format=lambda prefixes: " ".join(p or "*" for p in prefixes)),
        Column("round_trip", "round trip", right=True, format=lambda s: "" if s is None else f"{s * 1000:.1f} ms"),
    ]
    rows = [one | {"state": _state(one)} for one in call("proxy", "upstreams.list")]
    emit(rows, columns, empty="no upstreams are configured")


@app.command()
def disable(name: Name) -> None:
    """Send no new calls to an upstream; calls in progress go on. Holds until `enable` or a restart of the proxy.

    Example: nattrav upstreams disable gateway
    """
    emit(call("proxy", "upstreams.disable", name=name))


@app.command()
def enable(name: Name) -> None:
    """Send calls to an upstream again.

    Example: nattrav upstreams enable gateway
    """
    emit(call("proxy", "upstreams.enable", name=name))


def _state(one: dict[str, Any]) -> str:
    if one["disabled"]:
        return "disabled"
    if not one["up"]:
        return "down"
    return "up" if one["usable"] else "failed lately"
