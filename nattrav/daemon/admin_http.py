"""The admin listener: /metrics, /healthz, /readyz and the read-only API, by hypercorn and starlette on trio.

Listeners beyond loopback want the bearer token for all but the two health paths. Nothing here changes anything.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import hypercorn
import hypercorn.trio
import trio
from prometheus_client import PlatformCollector, ProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nattrav.config.admin import AdminSection
from nattrav.daemon import remote
from nattrav.daemon.admin_token import read_token
from nattrav.daemon.page.routes import routes
from nattrav.daemon.page.snapshot import Services
from nattrav.daemon.remote import Askable
from nattrav.daemon.runtime import Listening, Runtime, StartRefused
from nattrav.metrics.exposition import encode
from nattrav.metrics.samples import Export
from nattrav.net.address import AddressClass, TransportAddress, classify, is_literal

CACHE_SECONDS = 1.0
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Bundle(Services, Askable, Protocol):
    """What the admin listener shows."""

    def not_ready(self) -> list[str]:
        """Why new calls should go elsewhere; empty when all is well."""


class Gate:
    """Lets requests in: known Host, the token where it is needed; adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI wants it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in own)]
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        local = scope.get("server") is None or classify(scope["server"][0]) is AddressClass.LOOPBACK
        if local and not _is_own_name(headers.get(b"host", b"")):
            # A page on the web could otherwise read this listener by a DNS name that points to 127.0.0.1.
            return PlainTextResponse("ask for this host by address or as localhost\n", 421)
        if scope["path"] in OPEN_PATHS or (local and self._token is None):
            return None
        if self._token and hmac.compare_digest(_given_token(headers.get(b"authorization", b"")), self._token.encode()):
            return None
        # Browsers know Basic only, and send it with the event stream, too; the user name does not matter.
        return PlainTextResponse(
            "this listener wants 'Authorization: Bearer TOKEN', or the token as password\n",
            401,
            {"www-authenticate": 'Bearer, Basic realm="nattrav", charset="UTF-8"'},
        )


def _given_token(authorization: bytes) -> bytes:
    kind, _, given = authorization.partition(b" ")
    if kind.lower() == b"bearer":
        return given.strip()
    if kind.lower() == b"basic":
        try:
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _is_own_name(header: bytes) -> bool:
    host = header.decode("latin-1").lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return host in ("", "localhost") or is_literal(host)


class Door:
    """The application behind the listeners; token, page and masking change while it serves."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._app: ASGIApp = PlainTextResponse("starting\n", 503)

    def change(self, admin: AdminSection, token: str | None) -> None:
        """Serve by these settings from the next request on."""
        page = routes(self._bundle, mask=admin.mask_numbers) if admin.page else ()
        self._app = application(self._bundle, token, page)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI wants it."""
        await self._app(scope, receive, send)


def application(bundle: Bundle, token: str | None, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Build the ASGI application."""
    cache = _Cache(bundle)
    process = (ProcessCollector(registry=None), PlatformCollector(registry=None))

    async def metrics(request: Request) -> Response:
        export = await cache.export()
        text, content_type = await trio.to_thread.run_sync(encode, export, request.headers.get("accept", ""), *process)
        return Response(text, headers={"content-type": content_type})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        reasons = bundle.not_ready()
        return PlainTextResponse("".join(f"{reason}\n" for reason in reasons) or "ok\n", 503 if reasons else 200)

    async def status(request: Request) -> Response:
        return JSONResponse({"schema": 1, **await bundle.status()})

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/api/v1/status", status),
            remote.route(bundle, lambda: token is not None),
            *routes,
        ]
    )
    return Gate(app, token)


class _Cache:
    """Holds the last export for a second, so that scrapers cannot keep the services busy."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._lock = trio.Lock()
        self._export: Export = {}
        self._taken = -CACHE_SECONDS

    async def export(self) -> Export:
        async with self._lock:
            if trio.current_time() - self._taken >= CACHE_SECONDS:
                self._export = (await self._bundle.samples()).export()
                self._taken = trio.current_time()
            return self._export


def open_listener(address: TransportAddress) -> socket.socket:
    """Bind one admin listener; StartRefused with the remedy when it is taken."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(64)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StartRefused(
            f"admin HTTP cannot listen on {address}: {error.strerror}; "
            "stop the program that uses the port ('ss -ltnp' names it), or change [admin] listen"
        ) from None
    return sock


async def serve_admin(
    admin: AdminSection,
    runtime: Runtime,
    door: Door,
    *,
    task_status: trio.TaskStatus[list[Listening]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. StartRefused when a listener or the token cannot be had."""
    if not admin.listen:
        task_status.started([])
        return
    door.change(admin, read_token(admin))
    sockets: list[socket.socket] = []
    try:
        sockets.extend(open_listener(TransportAddress.parse(listen)) for listen in admin.listen)
    except StartRefused:
        for sock in sockets:
            sock.close()
        raise
    listeners = [
        runtime.listening("metrics, health, status page", "http", TransportAddress(*sock.getsockname()[:2]))
        for sock in sockets
    ]
    config = hypercorn.Config()
    # hypercorn takes the descriptors over and closes them at its end.
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    config.graceful_timeout = 0.5
    config.read_timeout = 30
    config.h11_max_incomplete_size = 16_384

    async def started(*, task_status: trio.TaskStatus[Any]) -> None:
        serve: Callable[..., Awaitable[None]] = hypercorn.trio.serve
        await serve(door, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(started)
        task_status.started(listeners)
