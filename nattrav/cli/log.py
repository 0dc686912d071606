"""`nattrav log level`: how much the running services write into their logs."""

from __future__ import annotations

from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import emit

app = typer.Typer(help="Show or change log levels of the running services.")

LEVELS = ("debug", "info", "warning", "error")


@app.callback()
def group() -> None:
    """Verbs below."""


@app.command()
def level(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE] [LEVEL]", help="supervisor, relay, stun or proxy; debug, info, warning, error"
        ),
    ] = None,
    service: Annotated[str | None, typer.Option("--service", help="The service, as an option.")] = None,
) -> None:
    """Show log levels, or change them until the services are started again.

    Examples: nattrav log level;  nattrav log level debug;  nattrav log level proxy debug
    """
    given = list(words or [])
    wanted = given.pop() if given and given[-1] in LEVELS else ""
    if given and service is None:
        service = given.pop()
    if given:
        fail(f"{' '.join(given)}: write [SERVICE] [LEVEL], a level being {', '.join(LEVELS)}", exit_codes.USAGE)
    found: dict[str, str] = call("supervisor", "log.level", level=wanted, logger=service)
    emit([{"service": name, "level": value} for name, value in found.items()], empty="no service answers")
