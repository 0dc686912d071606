"""Requests and replies of the control socket, one JSON object a line.

{"id": 1, "verb": "sessions.list", "args": {}}          a request
{"id": 1, "ok": true, "result": …}                      its answer, or
{"id": 1, "ok": false, "error": {"code": …, "message": …}}
{"id": 1, "item": …} … {"id": 1, "end": true}           the answer of a streaming verb
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Code = Literal["not_found", "invalid", "refused", "busy", "internal"]
CODES: tuple[str, ...] = get_args(Code)

Handler = Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the request's `args`; returns JSON-able data, or an async iterator whose items are streamed."""

Verbs = Mapping[str, Handler]


class VerbError(Exception):
    """A verb does not do what was asked; `code` is one of CODES, `message` is for people."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """One verb to run. `id` is the client's own number and comes back in the answer."""

    id: int
    verb: str
    args: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Give the request as one line."""
        return _line({"id": self.id, "verb": self.verb, "args": self.args})


@dataclass(frozen=True, slots=True)
class Result:
    """The whole answer of a verb."""

    id: int
    value: Any

    def encode(self) -> bytes:
        """Give the answer as one line; TypeError or ValueError when the value is not JSON-able."""
        return _line({"id": self.id, "ok": True, "result": self.value})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result. `id` is 0 when the request's own could not be read."""

    id: int
    code: Code
    message: str

    def encode(self) -> bytes:
        """Give the failure as one line."""
        return _line({"id": self.id, "ok": False, "error": {"code": self.code, "message": self.message}})


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a streamed answer."""

    id: int
    value: Any

    def encode(self) -> bytes:
        """Give the item as one line; TypeError or ValueError when the value is not JSON-able."""
        return _line({"id": self.id, "item": self.value})


@dataclass(frozen=True, slots=True)
class End:
    """The last line of a streamed answer."""

    id: int

    def encode(self) -> bytes:
        """Give the end mark as one line."""
        return _line({"id": self.id, "end": True})


Reply = Result | Failure | Item | End


def decode_request(line: bytes) -> Request | Failure:
    """Read a request; what cannot be one becomes the failure to answer with."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Failure(0, "invalid", "not a JSON object on one line")
    if not isinstance(data, dict):
        return Failure(0, "invalid", "not a JSON object")
    number, verb, args = data.get("id", 0), data.get("verb"), data.get("args", {})
    if not isinstance(number, int) or isinstance(number, bool):
        return Failure(0, "invalid", "id is not a whole number")
    if not isinstance(verb, str):
        return Failure(number, "invalid", "verb is missing or not a string")
    if not isinstance(args, dict):
        return Failure(number, "invalid", "args is not an object")
    return Request(number, verb, args)


def decode_reply(line: bytes) -> Reply:
    """Read a reply; ValueError when the line is none."""
    try:
        data = json.loads(line)
        number = int(data["id"])
        if "item" in data:
            return Item(number, data["item"])
        if data.get("end") is True:
            return End(number)
        if data["ok"] is True:
            return Result(number, data["result"])
        code, message = data["error"]["code"], data["error"]["message"]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a reply of the control socket: {error!r}") from None
    return Failure(number, code if code in CODES else "internal", str(message))


def _line(data: dict[str, Any]) -> bytes:
    # ASCII only and without NaN, so that any program can read it and no control character reaches a terminal.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
