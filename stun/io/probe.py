"""Runs discovery and the tests beside it over real sockets."""

from __future__ import annotations

import secrets
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from nattrav.net.address import TransportAddress
from nattrav.net.clock import monotonic
from stun.attributes import AttributeType
from stun.discovery import ADVICE, Discovery, Findings, Label, Question, tries
from stun.gateway import Cascade, GatewayReport
from stun.io.client import UdpClient, local_address_towards, new_transaction_id
from stun.io.connections import TLS_PORT, OverStream, ask_tcp, ask_tls
from stun.lifetime import LifetimeSearch
from stun.message import BINDING, MessageClass, encode
from stun.observation import Claim, write_run
from stun.transaction import INTERACTIVE, Outcome, Schedule, Transaction, Verdict

T = AttributeType
_HAIRPIN_WAIT = 0.7
_HAIRPIN_SENDS = 3
_PATIENT = Schedule((0.0, 0.25, 0.75), 1.5)

Progress = Callable[[str, float | None], None]
"""Told what is being done, and the share of it that is done where that can be known."""


def silent(what: str, share: float | None = None) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Report:
    """All that a probe found out."""

    findings: Findings
    hairpin: bool | None = None
    hairpin_external: bool | None = None
    """A hairpinned packet shows its sender's mapped address (RFC 4787 REQ-9)."""
    tcp: OverStream | None = None
    tls: OverStream | None = None
    ipv6_mapped: TransportAddress | None = None
    gateway: GatewayReport | None = None
    lifetime: LifetimeSearch | None = None
    lifetime_refused: str | None = None
    steps: tuple[tuple[str, Question, Outcome], ...] = field(default=())

    @property
    def label(self) -> Label:
        """The classic name; UDP is blocked when the server answers over TCP or TLS alone."""
        return Label.UDP_BLOCKED if not self.findings.udp and self.over_stream else self.findings.label

    @property
    def over_stream(self) -> bool:
        """Whether the server answers over TCP or TLS."""
        return any(found is not None and found.mapped is not None for found in (self.tcp, self.tls))

    @property
    def cascade(self) -> Cascade | None:
        """How many NATs router and server show together; None when the router was not asked."""
        if self.gateway is None:
            return None
        local, mapped = self.findings.local, self.findings.mapped
        return self.gateway.cascade(None if local is None else local.host, None if mapped is None else mapped.host)

    @property
    def advice(self) -> str:
        """What it means for SIP."""
        return ADVICE[self.label]


@dataclass(frozen=True)
class Streams:
    """Which stream transports to ask over although UDP works, and how to know the server by its certificate."""

    tcp: bool = False
    tls: bool = False
    tls_port: int = TLS_PORT
    name: str = ""
    """The name its certificate must show; by default its address."""
    authority: str | None = None
    """PEM file of authorities to trust; by default the system's."""


