"""A symmetric NAT in user space: a socket of its own for every pair of inside address and destination.

Mapping and filtering are both address-and-port-dependent (RFC 4787), the hardest kind; no privileges are needed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import trio

from nattrav.net.address import TransportAddress, canonical

Deliver = Callable[[bytes], None]


class SymmetricNat:
    """Translates for inside addresses that exist nowhere but in messages."""

    def __init__(self, outside: str, nursery: trio.Nursery) -> None:
        self.outside = outside
        self._nursery = nursery
        self._inside: dict[TransportAddress, Deliver] = {}
        self._mappings: dict[tuple[TransportAddress, TransportAddress], trio.socket.SocketType] = {}

    def attach(self, inside: TransportAddress, deliver: Deliver) -> None:
        """Give what arrives for `inside` to `deliver`."""
        self._inside[inside] = deliver

    async def send(self, inside: TransportAddress, destination: TransportAddress, data: bytes) -> None:
        """Let a datagram out, opening a mapping for this very destination when there is none."""
        key = (inside, destination)
        if key not in self._mappings:
            sock = trio.socket.socket(destination.family, trio.socket.SOCK_DGRAM)
            await sock.bind((self.outside, 0))
            self._mappings[key] = sock
            self._nursery.start_soon(self._listen, sock, inside, destination)
        try:
            await self._mappings[key].sendto(data, destination)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM):
                raise

    def mapped(self, inside: TransportAddress, destination: TransportAddress) -> TransportAddress | None:
        """The outside address of one mapping."""
        sock = self._mappings.get((inside, destination))
        return None if sock is None else TransportAddress(*sock.getsockname()[:2])

    async def _listen(
        self, sock: trio.socket.SocketType, inside: TransportAddress, destination: TransportAddress
    ) -> None:
        while True:
            try:
                data, source = await sock.recvfrom(65535)
            except ConnectionRefusedError:
                continue
            except trio.ClosedResourceError:
                return
            if TransportAddress(canonical(source[0]), source[1]) == destination:
                self._inside[inside](data)

    def close(self) -> None:
        """Drop every mapping."""
        for sock in self._mappings.values():
            sock.close()
        self._mappings.clear()
