"""Asks a running service; ends the command with a clear message when there is none."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

from nattrav.cli import exit_codes
from nattrav.cli.output import clean, current
from nattrav.control.socket.client import Connection
from nattrav.control.socket.messages import Code, End, Failure, Item, Result
from nattrav.daemon.directories import client_directories

BY_CODE: dict[Code, int] = {
    "not_found": exit_codes.NOT_FOUND,
    "invalid": exit_codes.USAGE,
    "refused": exit_codes.REFUSED,
    "busy": exit_codes.FAILED,
    "internal": exit_codes.FAILED,
}


class NoAnswer(Exception):
    """A service gave no result; the message says why, `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def fail(message: str, code: int = exit_codes.FAILED) -> NoReturn:
    """Print one line on standard error and end the command with `code`."""
    print(f"nattrav: {clean(message)}", file=sys.stderr)
    raise SystemExit(code)


def find(role: str) -> Path:
    """Give the control socket of a running service; NoAnswer with the places tried when there is none for us."""
    tried = []
    for directory, reason in client_directories(current().runtime_directory):
        path = directory / f"{role}.sock"
        try:
            path.stat()
        except PermissionError:
            raise _forbidden(path) from None
        except OSError:
            tried.append(f"{path} ({reason})")
            continue
        if not os.access(path, os.R_OK | os.W_OK):
            raise _forbidden(path)
        return path
    raise NoAnswer(
        f"no running {role} found; tried {', '.join(tried)}. "
        "Start it with 'nattrav run', or say where it runs with --runtime-dir",
        exit_codes.UNREACHABLE,
    )


def _forbidden(path: Path) -> NoAnswer:
    return NoAnswer(
        f"not allowed to use {path}: be root, the daemon's user, or a member of its group (nattrav)", exit_codes.REFUSED
    )


def call(role: str, verb: str, /, *, answer_within: float = 10.0, **args: Any) -> Any:
    """Ask one verb of a service and give its result; a refusal or silence ends the command with its exit code.

    All other keywords are the verb's arguments.
    """
    try:
        return ask(role, verb, args, answer_within)
    except NoAnswer as failure:
        fail(str(failure), failure.code)


def call_if_running(role: str, verb: str, /, **args: Any) -> Any | None:
    """Ask a service that adds to the answer of another; None when it is not there or does not know."""
    try:
        return ask(role, verb, args, 5.0)
    except NoAnswer:
        return None


def stream(role: str, verb: str, /, **args: Any) -> Iterator[Any]:
    """Ask a streaming verb and give its items as they come; ends like `call`."""
    try:
        if current().url is not None:
            from nattrav.cli import remote

            yield from remote.stream(current(), role, verb, args)
            return
        for reply in _replies(role, verb, args, None):
            if isinstance(reply, Result):
                fail(f"{verb} does not stream")
            yield reply.value
    except NoAnswer as failure:
        fail(str(failure), failure.code)


def ask(role: str, verb: str, args: dict[str, Any], limit: float) -> Any:
    """Ask one verb of a service and give its result; NoAnswer with the reason and the exit code."""
    if current().url is not None:
        from nattrav.cli import remote

        return remote.ask(current(), role, verb, args, limit)
    for reply in _replies(role, verb, args, limit):
        if isinstance(reply, Result):
            return reply.value
        break
    raise NoAnswer(f"{verb} streams", exit_codes.FAILED)


def _replies(role: str, verb: str, args: dict[str, Any], limit: float | None) -> Generator[Result | Item, None, None]:
    """Speak with a service until it is done. NoAnswer when it refuses, hangs up, or is silent for `limit` seconds."""
    path = find(role)
    connection = Connection()
    deadline = None if limit is None else time.monotonic() + limit
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(limit)
            sock.connect(str(path))
            _, line = connection.ask(verb, args)
            sock.sendall(line)
            while data := sock.recv(1 << 18):
                for reply in connection.receive(data):
                    match reply:
                        case Failure():
                            raise NoAnswer(reply.message, BY_CODE[reply.code])
                        case End():
                            return
                        case _:
                            yield reply
                if deadline is not None:
                    sock.settimeout(max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            raise NoAnswer(f"the {role} did not answer {verb} within {limit:g} s", exit_codes.TIMEOUT) from None
        except (OSError, ValueError) as error:
            reason = f"{path}: {getattr(error, 'strerror', None) or error}"
            raise NoAnswer(f"the {role} does not answer: {reason}", exit_codes.UNREACHABLE) from None
    raise NoAnswer(f"the {role} went away without an answer", exit_codes.UNREACHABLE)
