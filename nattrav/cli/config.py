"""`nattrav config`: what holds, what would change, and what may be written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nattrav.cli import exit_codes
from nattrav.cli.check import check
from nattrav.cli.connect import call
from nattrav.cli.output import Column, clean, current, emit

app = typer.Typer(help="Show, compare and reload the configuration.")
app.command("check")(check)

File = Annotated[Path | None, typer.Option("--config", "-c", help="File; default as for `nattrav run`.")]


@app.command()
def show(
    config: File = None,
    running: Annotated[bool, typer.Option("--running", help="What the running bundle uses, not the file.")] = False,
    effective: Annotated[
        bool,
        typer.Option("--effective/--changed", help="Every key with what holds, or only those not at their default."),
    ] = True,
) -> None:
    """Show the effective configuration: defaults, files and environment together; secrets are masked.

    Examples: nattrav config show --changed;  nattrav config show --running --json
    """
    from nattrav.config.load import ConfigurationError, validate
    from nattrav.config.schema import Configuration
    from nattrav.config.write import as_tables, tables_file
    from nattrav.daemon.files import read

    try:
        configuration = validate(call("supervisor", "config.show")) if running else read(config).configuration
    except ConfigurationError as error:
        _refuse(error)
    tables = as_tables(configuration)
    if not effective:
        tables = _different(tables, as_tables(Configuration()))
    if current().human:
        print(clean_lines(tables_file(tables)), end="")
        if not tables:
            print("every key is at its default", "" if running else "('--running' shows the bundle's)", file=sys.stderr)
    else:
        emit(tables)


def _different(tables: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Keep the keys that are not at their default."""
    kept: dict[str, Any] = {}
    for key, value in tables.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            value = _different(value, default)
            if value:
                kept[key] = value
        elif value != default:
            kept[key] = value
    return kept


@app.command()
def diff(config: File = None) -> None:
    """Show what differs between the running bundle and the file, and when each change would count. Exit 1 if any.

    Example: nattrav config diff --config new.toml
    """
    found = _reload(config, dry_run=True)
    _print_changes(found)
    raise typer.Exit(exit_codes.FAILED if found["changes"] else exit_codes.OK)


@app.command()
def reload(
    config: File = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change and what it touches.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Restart the services that need it.")] = False,
) -> None:
    """Read the file again and take over what changed; calls go on. On any error nothing changes.

    Examples: nattrav reload --dry-run;  nattrav reload --restart
    """
    _print_changes(_reload(config, dry_run=dry_run, restart=restart))


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors.

    Example: nattrav config schema > nattrav.schema.json
    """
    from nattrav.config.schema import Configuration

    json.dump(Configuration.model_json_schema(), sys.stdout, indent=2)
    print()


@app.command()
def init() -> None:
    """Print a configuration with every key, its default and its comment.

    Example: nattrav config init > /etc/nattrav/nattrav.toml
    """
    from nattrav.config.write import default_file

    print(default_file(), end="")


def clean_lines(text: str) -> str:
    """Clean every line of a text, and keep its line ends."""
    return "".join(f"{clean(line)}\n" for line in text.splitlines())


def _reload(config: Path | None, *, dry_run: bool, restart: bool = False) -> dict[str, Any]:
    path = None if config is None else str(config.resolve())
    found: dict[str, Any] = call(
        "supervisor", "config.reload", answer_within=60, file=path, dry_run=dry_run, restart=restart
    )
    if found["problems"]:
        for problem in found["problems"]:
            print(f"nattrav: {clean(problem)}", file=sys.stderr)
        print("nattrav: nothing was changed", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED)
    return found


def _print_changes(found: dict[str, Any]) -> None:
    columns: list[Column | str] = [
        "key",
        Column("old", format=_text),
        Column("new", format=_text),
        Column("effect", "counts"),
        "services",
    ]
    if current().format == "json":
        emit(found)
    else:
        emit(found["changes"], columns, empty="nothing differs")
    for note in found.get("notes", ()):
        print(clean(note), file=sys.stderr)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _refuse(error: Any) -> NoReturn:
    for problem in error.problems:
        print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
    raise typer.Exit(exit_codes.FAILED)
