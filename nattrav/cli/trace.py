"""`nattrav trace`: SIP messages as they come and go."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail, stream
from nattrav.cli.output import clean, current, emit_item

WIDTH = 80
_ARROWS = {"in": "<-", "out": "->", "dropped": "xx"}


def trace(
    what: Annotated[str, typer.Argument(help="Call-ID, number, user or address; everything without.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Whole messages instead of their first lines.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, max=86400, help="End after so many seconds.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
) -> None:
    """Show SIP messages as the proxy receives (<-) and sends (->) them; Ctrl-C ends it.

    With an address, or with nothing, also what was dropped (xx) and why. Digests, media keys and the text of messages
    between subscribers are hidden. Ends with exit code 4 when --for is over and nothing was seen.

    Examples: nattrav trace 203.0.113.7 --full;  nattrav trace +431234567 --for 60 -o jsonl
    """
    seen = 0
    arguments: dict[str, Any] = {"what": what} if seconds is None else {"what": what, "seconds": seconds}
    for item in stream("proxy", "trace", **arguments):
        seen += 1
        if current().format == "table":
            print("\n".join(lines(item, full=full)), flush=True)
        else:
            emit_item(item)
        if seen == count:
            return
    if not seen:
        fail(f"no message{f' of {what}' if what else ''} within {seconds:g} s", exit_codes.NOT_FOUND)


def lines(item: Mapping[str, Any], *, full: bool = False) -> list[str]:
    """Write one message: a line of at most 80 columns, and with `full` its text below."""
    at = datetime.fromtimestamp(item["at"]).strftime("%H:%M:%S.%f")[:-3]
    line = clean(f"{at} {item['transport']}:{item['peer']} {_ARROWS[item['direction']]} {item['line']}")
    found = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"]
    if item["lost"]:
        found.insert(0, f"{item['lost']} messages were lost: they came faster than they were read")
    if full:
        found += [f"    {clean(text)}" for text in item["text"].splitlines()]
    return found