class Prober:
    """One run against one server; all its sockets are closed at the end of `run`."""

    def __init__(self, server: TransportAddress, progress: Progress = silent, streams: Streams | None = None) -> None:
        self.server = server
        self._streams = streams or Streams()
        self._progress = progress
        self._run = secrets.token_bytes(8)
        self._clients: dict[str, UdpClient] = {}
        self._steps: list[tuple[str, Question, Outcome]] = []

    async def run(
        self, *, ipv6_server: TransportAddress | None = None, lifetime: LifetimeSearch | None = None
    ) -> Report:
        """Ask everything. OSError when this host has no route to the server."""
        host = local_address_towards(self.server)
        try:
            discovery = Discovery(self.server)
            await self._discover(host, discovery)
            findings = discovery.findings()
            if findings.udp:
                await self._report(host, findings)
            hairpin = await self._hairpin(host, findings, discovery.loss) if findings.udp else (None, None)
            tcp, tls = await self._over_streams(findings.udp)
            refused = None
            if lifetime is not None and findings.udp:
                refused = await self._lifetime(host, lifetime)
            return Report(
                findings,
                *hairpin,
                tcp=tcp,
                tls=tls,
                ipv6_mapped=await self._over_ipv6(ipv6_server) if ipv6_server is not None else None,
                lifetime=lifetime,
                lifetime_refused=refused,
                steps=tuple(self._steps),
            )
        finally:
            for client in self._clients.values():
                client.close()

    async def _client(self, name: str, host: str) -> UdpClient:
        if name not in self._clients:
            self._clients[name] = await UdpClient.open(TransportAddress(host, 0))
        return self._clients[name]

    async def _discover(self, host: str, discovery: Discovery) -> None:
        words = ("mapped address", "filtering and fragments", "mapping")
        while rounds := discovery.questions():
            self._progress(words[discovery.round - 1], (discovery.round - 1) / 3)
            async with trio.open_nursery() as nursery:
                for questions in rounds:
                    client = await self._client(questions[0].port, host)
                    discovery.locals[questions[0].port] = client.local
                    nursery.start_soon(self._ask_in_order, discovery, client, questions)

    async def _ask_in_order(self, discovery: Discovery, client: UdpClient, questions: list[Question]) -> None:
        for question in questions:
            request = question.request(new_transaction_id(), write_run(self._run, client.local))
            outcome = await client.ask(request, question.to, INTERACTIVE, expect_from=question.expect_from)
            discovery.tell(question, outcome)
            self._steps.append((question.name, question, outcome))

    async def _report(self, host: str, findings: Findings) -> None:
        """Tell a server of ours what was found; to others it is one more plain request."""
        client = await self._client("mapping", host)
        run = write_run(self._run, client.local, Claim(findings.mapping, findings.filtering))
        request = encode(BINDING, MessageClass.REQUEST, new_transaction_id(), [(int(T.RUN_ID), run)])
        await client.ask(request, self.server, _PATIENT)

    async def _hairpin(self, host: str, findings: Findings, loss: float) -> tuple[bool | None, bool | None]:
        """Ask ourselves at our own mapped address: does the request come back in? (RFC 4787 §6)"""
        if not findings.nat:
            return None, None
        self._progress("hairpinning", None)
        inner, outer = await self._client("hairpin-to", host), await self._client("hairpin-from", host)
        targets = []
        for client in (inner, outer):
            outcome = await client.ask(self._plain(client), self.server, _PATIENT)
            if not outcome.answered or outcome.mapped is None:
                return None, None
            targets.append(outcome.mapped)
        request = self._plain(outer)
        for _ in range(_HAIRPIN_SENDS * tries(loss, _HAIRPIN_SENDS)):
            with suppress(OSError):
                await outer.sock.sendto(request, targets[0])
            with trio.move_on_after(_HAIRPIN_WAIT):
                while True:
                    datagram, source = await inner.receive()
                    if datagram == request:
                        return True, source == targets[1]
        return False, None

    def _plain(self, client: UdpClient | None, *attributes: tuple[int, bytes]) -> bytes:
        run = write_run(self._run, None if client is None else client.local)
        return encode(BINDING, MessageClass.REQUEST, new_transaction_id(), [(int(T.RUN_ID), run), *attributes])

    async def _over_streams(self, udp: bool) -> tuple[OverStream | None, OverStream | None]:
        """Ask over TCP and TLS where that is wanted, and as a last resort: over TCP, then over TLS."""
        tcp = tls = None
        if self._streams.tcp or not udp:
            self._progress("TCP", None)
            tcp = await ask_tcp(self.server, lambda: self._plain(None))
        if self._streams.tls or not (udp or (tcp is not None and tcp.mapped)):
            self._progress("TLS", None)
            place = TransportAddress(self.server.host, self._streams.tls_port)
            context = ssl.create_default_context(cafile=self._streams.authority)
            tls = await ask_tls(place, self._streams.name or self.server.host, self._plain(None), context)
        return tcp, tls

    async def _over_ipv6(self, server: TransportAddress) -> TransportAddress | None:
        self._progress("IPv6", None)
        try:
            client = await UdpClient.open(TransportAddress(local_address_towards(server), 0))
        except OSError:
            return None
        try:
            return (await client.ask(self._plain(client), server, _PATIENT)).mapped
        finally:
            client.close()

    async def _lifetime(self, host: str, search: LifetimeSearch) -> str | None:
        """Run the rounds of a search; why it could not be run, if so."""
        begin = monotonic()
        while silences := search.round():
            results: dict[float, bool | str] = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._show_lifetime, begin, search, max(silences) + 2)
                async with trio.open_nursery() as tests:
                    for silence in silences:
                        tests.start_soon(self._survives, host, silence, results)
                nursery.cancel_scope.cancel()
            for silence in silences:
                result = results[silence]
                if isinstance(result, str):
                    return result
                search.tell(silence, result)
        return None

    async def _show_lifetime(self, begin: float, search: LifetimeSearch, seconds: float) -> None:
        started = monotonic()
        while True:
            self._progress(
                f"lifetime: {monotonic() - begin:.0f} s of at most {search.expected_seconds():.0f} s",
                min(1.0, (monotonic() - started) / seconds),
            )
            await trio.sleep(0.5)

    async def _survives(self, host: str, silence: float, results: dict[float, bool | str]) -> None:
        """Open a binding, keep silent, then have the server answer another socket's request to it (RESPONSE-PORT)."""
        kept = await UdpClient.open(TransportAddress(host, 0))
        asking = await UdpClient.open(TransportAddress(host, 0))
        try:
            opened = await kept.ask(self._plain(kept), self.server, _PATIENT)
            if not opened.answered or opened.mapped is None:
                results[silence] = "the server stopped answering"
                return
            await trio.sleep(silence)
            port = opened.mapped.port.to_bytes(2, "big") + b"\0\0"
            request = self._plain(asking, (int(T.RESPONSE_PORT), port))
            results[silence] = await _comes_back(kept, asking, request, self.server)
        finally:
            kept.close()
            asking.close()


async def _comes_back(kept: UdpClient, asking: UdpClient, request: bytes, server: TransportAddress) -> bool | str:
    """Tell whether a reply to `asking`'s request reaches `kept`; words when the server refuses."""
    transaction = Transaction(request, server, _PATIENT, monotonic())
    arrived: list[bool | str] = []

    async def listen(client: UdpClient, scope: trio.CancelScope, verdict: bool) -> None:
        while True:
            datagram, source = await client.receive()
            outcome = transaction.receive(datagram, source, monotonic())
            if outcome is None:
                continue
            if outcome.verdict is Verdict.REFUSED:
                arrived.append(f"the server refuses RESPONSE-PORT with {outcome.error} {outcome.reason}".rstrip())
            elif not verdict:
                arrived.append("the server ignores RESPONSE-PORT")
            else:
                arrived.append(True)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, kept, nursery.cancel_scope, True)
        nursery.start_soon(listen, asking, nursery.cancel_scope, False)
        while (due := transaction.next_timeout()) is not None:
            await trio.sleep(max(0.0, due - monotonic()))
            for effect in transaction.handle_timeout(monotonic()):
                with suppress(OSError):
                    await asking.sock.sendto(effect.data, effect.to)
        nursery.cancel_scope.cancel()
    return arrived[0] if arrived else False


async def ipv6_address(host: str, port: int) -> TransportAddress | None:
    """Find a server's IPv6 address, if it has one and this host can use it."""
    from stun.io.client import NoAddress, resolve

    try:
        address = await resolve(host, port, socket.AF_INET6)
        local_address_towards(address)
    except (NoAddress, OSError):
        return None
    return address
