"""`nattrav users`: accounts of the built-in registrar, kept in an SQLite file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.confirm import DryRun, Yes, confirm
from nattrav.cli.output import clean, emit

if TYPE_CHECKING:
    from nattrav.proxy.io.users import UserFile

app = typer.Typer(help="Accounts of the built-in registrar. A running proxy takes changes over within two seconds.")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file, for its realm and paths.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Only for this domain of ours; default all.")]
Name = Annotated[str, typer.Argument(help="User part of the address-of-record.")]


def _fail(message: str, code: int) -> typer.Exit:
    print(f"nattrav: {clean(message)}", file=sys.stderr)
    return typer.Exit(code)


def _file(config: Path | None) -> tuple[UserFile, str]:
    from nattrav.config.load import ConfigurationError
    from nattrav.daemon import files
    from nattrav.daemon.directories import state_directory
    from nattrav.proxy.io.users import UserFile
    from nattrav.proxy.parts import Settings

    try:
        configuration = files.read(config).configuration
    except ConfigurationError as error:
        raise _fail("; ".join(str(problem) for problem in error.problems), exit_codes.FAILED) from None
    explicit = configuration.sip.registrar.users_file
    path = Path(explicit) if explicit else state_directory(configuration.node.state_directory) / "users.sqlite"
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    return UserFile(path), Settings(configuration.sip).realm


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


@app.command()
def add(name: Name, domain: Domain = None, config: Config = None) -> None:
    """Add a user; the password is asked for, or read from standard input.

    Example: echo secret | nattrav users add alice
    """
    _put(name, domain, config, new=True)


@app.command()
def passwd(name: Name, domain: Domain = None, config: Config = None) -> None:
    """Change a user's password.

    Example: nattrav users passwd alice
    """
    _put(name, domain, config, new=False)


def _put(name: str, domain: str | None, config: Path | None, *, new: bool) -> None:
    from nattrav.proxy.io.users import UsersUnusable

    file, realm = _file(config)
    password = _password()
    if not password:
        raise _fail("an empty password is no password", exit_codes.USAGE)
    try:
        done = file.put(name, domain, realm, password, new=new)
    except UsersUnusable as error:
        raise _fail(str(error), exit_codes.FAILED) from None
    if not done and new:
        raise _fail(f"{name} exists already; 'nattrav users passwd {name}' changes the password", exit_codes.FAILED)
    if not done:
        raise _fail(f"there is no user {name}; 'nattrav users add {name}' makes one", exit_codes.NOT_FOUND)


@app.command()
def remove(name: Name, domain: Domain = None, config: Config = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Remove a user. Registrations that exist run out by themselves.

    Example: nattrav users remove alice
    """
    from nattrav.proxy.io.users import UsersUnusable

    file, _ = _file(config)
    try:
        known = (name, domain or "") in {(found, of) for found, of, _ in file.names()}
        if not known:
            raise _fail(f"there is no user {name}: 'nattrav users list' shows those there are", exit_codes.NOT_FOUND)
        if not dry_run:
            confirm(f"This removes the user {name}.", yes)
            file.remove(name, domain)
    except UsersUnusable as error:
        raise _fail(str(error), exit_codes.FAILED) from None
    emit({"removed": name, "dry_run": dry_run})


@app.command("list")
def list_users(config: Config = None) -> None:
    """Every user of the file; those in the configuration file are not among them.

    Example: nattrav users list
    """
    from nattrav.proxy.io.users import UsersUnusable

    file, _ = _file(config)
    try:
        names = file.names()
    except UsersUnusable as error:
        raise _fail(str(error), exit_codes.FAILED) from None
    emit(
        [{"name": name, "domain": domain or "*", "realm": realm} for name, domain, realm in names],
        ["name", "domain", "realm"],
        empty="no users",
    )
