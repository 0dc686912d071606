"""`nattrav completion`: prints what a shell needs to complete commands, options and names that exist now."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

SHELLS = ("bash", "zsh", "fish")
SCRIPTS = Path(__file__).parent / "completions"


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
) -> None:
    """Print the completion script for a shell. It completes commands and options, and asks the bundle for names.

    Examples: nattrav completion bash > /etc/bash_completion.d/nattrav;  nattrav completion fish | source
    """
    if shell not in SHELLS:
        raise typer.BadParameter(f"choose one of {', '.join(SHELLS)}", param_hint="SHELL")
    sys.stdout.write((SCRIPTS / f"nattrav.{shell}").read_text())
