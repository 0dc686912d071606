"""`nattrav check`: validates a configuration without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.output import clean, current, emit


def check(
    file: Annotated[Path | None, typer.Argument(help="File to check; default as for `nattrav run`.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The same, as an option.")] = None,
) -> None:
    """Check a configuration file and tell every error with its remedy. Exit 0 when it is good, 1 when not.

    Example: nattrav check /etc/nattrav/nattrav.toml
    """
    from nattrav.config.load import ConfigurationError
    from nattrav.daemon.files import chosen_file, read
    from nattrav.daemon.named_files import unusable

    explicit = file or config
    path = chosen_file(explicit)
    try:
        problems = list(unusable(read(explicit).configuration))
        if problems:
            raise ConfigurationError(problems)
    except ConfigurationError as error:
        items = [
            {"source": p.source, "key": p.key, "value": p.value, "reason": p.reason, "remedy": p.remedy}
            for p in error.problems
        ]
        if current().human:
            for problem in error.problems:
                print(clean(str(problem)))
            print(f"\n{len(items)} error{'s' if len(items) > 1 else ''}")
        else:
            emit(items)
        raise typer.Exit(exit_codes.FAILED) from None
    if current().human:
        print(f"{path} is good" if path else "no configuration file: the defaults are used")
    else:
        emit([])
