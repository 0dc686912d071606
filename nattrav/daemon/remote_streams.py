"""Streaming verbs over HTTP, for `nattrav --url`: one JSON line an item, an empty line where nothing happens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nattrav.control.socket.messages import VerbError

STREAMING: dict[str, frozenset[str]] = {
    "relay": frozenset({"events", "relay.top"}),
    "proxy": frozenset({"trace", "registrations.watch"}),
}
"""What may be followed from afar, by service."""

READERS = 8
"""Streams served at once; further ones are told `busy`."""

BEAT = 15.0
"""Seconds of silence after which an empty line tells both ends that the other still lives."""


class Readers:
    """Counts the streams that are open."""

    def __init__(self) -> None:
        self.open = 0

    def enter(self) -> None:
        """Count one in; VerbError when there are too many."""
        if self.open >= READERS:
            raise VerbError("busy", f"{READERS} streams are followed from afar already: end one")
        self.open += 1


class LineStream(Response):
    """The items of one verb until they end or the reader goes away."""

    def __init__(self, items: AsyncGenerator[Any, None], readers: Readers) -> None:
        self._items = items
        self._readers = readers
        super().__init__(media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one reader, as ASGI wants it."""
        head = [one for one in self.raw_headers if one[0] != b"content-length"]
        lock = trio.Lock()
        last: dict[str, Any] = {"end": True}

        async def write(data: bytes, *, more: bool = True) -> None:
            async with lock:
                await send({"type": "http.response.body", "body": data, "more_body": more})

        async def beat() -> None:
            while True:
                await trio.sleep(BEAT)
                await write(b"\n")

        try:
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await write(b"\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                nursery.start_soon(beat)
                async with aclosing(self._items):
                    try:
                        async for item in self._items:
                            await write(_line({"item": item}))
                    except VerbError as error:
                        last = {"error": {"code": error.code, "message": error.message}}
                nursery.cancel_scope.cancel()
            # Outside, because the server reports the end of the response as the reader's leaving.
            await write(_line(last), more=False)
        finally:
            self._readers.open -= 1


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
