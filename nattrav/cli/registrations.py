"""`nattrav registrations`: which phones are registered, from where, and behind which NAT."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from nattrav.cli.confirm import DryRun, Yes, confirm
from nattrav.cli.connect import call, call_if_running, stream
from nattrav.cli.output import Column, ItemWriter, clean, current, emit, emit_each

app = typer.Typer(help="Bindings of phones, with the NAT each is behind.", invoke_without_command=True)

WIDTH = 80
COLUMNS = [
    Column("aor", "user"),
    Column("source"),
    Column("transport", "by"),
    Column("nat", "NAT"),
    Column("nat_class", "by STUN"),
    Column("expires", "expires", right=True, format=lambda seconds: f"{seconds:.0f} s"),
    Column("contact", wide=True),
    Column("tests", format=" ".join, wide=True),
    Column("quirk", wide=True),
    Column("user_agent", "user agent", wide=True),
]


@app.callback()
def default(context: typer.Context) -> None:
    """Without a verb: list."""
    if context.invoked_subcommand is None:
        list_registrations()


@app.command("list")
def list_registrations(
    search: Annotated[str, typer.Argument(help="Part of a user or of a source address.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 1000,
    filter: Annotated[str | None, typer.Option("--filter", help="Condition, as in 'nat=yes and expires<60'.")] = None,
) -> None:
    """Registered phones.

    Examples: nattrav registrations list -o csv --fields aor,source,nat;  nattrav registrations list 203.0.113.
    """
    found = call("proxy", "registrations.list", search=search, limit=limit, filter=filter)
    hosts = sorted({binding["source"].rpartition(":")[0].strip("[]") for binding in found})
    known = (call_if_running("stun", "nat.lookup", addresses=hosts) or {}) if hosts else {}
    for binding in found:
        record = known.get(binding["source"].rpartition(":")[0].strip("[]"))
        binding["nat_class"] = None if record is None else record["classic_name"]
    emit(found, COLUMNS, empty="no registration is like that" if search or filter else "nobody is registered")


@app.command()
def show(aor: Annotated[str, typer.Argument(help="User, or user@domain.")]) -> None:
    """Everything known of one user's registrations.

    Example: nattrav registrations show alice@voice.example.com
    """
    emit_each(call("proxy", "registrations.show", aor=aor))


@app.command()
def watch(
    search: Annotated[str, typer.Argument(help="Part of a user or of a source address.")] = "",
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, max=86400, help="End after so many seconds.")
    ] = None,
) -> None:
    """Show registrations as they are added, refreshed, removed, refused or expire; Ctrl-C ends it.

    Examples: nattrav registrations watch alice;  nattrav registrations watch -o jsonl | jq 'select(.event=="expired")'
    """
    arguments = {"search": search} if seconds is None else {"search": search, "seconds": seconds}
    writer = ItemWriter()
    for event in stream("proxy", "registrations.watch", **arguments):
        if not current().human:
            writer.write(event)
            continue
        if event["lost"]:
            print(f"{event['lost']} events were lost: they came faster than they were read")
        line = f"{datetime.fromtimestamp(event['at']):%H:%M:%S} {event['event']:<9} {event['aor']} "
        line = clean(f"{line}{event['transport']}:{event['source']} {event['user_agent']}".rstrip())
        print(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…", flush=True)


@app.command()
def remove(
    aor: Annotated[str, typer.Argument(help="User, or user@domain.")],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Forget a user's registrations; the phone may register again.

    Example: nattrav registrations remove alice
    """
    number = call("proxy", "registrations.remove", aor=aor, dry_run=True)["removed"]
    if not dry_run:
        confirm(f"This removes {number} registrations of {aor}.", yes)
    emit(call("proxy", "registrations.remove", aor=aor, dry_run=dry_run) | {"dry_run": dry_run})
