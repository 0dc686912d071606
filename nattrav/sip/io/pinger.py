"""Sends requests to one place and waits for the answers: a client transaction, a transport, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic
from nattrav.net.options import open_udp
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.resolve import Abilities, wanted_by_uri
from nattrav.sip.timers import Timers
from nattrav.sip.transaction import ClientNonInvite, Outcome, client_key
from nattrav.sip.transport.flow import Flow, Incoming, Outgoing, SendFailed, Target
from nattrav.sip.transport.io.resolver import NameService
from nattrav.sip.transport.io.tls import TlsContexts
from nattrav.sip.transport.io.transports import Transports
from nattrav.sip.uri import SipUri

_ABLE = Abilities(("udp", "tcp", "tls", "ws", "wss"), (4, 6))


class NoWay(Exception):
    """There is no next hop for a URI; the message says why."""


class Answer(NamedTuple):
    """How a request went: the final response, or why there is none, and the seconds it took."""

    response: Response | None
    failure: str
    seconds: float


def seen_as(response: Response) -> str:
    """The address the request came from as the server saw it (RFC 3581); empty when it does not say."""
    via = response.via
    return f"{via.received or ''}{f':{via.rport}' if via.rport else ''}"


class Pinger:
    """Requests to the first next hop of a URI, one at a time. Used by one task."""

    def __init__(self, uri: SipUri, to: Flow | Target, local: TransportAddress, transports: Transports) -> None:
        self._uri = uri
        self._to = to
        self._local = local
        self._transports = transports
        self._answers: dict[tuple[str | int, ...], Response] = {}
        self._failure = ""
        self._woken = trio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, uri: SipUri, *, trusted: Path | None = None) -> AsyncIterator[Pinger]:
        """Find the next hop and open a transport to it. Raises NoWay, and OSError without a network."""
        hops = await NameService(_ABLE).resolve(wanted_by_uri(uri))
        if not hops.targets:
            raise NoWay(hops.reason)
        target = hops.targets[0]
        pinger: Pinger | None = None

        def deliver(batch: list[Incoming]) -> None:
            if pinger is not None:
                pinger._receive(batch)

        transports = Transports(deliver, tls=TlsContexts((), trusted=trusted))
        local = TransportAddress("::" if ":" in target.remote.host else "0.0.0.0", 0)
        to: Flow | Target = target
        if target.transport == "udp":
            sock = open_udp(local)
            # Connecting would hide answers from other addresses; this only asks the kernel which address it takes.
            probe = open_udp(local)
            probe.connect(target.remote)
            local = TransportAddress(probe.getsockname()[0], sock.getsockname()[1])
            probe.close()
            listener = transports.add_udp(sock)
            to = Flow("udp", listener.id, listener.local, target.remote)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: transports.run(task_status=task_status))
            pinger = cls(uri, to, local, transports)
            yield pinger
            nursery.cancel_scope.cancel()

    @property
    def to(self) -> Flow | Target:
        """The next hop."""
        return self._to

    @property
    def local(self) -> TransportAddress:
        """The address we send from, as this host knows it; without a port for what is not UDP."""
        return self._local

    async def exchange(self, method: str, branch: str, data: bytes, patience: float) -> Answer:
        """Run the client transaction of a request that is not INVITE; no response after `patience` seconds."""
        begun = monotonic()
        reliable = self._to.transport != "udp"
        transaction = ClientNonInvite(
            (branch, method), begun, reliable=reliable, message=data, timers=Timers(), give_up=patience
        )
        self._failure = ""
        self._transports.send([Outgoing(self._to, data, branch)])
        while transaction.key not in self._answers and not self._failure and not transaction.ended:
            with trio.move_on_after(max(0.0, transaction.next_timeout() - monotonic())):
                await self._woken.wait()
            self._woken = trio.Event()
            if Outcome.SEND in transaction.handle_timeout(monotonic()):
                self._transports.send([Outgoing(self._to, data, branch)])
        response = self._answers.pop(transaction.key, None)
        return Answer(response, "" if response else self._failure or "no answer", monotonic() - begun)

    async def ping(self, patience: float, user: str) -> dict[str, Any]:
        """Send one OPTIONS and describe the answer; `status` is None after `patience` seconds without one."""
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        found = await self.exchange("OPTIONS", branch, self._options(branch, user), patience)
        answer = found.response
        if answer is None:
            return {"status": None, "reason": found.failure, "ms": None, "seen_as": "", "from": "", "server": ""}
        return {
            "status": answer.status,
            "reason": answer.reason,
            "ms": round(found.seconds * 1000, 2),
            "seen_as": seen_as(answer),
            "from": str(self._to.remote),
            "server": answer.user_agent or "",
        }

    def _options(self, branch: str, user: str) -> bytes:
        us = f"<sip:{user}@{self._local}>"
        return (
            f"OPTIONS {self._uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self._to.transport.upper()} {self._local};branch={branch};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: {us};tag={secrets.token_hex(4)}\r\nTo: <{self._uri}>\r\n"
            f"Call-ID: {secrets.token_hex(12)}\r\nCSeq: 1 OPTIONS\r\nContact: {us}\r\n"
            "User-Agent: nattrav\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def _receive(self, batch: list[Incoming]) -> None:
        for _, item in batch:
            if isinstance(item, SendFailed):
                self._failure = item.reason
            elif isinstance(item, bytes):
                try:
                    message = parse_datagram_untrusted(item)
                except MalformedMessage:
                    continue
                if isinstance(message, Response) and message.status >= 200:
                    self._answers[client_key(message)] = message
        self._woken.set()
