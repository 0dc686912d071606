"""The relay's named interfaces: which local address and port pool a leg gets, and which address its SDP shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nattrav.net.address import NON_PUBLIC, AddressClass, TransportAddress, classify
from relay.ports import PortPool, PortState
from relay.session import Refusal

FAMILY_WORDS = ("internal", "external")
"""Without interfaces of these names older drivers mean IPv4 and IPv6 by them."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalAddress:
    """One address of an interface: what sockets bind to, what SDP shows, and where its ports come from."""

    interface: str
    host: str
    advertised: str
    pool: PortPool
    private: bool = field(init=False)
    """Bound inside a private network, so private remote addresses are plausible."""
    loopback: bool = field(init=False)
    family: int = field(init=False)
    """4 or 6."""

    def __post_init__(self) -> None:
        kind = classify(self.host)
        object.__setattr__(self, "private", kind in NON_PUBLIC)
        object.__setattr__(self, "loopback", kind is AddressClass.LOOPBACK)
        object.__setattr__(self, "family", 6 if ":" in self.host else 4)


class Interfaces:
    """Every interface by name; the first one is the default. Aliases map further names to them."""

    def __init__(self, addresses: Sequence[LocalAddress], aliases: dict[str, str] | None = None) -> None:
        if not addresses:
            raise ValueError("the relay needs at least one interface: NAME/ADDRESS")
        self.addresses = tuple(addresses)
        self.default = addresses[0].interface
        self._by_name: dict[str, list[LocalAddress]] = {}
        for address in addresses:
            self._by_name.setdefault(address.interface, []).append(address)
        self._aliases = aliases or {}
        for alias, name in self._aliases.items():
            if name not in self._by_name:
                raise ValueError(f"interface alias {alias!r} points to {name!r}, which is not an interface")

    @property
    def pools(self) -> list[PortPool]:
        """Every pool once."""
        return list(dict.fromkeys(address.pool for address in self.addresses))

    def named(self, name: str) -> bool:
        """Tell whether `name` is an interface or an alias of one."""
        return name in self._by_name or name in self._aliases

    def resolve(self, name: str | None) -> tuple[str, int | None]:
        """Give the interface that a driver's word means, and the family it implies.

        `internal` and `external` without such interfaces mean IPv4 and IPv6 on the default one, as older drivers
        use them. An unknown name is the default interface too.
        """
        if name is None:
            return self.default, None
        name = self._aliases.get(name, name)
        if name in self._by_name:
            return name, None
        if self.has("", 6) and name in FAMILY_WORDS:
            return self.default, 4 if name == "internal" else 6
        return self.default, None

    def has(self, name: str, family: int) -> bool:
        """Tell whether an interface ("" = the default one) has an address of that family."""
        return any(address.family == family for address in self._by_name[name or self.default])

    def address(self, name: str, family: int) -> LocalAddress:
        """Choose an interface's address of a family; Refusal when it has none."""
        for address in self._by_name[name]:
            if address.family == family:
                return address
        raise Refusal("Ran out of ports")

    def bound(self, shown: TransportAddress) -> TransportAddress:
        """Give the local address behind one that we show and have in use, else the address itself.

        A call may pass this relay twice. Where the advertised address is another than the bound one (1:1 NAT), what
        is sent to it would leave the host, and few networks send it back.
        """
        for address in self.addresses:
            if address.advertised == shown.host != address.host:
                pool = address.pool
                if pool.low <= shown.port <= pool.high and pool.state(shown.port) is PortState.USED:
                    return TransportAddress(address.host, shown.port)
        return shown

    def find(self, host: str, port: int) -> LocalAddress | None:
        """Find the address whose pool holds a local transport address."""
        for address in self.addresses:
            if address.host == host and address.pool.low <= port <= address.pool.high:
                return address
        return None


NEVER_A_TARGET = frozenset(
    {AddressClass.MULTICAST, AddressClass.BROADCAST, AddressClass.LINK_LOCAL, AddressClass.UNSPECIFIED}
)


def usable_target(host: str, local: LocalAddress) -> bool:
    """Tell whether media may be sent to a host at all: no multicast, no link-local, loopback only from loopback."""
    return _usable(host, local.loopback)


@lru_cache(maxsize=65536)
def _usable(host: str, from_loopback: bool) -> bool:
    kind = classify(host)
    return kind not in NEVER_A_TARGET and (from_loopback or kind is not AddressClass.LOOPBACK)


Span = tuple[str, int, int]
"""Host, first and last port of a pool."""


def overlapping(spans: Iterable[Span]) -> tuple[Span, Span] | None:
    """Find two pools that could give out the same port of one address."""
    seen: list[Span] = []
    for span in spans:
        for other in seen:
            if other[0] == span[0] and other[1] <= span[2] and span[1] <= other[2]:
                return other, span
        seen.append(span)
    return None
