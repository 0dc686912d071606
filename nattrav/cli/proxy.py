"""`nattrav proxy`: the SIP proxy alone, and its drain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.output import clean, current

app = typer.Typer(help="Run a SIP proxy alone.")


@app.callback()
def _group() -> None:
    """The SIP NAT proxy."""


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file.")] = None,
) -> None:
    """Run the SIP proxy alone in the foreground; Ctrl-C or SIGTERM ends it.

    Example: nattrav proxy serve --config /etc/nattrav/nattrav.toml
    """
    from nattrav.config.load import ConfigurationError
    from nattrav.daemon.files import read
    from nattrav.daemon.service import run_alone

    try:
        loaded = read(config)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
    raise typer.Exit(run_alone("proxy", loaded.configuration, current().runtime_directory))
