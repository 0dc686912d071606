"""`nattrav proxy`: run a SIP proxy alone, drain it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call
from nattrav.cli.output import clean, current, emit

app = typer.Typer(help="Run a SIP proxy alone, drain it.")


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration file; default /etc/nattrav/nattrav.toml if it exists."),
    ] = None,
) -> None:
    """Serve SIP in the foreground until Ctrl-C or SIGTERM.

    Example: nattrav proxy serve --config proxy.toml
    """
    from nattrav.config.load import ConfigurationError
    from nattrav.daemon import files
    from nattrav.daemon.alone import run_alone

    try:
        loaded = files.read(config)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
    again = partial(files.read, config)
    raise typer.Exit(run_alone("proxy", loaded.configuration, current().runtime_directory, read_again=again))


@app.command()
def drain() -> None:
    """Take no new calls; those in progress go on.

    Example: nattrav proxy drain
    """
    emit(call("proxy", "proxy.drain"))


@app.command()
def undrain() -> None:
    """Take new calls again.

    Example: nattrav proxy undrain
    """
    emit(call("proxy", "proxy.undrain"))
