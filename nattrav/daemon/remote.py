"""Verbs of the control sockets over HTTP, for `nattrav --url`: only with a token, only those that change nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nattrav.control.socket.messages import VerbError
from nattrav.daemon.remote_streams import STREAMING, LineStream, Readers

READING: dict[str, frozenset[str]] = {
    "supervisor": frozenset({"status", "overview", "config.show", "drain.state", "metrics"}),
    "relay": frozenset(
        {
            "status",
            "sessions.list",
            "sessions.show",
            "sessions.stats",
            "ports.pools",
            "ports.list",
            "ports.show",
            "ports.free",
            "ports.leaks",
        }
    ),
    "proxy": frozenset(
        {
            "status",
            "registrations.list",
            "registrations.show",
            "flows.list",
            "transactions.list",
            "calls.list",
            "calls.show",
            "calls.missed",
            "explain",
            "upstreams.list",
            "bans.list",
        }
    ),
    "stun": frozenset({"status", "stun.stats", "nat.list", "nat.show", "nat.lookup"}),
}
"""What may be asked from afar, by service."""

STATUS = {"not_found": 404, "invalid": 400, "refused": 403, "busy": 503, "internal": 500}
ARGUMENTS_LIMIT = 8192


class Askable(Protocol):
    """What this needs of the bundle."""

    async def ask(self, role: str, verb: str, args: dict[str, Any]) -> Any:
        """Ask a service one verb. VerbError when it refuses or does not answer."""

    def stream(self, role: str, verb: str, args: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Follow a streaming verb of a service. VerbError when it refuses or goes away."""


def route(bundle: Askable, has_token: Callable[[], bool]) -> Route:
    """Make the route `/api/v1/services/ROLE/VERB?args=JSON`."""
    readers = Readers()

    async def answer(request: Request) -> Response:
        role, verb = request.path_params["role"], request.path_params["verb"]
        try:
            if not has_token():
                raise VerbError("refused", "asking from afar needs a token: set [admin] token_file")
            if verb in STREAMING.get(role, ()):
                args = _arguments(request.query_params.get("args", "{}"))
                readers.enter()
                return LineStream(bundle.stream(role, verb, args), readers)
            if verb not in READING.get(role, ()):
                raise VerbError("refused", f"{verb} of the {role} is not for use from afar: log in on the host")
            result = await bundle.ask(role, verb, _arguments(request.query_params.get("args", "{}")))
        except VerbError as error:
            told = {"code": error.code, "message": error.message}
            return JSONResponse({"error": told}, STATUS[error.code])
        return JSONResponse({"schema": 1, "result": result})

    return Route("/api/v1/services/{role:str}/{verb:str}", answer)


def _arguments(text: str) -> dict[str, Any]:
    try:
        args = json.loads(text) if len(text) <= ARGUMENTS_LIMIT else None
    except (ValueError, RecursionError):
        args = None
    if not isinstance(args, dict):
        raise VerbError("invalid", "args is not a JSON object")
    return args
