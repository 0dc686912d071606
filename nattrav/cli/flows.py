"""`nattrav flows`: the ways to peers that the proxy holds, and what hangs on each."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.confirm import DryRun, Yes, confirm
from nattrav.cli.connect import call, fail
from nattrav.cli.output import Column, emit, emit_each

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
            Column("flow"),
            "state",
            Column("kept_alive", "kept alive", right=True, format=lambda seconds: f"{seconds:.0f} s ago"),
            Column("registrations", "regs", right=True, format=lambda aors: str(len(aors))),
            Column("calls", right=True, format=lambda calls: str(len(calls))),
            Column("local", wide=True),
        ],
        empty="no flows" if not search else f"no flow of {search}",
    )


@app.command()
def show(peer: Annotated[str, typer.Argument(help="ADDRESS or ADDRESS:PORT of the peer, or a flow's name.")]) -> None:
    """Which users and calls use the flows of one peer.

    Examples: nattrav flows show 203.0.113.7;  nattrav flows show tls:203.0.113.7:31020#14
    """
    found = [
        row
        for row in call("proxy", "flows.list")
        if peer in (row["flow"], row["peer"], row["peer"].rpartition(":")[0].strip("[]"))
    ]
    if not found:
        fail(f"no flow of {peer}: 'nattrav flows list' shows those there are", exit_codes.NOT_FOUND)
    emit_each(found)


@app.command()
def forget(
    flow: Annotated[str, typer.Argument(help="A flow's name, as 'nattrav flows list' shows it.")],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Let go of a flow: its registrations go, a connection is closed. The phone may come back at once.

    Examples: nattrav flows forget udp:203.0.113.7:31020;  nattrav flows forget tls:203.0.113.7:31020#14 --yes
    """
    if not dry_run:
        told = call("proxy", "flows.forget", flow=flow, dry_run=True)
        confirm(
            f"This removes {len(told['registrations'])} registrations and closes {told['closed']} connections.", yes
        )
    emit(call("proxy", "flows.forget", flow=flow, dry_run=dry_run) | {"dry_run": dry_run})
