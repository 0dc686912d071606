"""`nattrav sessions`: look into relay sessions, and end them."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Relay sessions: list, show, kick, stats.")


@app.command("list")
def list_(
    match: Annotated[str, typer.Option(help="Only Call-IDs that contain this.")] = "",
    one_way: Annotated[bool, typer.Option("--one-way", help="Only sessions with media in one direction.")] = False,
    no_media: Annotated[bool, typer.Option("--no-media", help="Only sessions without media.")] = False,
    limit: Annotated[int, typer.Option(help="How many at most, newest first.")] = 100,
) -> None:
    """List sessions.

    Examples: nattrav sessions list;  nattrav sessions list --one-way --json
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit
    from nattrav.cli.relay_tables import duration

    condition = "one_way" if one_way else "no_media" if no_media else None
    rows = call("relay", "sessions.list", match=match, condition=condition, limit=limit)
    emit(
        rows,
        [
            Column("call_id", "call"),
            "state",
            Column("age", format=duration, right=True),
            "streams",
            "ports",
            "packets",
            "dropped",
            "lost",
            Column("last_packet", "last", format=duration, right=True),
            "condition",
        ],
        empty="no sessions",
    )


@app.command()
def show(call_id: Annotated[str, typer.Argument(help="Call-ID of the session.")]) -> None:
    """Show one session: every leg with its addresses, how they were learned, loss, jitter and drops.

    Example: nattrav sessions show 3c26700857a8-k1n2
    """
    import sys

    from nattrav.cli.connect import call
    from nattrav.cli.output import current, emit
    from nattrav.cli.relay_tables import session_text

    view = call("relay", "sessions.show", call_id=call_id)
    if current().format == "table":
        sys.stdout.write(session_text(view))
    else:
        emit(view)


@app.command()
def kick(
    call_id: Annotated[str | None, typer.Argument(help="Call-ID of the session.")] = None,
    every: Annotated[bool, typer.Option("--all", help="End every session.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a session at once; the SIP side is told and ends the call.

    Examples: nattrav sessions kick 3c26700857a8-k1n2;  nattrav sessions kick --all --yes
    """
    import sys

    from nattrav.cli import exit_codes
    from nattrav.cli.connect import call, fail
    from nattrav.cli.output import emit

    if (call_id is None) == (not every):
        fail("name one Call-ID, or --all", exit_codes.USAGE)
    if not yes:
        if not sys.stdin.isatty():
            fail("this ends calls: add --yes", exit_codes.USAGE)
        if not typer.confirm("End every session?" if every else f"End session {call_id}?"):
            raise typer.Exit(exit_codes.FAILED)
    emit(call("relay", "sessions.kick", call_id=call_id, all=every))


@app.command()
def watch() -> None:
    """Show sessions as they end, with the reason and what was wrong with them; Ctrl-C ends it.

    Examples: nattrav sessions watch;  nattrav sessions watch -o jsonl | jq 'select(.condition)'
    """
    from datetime import datetime

    from nattrav.cli.connect import stream
    from nattrav.cli.output import clean, current, emit_item

    for event in stream("relay", "events"):
        if current().format != "table":
            emit_item(event)
            continue
        about = f"{event['reason']}, {event['duration']:.1f} s, {event['condition'] or 'both ways'}"
        print(f"{datetime.now():%H:%M:%S}  {clean(event['call_id'])}  {clean(about)}", flush=True)


@app.command()
def stats() -> None:
    """Show counters since the relay started.

    Example: nattrav sessions stats --json
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import current, emit

    statistics = call("relay", "sessions.stats")
    if current().format == "table":
        statistics.pop("pools")
    emit(statistics)
