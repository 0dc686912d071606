"""`nattrav control`: speak the ng control protocol to a relay, for testing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nattrav.cli import exit_codes, output

if TYPE_CHECKING:
    from nattrav.config.control import ControlAddress

app = typer.Typer(help="Speak the ng control protocol")

Address = Annotated[
    str,
    typer.Option("--to", help="Relay: unix:auto (the local one), unix:PATH or udp:ADDRESS:PORT", show_default=True),
]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="Shared key, for relays that want sealed requests")]


@app.command()
def ping(to: Address = "unix:auto", key_file: KeyFile = None) -> None:
    """Ask a relay whether it is there.

    Example: nattrav control ping
    """
    import time

    started = time.monotonic()
    reply = _ask(to, "ping", {}, key_file)
    output.emit({"relay": to, "result": reply.get("result"), "seconds": round(time.monotonic() - started, 6)})


@app.command()
def send(
    request: Annotated[str, typer.Argument(help='JSON object with "command", or - to read it from standard input')],
    to: Address = "unix:auto",
    key_file: KeyFile = None,
) -> None:
    """Send one request, written as JSON, and print the reply.

    Example: nattrav control send '{"command": "list"}'
    """
    import json

    text = sys.stdin.read() if request == "-" else request
    try:
        message = json.loads(text)
    except ValueError as error:
        raise _failed(f"not JSON: {error}", exit_codes.USAGE) from None
    if not isinstance(message, dict) or not isinstance(message.get("command"), str):
        raise _failed('write a JSON object with "command", such as {"command": "ping"}', exit_codes.USAGE)
    command = message.pop("command")
    reply = _ask(to, command, message, key_file)
    sdp = reply.get("sdp")
    if isinstance(sdp, bytes):
        reply["sdp"] = sdp.decode("latin-1")
    if output.current().human and isinstance(reply.get("sdp"), str):
        print("\n".join(output.clean(line) for line in reply.pop("sdp").splitlines()))
    if output.current().human and any(isinstance(value, dict | list) for value in reply.values()):
        print("\n".join(output.clean(line) for line in json.dumps(reply, indent=2, default=str).splitlines()))
    else:
        output.emit(reply)
    if reply.get("result") == "error":
        raise typer.Exit(exit_codes.FAILED)


def _ask(to: str, command: str, arguments: dict[str, Any], key_file: Path | None) -> dict[str, Any]:
    import secrets

    import trio

    from nattrav.config.control import ControlAddress
    from nattrav.control.ng.io.client import ask_once
    from nattrav.daemon.directories import client_directories

    try:
        address = ControlAddress.parse(to)
    except ValueError as error:
        raise _failed(str(error), exit_codes.USAGE) from None
    if address.transport == "tcp":
        raise _failed("--to takes udp or unix", exit_codes.USAGE)
    try:
        key = key_file.read_bytes().strip() if key_file is not None else None
    except OSError as error:
        raise _failed(f"--key-file {key_file}: {error.strerror}", exit_codes.USAGE) from None
    directory = _directory(address, [place for place, _ in client_directories(output.current().runtime_directory)])

    async def once() -> dict[str, Any] | None:
        return await ask_once(address, command, arguments, directory=directory, prefix=secrets.token_hex(6), key=key)

    reply = trio.run(once)
    if reply is None:
        raise _failed(
            f"no answer from {to}: is a relay running there, and does it accept this host?", exit_codes.TIMEOUT
        )
    return reply


def _directory(address: ControlAddress, places: list[Path]) -> Path:
    from nattrav.control.ng.io.unix import auto_path

    if address.transport != "unix" or address.path is not None:
        return places[0]
    for place in places:
        if auto_path(place).exists():
            return place
    tried = ", ".join(str(auto_path(place)) for place in places)
    raise _failed(f"no relay here: tried {tried}", exit_codes.UNREACHABLE)


def _failed(text: str, code: int) -> typer.Exit:
    print(f"nattrav: {text}", file=sys.stderr)
    return typer.Exit(code)
