"""Transactions over real sockets: one UDP socket of trio's, one request, one outcome."""

from __future__ import annotations

import secrets
import socket

import trio

from nattrav.net.address import TransportAddress, canonical
from nattrav.net.clock import monotonic
from stun.transaction import INTERACTIVE, Outcome, Schedule, Transaction

_DATAGRAM = 65536


def new_transaction_id() -> bytes:
    """Give a random 96-bit transaction id."""
    return secrets.token_bytes(12)


class NoAddress(Exception):
    """A host name has no address of the wanted family."""


async def resolve(host: str, port: int, family: socket.AddressFamily | int = socket.AF_UNSPEC) -> TransportAddress:
    """Find a server's address; IPv4 first unless a family is asked for. Raises NoAddress."""
    try:
        found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise NoAddress(f"{host}: {error.strerror}") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return TransportAddress(canonical(str(found[0][4][0]).partition("%")[0]), port)


class UdpClient:
    """One local port, from which transactions run one at a time."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.sock = sock

    @classmethod
    async def open(cls, local: TransportAddress) -> UdpClient:
        """Bind a socket. Raises OSError."""
        sock = trio.socket.socket(local.family, socket.SOCK_DGRAM)
        try:
            await sock.bind(local)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @property
    def local(self) -> TransportAddress:
        """Where the socket is bound."""
        name = self.sock.getsockname()
        return TransportAddress(canonical(name[0]), name[1])

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    async def ask(
        self,
        request: bytes,
        to: TransportAddress,
        schedule: Schedule = INTERACTIVE,
        *,
        expect_from: TransportAddress | None = None,
    ) -> Outcome:
        """Run one transaction to its end."""
        transaction = Transaction(request, to, schedule, monotonic(), expect_from=expect_from)
        while transaction.outcome is None:
            for effect in transaction.handle_timeout(monotonic()):
                await self._send(effect.data, effect.to)
            due = transaction.next_timeout()
            if due is None:
                break
            with trio.move_on_after(max(0.0, due - monotonic())):
                datagram, source = await self.receive()
                transaction.receive(datagram, source, monotonic())
        assert transaction.outcome is not None
        return transaction.outcome

    async def _send(self, data: bytes, to: TransportAddress) -> None:
        try:
            await self.sock.sendto(data, to)
        except OSError:
            # No route or a full queue: for the transaction that is a lost datagram, and it will try again.
            return

    async def receive(self) -> tuple[bytes, TransportAddress]:
        """Wait for a datagram."""
        while True:
            try:
                data, name = await self.sock.recvfrom(_DATAGRAM)
            except OSError:
                # An ICMP error for an earlier datagram; the transaction's timer decides.
                await trio.sleep(0.01)
                continue
            return data, TransportAddress(canonical(str(name[0]).partition("%")[0]), int(name[1]))


def local_address_towards(server: TransportAddress) -> str:
    """Give the local address from which this host would reach a server. Raises OSError without a route."""
    with socket.socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.connect((server.host, server.port or 9))
        return canonical(str(sock.getsockname()[0]).partition("%")[0])
