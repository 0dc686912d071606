"""Asks a running service; ends the command with a clear message when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from nattrav.cli import exit_codes
from nattrav.cli.output import clean, current
from nattrav.daemon.directories import client_directories

_CODES = {
    "not_found": exit_codes.NOT_FOUND,
    "invalid": exit_codes.USAGE,
    "refused": exit_codes.REFUSED,
    "busy": exit_codes.FAILED,
    "internal": exit_codes.FAILED,
}


def fail(message: str, code: int = exit_codes.FAILED) -> NoReturn:
    """Print one line on standard error and end the command with `code`."""
    print(f"nattrav: {clean(message)}", file=sys.stderr)
    raise SystemExit(code)


def find(role: str) -> Path:
    """Give the control socket of a running service; exits 3 with the places tried when there is none."""
    tried = []
    for directory, reason in client_directories(current().runtime_directory):
        path = directory / f"{role}.sock"
        if path.exists():
            return path
        tried.append(f"{path} ({reason})")
    fail(
        f"no running {role} found; tried {', '.join(tried)}. "
        "Start it with 'nattrav run', or say where it runs with --runtime-dir",
        exit_codes.UNREACHABLE,
    )


def call(role: str, verb: str, /, *, answer_within: float = 10.0, **args: Any) -> Any:
    """Ask one verb of a service and give its result; a refusal or silence ends the command with its exit code.

    All other keywords are the verb's arguments.
    """
    import trio

    from nattrav.control.socket.io.client import Unreachable, ask
    from nattrav.control.socket.messages import VerbError

    if current().url is not None:
        return _ask_afar(role, verb, args, answer_within)
    path = find(role)

    async def run() -> Any:
        return await ask(path, verb, args, limit=answer_within)

    try:
        return trio.run(run)
    except VerbError as error:
        fail(error.message, _CODES[error.code])
    except Unreachable as error:
        fail(f"the {role} does not answer: {error}", exit_codes.UNREACHABLE)
    except trio.TooSlowError:
        fail(f"the {role} did not answer {verb} within {answer_within:g} s", exit_codes.TIMEOUT)


def _ask_afar(role: str, verb: str, args: dict[str, Any], limit: float) -> Any:
    from nattrav.cli.remote import RemoteFailure, ask

    try:
        return ask(current(), role, verb, args, limit)
    except RemoteFailure as failure:
        fail(str(failure), failure.code)


def call_if_running(role: str, verb: str, /, **args: Any) -> Any | None:
    """Ask a service that adds to the answer of another; None when it is not there or does not know."""
    import trio

    from nattrav.control.socket.io.client import Unreachable, ask
    from nattrav.control.socket.messages import VerbError

    if current().url is not None:
        from nattrav.cli.remote import RemoteFailure
        from nattrav.cli.remote import ask as ask_afar

        try:
            return ask_afar(current(), role, verb, args, 5.0)
        except RemoteFailure:
            return None
    for directory, _ in client_directories(current().runtime_directory):
        path = directory / f"{role}.sock"
        if path.exists():
            try:
                return trio.run(ask, path, verb, args)
            except (VerbError, Unreachable, trio.TooSlowError):
                return None
    return None


def stream(role: str, verb: str, /, **args: Any) -> Iterator[Any]:
    """Ask a streaming verb and give its items as they come; ends like `call`."""
    import socket

    from nattrav.control.socket.client import Connection
    from nattrav.control.socket.messages import End, Failure, Item

    if current().url is not None:
        fail(f"{verb} streams, which works on the host itself only", exit_codes.REFUSED)
    path = find(role)
    connection = Connection()
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
            _, line = connection.ask(verb, args)
            sock.sendall(line)
            while data := sock.recv(1 << 18):
                for reply in connection.receive(data):
                    match reply:
                        case Item():
                            yield reply.value
                        case Failure():
                            fail(reply.message, _CODES[reply.code])
                        case End():
                            return
                        case _:
                            fail(f"{verb} does not stream")
        except (OSError, ValueError) as error:
            fail(f"the {role} does not answer: {error}", exit_codes.UNREACHABLE)
    fail(f"the {role} went away", exit_codes.UNREACHABLE)
