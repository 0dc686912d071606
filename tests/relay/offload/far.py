"""The parties of the plane's tests, and the attacker's, at the far end of a wire."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from nattrav.net.address import TransportAddress
from nattrav.net.options import open_udp
from tests.natlab.namespaces import within
from tests.relay.io import test_attack
from tests.relay.io.pairs import Party, local_of
from tests.relay.offload.wires import PARTIES, PARTIES6, Wire

NAMES = dict(zip(("127.0.0.2", "127.0.0.3", "127.0.0.66"), PARTIES, strict=True))
"""Hosts of the attacker's tests, and who they are on the wire."""
MakeParty = Callable[..., Party]


def far_parties(cable: Wire) -> Iterator[MakeParty]:
    """Give what makes parties; they are closed afterwards."""
    made: list[Party] = []

    class FarParty(Party):
        def __init__(self, family: int = 4) -> None:
            host = (PARTIES if family == 4 else PARTIES6)[0]
            self.sock = within(cable.there, lambda: open_udp(TransportAddress(host, 0)))
            self.address = local_of(self.sock)

    def make(family: int = 4) -> Party:
        made.append(FarParty(family))
        return made[-1]

    yield make
    for each in made:
        each.sock.close()


def far_host(cable: Wire) -> type[test_attack.Host]:
    """Give the attacker's tests a host at the far end."""

    class FarHost(test_attack.Host):
        def opened(self, host: str, port: int) -> socket.socket:
            return within(cable.there, lambda: super(FarHost, self).opened(NAMES[host], port))

    return FarHost
