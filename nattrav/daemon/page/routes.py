"""The page's routes: `/`, the snapshot as JSON, single lists, and the event stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from nattrav.daemon.page.feed import INTERVAL, Feed, TooManyReaders
from nattrav.daemon.page.render import page, policy
from nattrav.daemon.page.snapshot import Services

LISTS = ("calls", "registrations", "pools", "upstreams", "services")


def routes(services: Services, *, mask: bool) -> Sequence[BaseRoute]:
    """Make the routes; all of them read only."""
    feed = Feed(services, mask=mask)

    async def show(request: Request) -> Response:
        return HTMLResponse(page(await feed.latest()), headers={"content-security-policy": policy()})

    async def snapshot(request: Request) -> Response:
        data = await feed.latest()
        name = request.path_params.get("name")
        if name is None:
            return JSONResponse({"schema": 1, **data})
        if name not in LISTS:
            return PlainTextResponse(f"known lists: {', '.join(LISTS)}\n", 404)
        return JSONResponse({"schema": 1, "items": data[name]})

    async def events(request: Request) -> Response:
        try:
            feed.enter()
        except TooManyReaders:
            return PlainTextResponse("too many readers\n", 503, {"retry-after": "30"})
        return EventStream(feed)

    return [
        Route("/", show),
        Route("/api/v1/snapshot", snapshot),
        Route("/api/v1/events", events),
        Route("/api/v1/{name:str}", snapshot),
    ]


class EventStream(Response):
    """Snapshots as server-sent events until the reader goes away; a slow reader skips some."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        super().__init__(media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one reader, as ASGI wants it."""
        head = [one for one in self.raw_headers if one[0] != b"content-length"]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": head})
                sent = 0
                while True:
                    data: dict[str, Any] = await self._feed.latest()
                    if self._feed.sequence != sent:
                        sent = self._feed.sequence
                        told = json.dumps(data, separators=(",", ":"))
                        text = f"retry: 1000\nevent: status\nid: {sent}\ndata: {told}\n\n"
                        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    await trio.sleep(INTERVAL)
        finally:
            self._feed.leave()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
