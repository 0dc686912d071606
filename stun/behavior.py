"""Where the server listens and what CHANGE-REQUEST may choose from (RFC 5780 §3, §6).

A full set is two addresses of one family times two ports. An address without a partner answers in one-address
mode: no OTHER-ADDRESS, and CHANGE-REQUEST is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nattrav.net.address import AddressClass, TransportAddress, canonical, classify

CHANGE_MASK = 0x6


@dataclass(frozen=True)
class ServerAddress:
    """One address to serve, maybe with its partner; `advertised` stands in replies when a 1:1 NAT is in front."""

    host: str
    advertised: str = ""
    alternate: str = ""
    alternate_advertised: str = ""

    @classmethod
    def parse(cls, address: str, alternate: str = "") -> ServerAddress:
        """Read `ADDRESS[!ADVERTISED]` and the same for the partner. ValueError with the reason."""
        host, _, advertised = address.partition("!")
        other, _, other_advertised = alternate.partition("!")
        return cls(
            canonical(host),
            canonical(advertised) if advertised else "",
            canonical(other) if other else "",
            canonical(other_advertised) if other_advertised else "",
        )


@dataclass(frozen=True)
class Endpoint:
    """One address and port of the server."""

    local: TransportAddress
    """What the socket is bound to."""
    advertised: TransportAddress
    """What clients see: RESPONSE-ORIGIN, SOURCE-ADDRESS."""
    changed: tuple[int, int, int, int] | None = field(default=None)
    """Which endpoint answers for CHANGE-REQUEST flags / 2 (none, port, address, both); None without a full set."""


def lay_out(addresses: Sequence[ServerAddress], port: int, alternate_port: int) -> tuple[Endpoint, ...]:
    """Number the endpoints of all addresses: one each, four for a full set.

    Raises ValueError when a pair cannot work (RFC 5780 §3): the message says which rule it breaks.
    """
    endpoints: list[Endpoint] = []
    for address in addresses:
        first = address.advertised or address.host
        if not address.alternate:
            endpoints.append(Endpoint(TransportAddress(address.host, port), TransportAddress(first, port)))
            continue
        second = address.alternate_advertised or address.alternate
        _check_pair(address, first, second, port, alternate_port)
        start = len(endpoints)
        # Bit 1 of an endpoint's place is the address, bit 0 the port: changing one flips its bit.
        for place, (bound, shown, number) in enumerate(
            (
                (address.host, first, port),
                (address.host, first, alternate_port),
                (address.alternate, second, port),
                (address.alternate, second, alternate_port),
            )
        ):
            changed = (start + place, start + (place ^ 1), start + (place ^ 2), start + (place ^ 3))
            endpoints.append(Endpoint(TransportAddress(bound, number), TransportAddress(shown, number), changed))
    return tuple(endpoints)


def _check_pair(address: ServerAddress, first: str, second: str, port: int, alternate_port: int) -> None:
    if (":" in first) != (":" in second) or (":" in address.host) != (":" in address.alternate):
        raise ValueError(f"{address.host} and {address.alternate} are of different families")
    if address.host == address.alternate:
        raise ValueError(f"{address.host} cannot be its own alternate address")
    if first == second:
        raise ValueError(f"both addresses are advertised as {first}; RFC 5780 needs two")
    if port == alternate_port:
        raise ValueError(f"port and alternate port are both {port}; RFC 5780 needs two")
    for shown in (first, second):
        if classify(shown) is AddressClass.UNSPECIFIED:
            raise ValueError(f"{shown} cannot be advertised: write the address that clients reach")


def primary(endpoints: Sequence[Endpoint]) -> frozenset[int]:
    """The endpoints where clients begin: the first of every set, and those without one."""
    return frozenset(at for at, e in enumerate(endpoints) if e.changed is None or at == min(e.changed))


REFLECTION_PORTS = frozenset({0, 7, 13, 17, 19, 53, 69, 111, 123, 137, 161, 389})
"""Source ports that no client uses and that reflectors answer on: a reply there would feed a loop or a flood."""

_NO_CLIENT = frozenset({AddressClass.UNSPECIFIED, AddressClass.MULTICAST, AddressClass.BROADCAST})


class SourceScreen:
    """Which sources are never answered: reflectors' ports, our own endpoints, addresses nobody can have."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.own = frozenset(a for e in endpoints for a in (e.local, e.advertised))

    def refuses(self, source: TransportAddress) -> bool:
        """True when no reply may go to this address."""
        return source.port in REFLECTION_PORTS or source in self.own or self._refuses_host(source.host)

    @staticmethod
    def _refuses_host(host: str) -> bool:
        if ":" not in host:
            first = int(host.partition(".")[0])
            return first == 0 or first >= 224
        return classify(host) in _NO_CLIENT
