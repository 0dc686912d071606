"""Asking over TCP and TLS: the mapped address, and what the mapping of one local port depends on."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from nattrav.net.address import TransportAddress, canonical
from nattrav.net.clock import monotonic
from stun.attributes import MalformedMessage
from stun.discovery import Dependence, mapping_of
from stun.framing import Framer
from stun.transaction import STREAM, Outcome, Transaction

_PATIENCE = 4.0
TLS_PORT = 5349


@dataclass(frozen=True)
class OverStream:
    """What came of asking over a stream transport."""

    mapped: TransportAddress | None = None
    mapping: Dependence | None = None
    """What the mapping of one local port depends on (RFC 5780 §4.3 over TCP, RFC 5382 REQ-1); None if not tested."""
    failure: str = ""
    """Why there is no mapped address."""


@dataclass(frozen=True)
class _Answer:
    outcome: Outcome
    local: TransportAddress


class _Failed(Exception):
    """No answer; the message says why."""


async def ask_tcp(server: TransportAddress, request: Callable[[], bytes]) -> OverStream:
    """Ask a server, and where it has other addresses also those, from the same local port.

    `request` makes requests, each with a transaction id of its own.
    """
    try:
        first = await _ask(server, request())
    except _Failed as failed:
        return OverStream(failure=str(failed))
    found = OverStream(first.outcome.mapped)
    other = first.outcome.other
    if first.outcome.mapped == first.local:
        return replace(found, mapping=Dependence.INDEPENDENT)
    if other is None or other.host == server.host or other.port == server.port:
        return found
    try:
        others = [
            (await _ask(place, request(), local=first.local)).outcome.mapped
            for place in (TransportAddress(other.host, server.port), other)
        ]
    except _Failed:
        # The first answer stands; of the mapping's kind nothing can be said.
        return found
    return replace(found, mapping=mapping_of(found.mapped, *others))


async def ask_tls(server: TransportAddress, name: str, request: bytes, context: ssl.SSLContext) -> OverStream:
    """Ask a server that must prove to be `name`."""
    try:
        answer = await _ask(server, request, tls=(context, name))
    except _Failed as failed:
        return OverStream(failure=str(failed))
    return OverStream(answer.outcome.mapped)


async def _ask(
    server: TransportAddress,
    request: bytes,
    *,
    local: TransportAddress | None = None,
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> _Answer:
    """Run one transaction on a connection of its own, from `local` if given. Raises _Failed."""
    with trio.move_on_after(_PATIENCE), trio.socket.socket(server.family, socket.SOCK_STREAM) as sock:
        # Several connections share the local port, each to another address of the server.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if local is not None:
                await sock.bind(local)
            await sock.connect(server)
            name = sock.getsockname()
            stream: trio.abc.Stream = trio.SocketStream(sock)
            if tls is not None:
                stream = trio.SSLStream(stream, tls[0], server_hostname=tls[1], https_compatible=True)
            outcome = await _converse(stream, server, request)
        except ssl.SSLCertVerificationError as error:
            raise _Failed(f"the certificate does not hold: {error.verify_message}") from None
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise _Failed(f"the certificate does not hold: {error.__cause__.verify_message}") from None
            raise _Failed("the connection broke") from None
        except (ssl.SSLError, OSError, MalformedMessage) as error:
            raise _Failed(getattr(error, "strerror", None) or str(error)) from None
        if not outcome.answered:
            raise _Failed(f"{outcome.error} {outcome.reason}" if outcome.error else "no usable answer")
        return _Answer(outcome, TransportAddress(canonical(str(name[0]).partition("%")[0]), int(name[1])))
    raise _Failed("no answer in time")


async def _converse(stream: trio.abc.Stream, server: TransportAddress, request: bytes) -> Outcome:
    transaction, framer = Transaction(request, server, STREAM, monotonic()), Framer()
    transaction.handle_timeout(monotonic())
    await stream.send_all(request)
    while transaction.outcome is None:
        data = bytes(await stream.receive_some(4096))
        if not data:
            raise _Failed("the server hung up")
        for message in framer.feed(data):
            transaction.receive(message, server, monotonic())
    return transaction.outcome
