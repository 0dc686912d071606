"""`nattrav run`: the whole bundle in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.output import clean, current


def run(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration file; default /etc/nattrav/nattrav.toml if it exists."),
    ] = None,
) -> None:
    """Start STUN server, SIP proxy, RTP relay and the admin listener; Ctrl-C or SIGTERM ends all of them.

    Example: nattrav run --config /etc/nattrav/nattrav.toml
    """
    from nattrav.config.load import ConfigurationError
    from nattrav.daemon.bundle import run_bundle
    from nattrav.daemon.runtime import StartRefused

    try:
        run_bundle(config, current().runtime_directory)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        print("nattrav: not started; 'nattrav check' checks a file without starting anything", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
    except StartRefused as refused:
        for line in str(refused).splitlines():
            print(f"nattrav: {clean(line)}", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
