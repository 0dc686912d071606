"""`nattrav sessions`: look into relay sessions, and end them."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli.confirm import DryRun, Yes, YesReally, confirm

app = typer.Typer(help="Relay sessions: list, show, kill, watch, stats.")


@app.command("list")
def list_(
    match: Annotated[str, typer.Option(help="Only Call-IDs that contain this.")] = "",
    filter: Annotated[str | None, typer.Option("--filter", help="Condition, as in 'mos<3.5 and age>60'.")] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Only sessions with media in one direction.")] = False,
    no_media: Annotated[bool, typer.Option("--no-media", help="Only sessions without media.")] = False,
    pool: Annotated[str | None, typer.Option("--pool", help="Only on this interface or address of the relay.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 100,
) -> None:
    """List sessions.

    A condition compares fields of the JSON output (= != < <= > >=, ~ contains) with numbers (3.5, 2%, 20ms, 5m, 2h),
    words or 'text'; "and", "or", "not" and parentheses join them; "none" is a field without value.

    Examples: nattrav sessions list --one-way --json;  nattrav sessions list --filter 'mos<3.5 and age>60'
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import Column, emit
    from nattrav.cli.relay_tables import duration

    condition = "one_way" if one_way else "no_media" if no_media else None
    rows = call("relay", "sessions.list", match=match, condition=condition, limit=limit, pool=pool, filter=filter)
    narrowed = bool(match or condition or pool or filter)
    emit(
        rows,
        [
            Column("call_id", "call"),
            "state",
            Column("age", format=duration, right=True),
            "packets",
            "lost",
            Column("mos", "MOS", right=True),
            Column("last_packet", "last", format=duration, right=True),
            "condition",
            Column("dropped", wide=True),
            Column("streams", wide=True),
            Column("ports", wide=True),
            Column("loss", wide=True, right=True, format="{:.2%}".format),
            Column("jitter_ms", "jitter ms", wide=True, right=True),
            Column("interfaces", wide=True),
            Column("addresses", wide=True),
            Column("tags", wide=True),
        ],
        empty="no session is like that; 'nattrav sessions list' shows all" if narrowed else "no sessions",
    )


@app.command()
def show(call_id: Annotated[str, typer.Argument(help="Call-ID of the session, or how it begins.")]) -> None:
    """Show one session: every leg with its addresses, how they were learned, loss, jitter and drops.

    Example: nattrav sessions show 3c26700857a8-k1n2
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import current, emit, say
    from nattrav.cli.relay_tables import session_text

    view = call("relay", "sessions.show", call_id=call_id)
    if current().human:
        say(session_text(view))
    else:
        emit(view)


@app.command()
def kill(
    call_id: Annotated[str | None, typer.Argument(help="Call-ID of the session.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every session; wants --yes-really.")] = False,
    yes: Yes = False,
    yes_really: YesReally = False,
    dry_run: DryRun = False,
) -> None:
    """End a session at once; the SIP side is told and ends the call.

    Examples: nattrav sessions kill 3c26700857a8-k1n2;  nattrav sessions kill --all --yes-really
    """
    from nattrav.cli import exit_codes
    from nattrav.cli.connect import call, fail
    from nattrav.cli.output import emit

    if (call_id is None) == (not every):
        fail("name one Call-ID, or --all", exit_codes.USAGE)
    number = call("relay", "sessions.stats")["sessions"] if every else 1
    if not every:
        call("relay", "sessions.show", call_id=call_id)
    if dry_run:
        emit({"ended": number, "dry_run": True})
        return
    if every:
        confirm(f"This ends {number} session{'s' if number != 1 else ''}.", yes_really, option="--yes-really")
    else:
        confirm(f"This ends the session {call_id}.", yes)
    emit(call("relay", "sessions.kick", call_id=call_id, all=every) | {"dry_run": False})


app.command("kick", hidden=True)(kill)


@app.command()
def watch() -> None:
    """Show sessions as they end, with the reason and what was wrong with them; Ctrl-C ends it.

    Examples: nattrav sessions watch;  nattrav sessions watch -o jsonl | jq 'select(.condition)'
    """
    from datetime import datetime

    from nattrav.cli.connect import stream
    from nattrav.cli.output import ItemWriter, clean, current

    writer = ItemWriter()
    for event in stream("relay", "events"):
        if not current().human:
            writer.write(event)
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
    from nattrav.cli.relay_tables import readable

    statistics = call("relay", "sessions.stats")
    if current().human:
        statistics = readable(statistics)
    emit(statistics)
