"""Asks a service on its control socket."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from nattrav.control.socket.client import Connection
from nattrav.control.socket.messages import End, Failure, Item, Reply, Result, VerbError


class Unreachable(Exception):
    """Nobody answers on the control socket; the message says why."""


async def ask(path: Path, verb: str, args: dict[str, Any] | None = None, *, limit: float = 10.0) -> Any:
    """Ask one verb and give its result.

    Raises VerbError when the service refuses, Unreachable when there is none, trio.TooSlowError after `limit` seconds.
    """
    with trio.fail_after(limit):
        async with Client.open(path) as client:
            return await client.ask(verb, args)


class Client:
    """One connection to a control socket; asks one verb after the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._connection = Connection()
        self._waiting: deque[Reply] = deque()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Client, None]:
        """Connect; Unreachable when nobody listens or the socket may not be used."""
        try:
            stream = await trio.open_unix_socket(str(path))
        except (OSError, ValueError) as error:
            raise Unreachable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        async with stream:
            yield cls(stream)

    async def ask(self, verb: str, args: dict[str, Any] | None = None) -> Any:
        """Ask one verb and give its result. VerbError when it is refused, Unreachable when the service goes away."""
        number = await self._send(verb, args)
        reply = await self._reply(number)
        if isinstance(reply, Result):
            return reply.value
        raise VerbError("invalid", f"{verb} streams: read its items")

    async def stream(self, verb: str, args: dict[str, Any] | None = None) -> AsyncGenerator[Any, None]:
        """Ask a streaming verb and give its items as they come; close the generator to stop it."""
        number = await self._send(verb, args)
        while isinstance(reply := await self._reply(number), Item):
            yield reply.value

    async def _send(self, verb: str, args: dict[str, Any] | None) -> int:
        number, line = self._connection.ask(verb, args or {})
        try:
            await self._stream.send_all(line)
        except trio.BrokenResourceError as error:
            raise Unreachable(f"the service hung up: {error}") from None
        return number

    async def _reply(self, number: int) -> Result | Item | End:
        """Wait for the next reply to this request; failures are raised."""
        while True:
            while self._waiting:
                reply = self._waiting.popleft()
                if isinstance(reply, Failure):
                    if reply.id in (0, number):
                        raise VerbError(reply.code, reply.message)
                elif reply.id == number:
                    return reply
            try:
                data = await self._stream.receive_some(1 << 18)
                self._waiting.extend(self._connection.receive(bytes(data)))
            except trio.BrokenResourceError as error:
                raise Unreachable(f"the service hung up: {error}") from None
            except ValueError as error:
                raise Unreachable(f"the peer is no nattrav service: {error}") from None
            if not data:
                raise Unreachable("the service hung up without an answer")
