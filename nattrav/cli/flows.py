"""`nattrav flows`: the ways to peers that the proxy holds, and what hangs on each."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import Column, emit

app = typer.Typer(help="SIP flows (RFC 5626): connections and UDP associations, with what hangs on them.")


@app.callback()
def group() -> None:
    """Verbs below."""


@app.command("list")
def list_flows(
    search: Annotated[str, typer.Argument(help="Part of the peer's address.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 1000,
) -> None:
    """Every flow with how many registrations and calls use it; a connection that is gone cannot be called back.

    Examples: nattrav flows list;  nattrav flows list 203.0.113. -o jsonl
    """
    emit(
        call("proxy", "flows.list", search=search, limit=limit),
        [
            "transport",
            "peer",
            "state",
            Column("kept_alive", "kept alive", right=True, format=lambda seconds: f"{seconds:.0f} s ago"),
            Column("registrations", "regs", right=True, format=lambda aors: str(len(aors))),
            Column("calls", right=True, format=lambda calls: str(len(calls))),
        ],
        empty="no flows",
    )


@app.command()
def show(peer: Annotated[str, typer.Argument(help="The peer's ADDRESS or ADDRESS:PORT.")]) -> None:
    """Which users and calls use the flows of one peer.

    Example: nattrav flows show 203.0.113.7
    """
    rows = call("proxy", "flows.list", search=peer)
    found = [row for row in rows if peer in (row["peer"], row["peer"].rpartition(":")[0].strip("[]"))]
    if not found:
        fail(f"no flow of {peer}", exit_codes.NOT_FOUND)
    for row in found:
        emit(row)
