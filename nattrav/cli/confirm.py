"""Asks before a command ends or forgets something; without a terminal it wants `--yes` instead."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
YesReally = Annotated[bool, typer.Option("--yes-really", help="Do not ask, with --all.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def confirm(question: str, agreed: bool, *, option: str = "--yes") -> None:
    """Go on only when the operator agrees: by `option`, or by y on a terminal. Else ends with 2, or 1 for a no."""
    if agreed:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Add {option}", exit_codes.USAGE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("nothing was done")
