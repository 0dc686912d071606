"""`nattrav transactions`: requests that are being worked on."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli.connect import call
from nattrav.cli.output import emit

app = typer.Typer(help="SIP transactions: requests that are being worked on (RFC 3261 section 17).")


@app.callback()
def group() -> None:
    """Verbs below."""


@app.command("list")
def list_transactions(limit: Annotated[int, typer.Option(help="Show at most so many.")] = 1000) -> None:
    """Every transaction with its state and its peer.

    Example: nattrav transactions list -o csv
    """
    emit(call("proxy", "transactions.list", limit=limit), ["side", "method", "state", "peer"], empty="none")
