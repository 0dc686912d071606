"""`nattrav nat`: what the STUN service knows of the NATs that clients are behind."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli.confirm import DryRun, Yes, confirm
from nattrav.cli.connect import call
from nattrav.cli.output import Column, current, emit

app = typer.Typer(help="What is known of the NATs that clients are behind", no_args_is_help=True)

_COLUMNS = (
    Column("address"),
    Column("classic_name", "looks like"),
    Column("needs_relay", "relay"),
    Column("keepalive_seconds", "keepalive"),
    Column("last_seen_seconds_ago", "seen ago"),
    Column("mapping", wide=True),
    Column("filtering", wide=True),
    Column("carrier_grade", "cgn", wide=True),
    Column("requests", wide=True),
)


@app.command("list")
def list_records(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the most recently seen first.")] = 100,
) -> None:
    """List client addresses with what is known of their NAT.

    Example: nattrav nat list --limit 20
    """
    emit(call("stun", "nat.list", limit=limit), _COLUMNS, empty="no client address was seen twice so far")


@app.command()
def show(address: Annotated[str, typer.Argument(help="The client's address as the server sees it.")]) -> None:
    """Show one record: every field with its basis and how sure it is.

    Example: nattrav nat show 198.51.100.7
    """
    record = call("stun", "nat.show", address=address)
    if not current().human:
        emit(record)
        return
    fields = record.pop("fields")
    emit(record)
    if fields:
        print()
        emit([{"field": name, **known} for name, known in fields.items()])


@app.command()
def forget(
    address: Annotated[str, typer.Argument(help="The client's address as the server sees it.")],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Erase what is known of one address.

    Example: nattrav nat forget 198.51.100.7
    """
    call("stun", "nat.show", address=address)
    if not dry_run:
        confirm(f"This erases what is known of {address}.", yes)
        call("stun", "nat.forget", address=address)
    emit({"forgotten": address, "dry_run": dry_run})
