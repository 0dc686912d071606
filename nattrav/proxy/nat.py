"""The named NAT tests on a first-hop request, and the verdict drawn from them.

Port tests mean something on datagrams only: a stream client's source port is always ephemeral. A host name is never
resolved here: it leaves a test undecided, which counts as not fired.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from nattrav.net.address import NON_PUBLIC, AddressClass, TransportAddress, canonical, classify


class NatTest(enum.Enum):
    """A sign of a NAT; the value is its name in records, metrics and `explain`."""

    CONTACT_NONPUBLIC = "contact_nonpublic"
    VIA_HOST_DIFFERS = "via_host_differs"
    VIA_NONPUBLIC = "via_nonpublic"
    SDP_NONPUBLIC = "sdp_nonpublic"
    VIA_PORT_DIFFERS = "via_port_differs"
    SOURCE_NONPUBLIC = "source_nonpublic"
    WEBSOCKET = "websocket"
    CONTACT_PORT_DIFFERS = "contact_port_differs"
    CONTACT_HOST_DIFFERS = "contact_host_differs"
    SDP_HOST_DIFFERS = "sdp_host_differs"
    CGNAT = "cgnat"
    CLAT = "clat"
    SOURCE_MOVED = "source_moved"


BY_ADDRESS = frozenset(
    {
        NatTest.CONTACT_NONPUBLIC,
        NatTest.VIA_NONPUBLIC,
        NatTest.VIA_HOST_DIFFERS,
        NatTest.CONTACT_HOST_DIFFERS,
        NatTest.SOURCE_NONPUBLIC,
        NatTest.WEBSOCKET,
    }
)
BY_PORT = frozenset({NatTest.VIA_PORT_DIFFERS, NatTest.CONTACT_PORT_DIFFERS})


@dataclass(frozen=True, slots=True)
class FirstHop:
    """What a request says of its sender and where it really came from. Hosts are as written, without brackets.

    `contact` is None without a Contact (or with `*`); `media_hosts` are the c= and a=rtcp addresses of its SDP.
    """

    transport: str
    source: TransportAddress
    via_host: str
    via_port: int | None
    rport: bool
    contact: tuple[str, int | None] | None = None
    media_hosts: tuple[str, ...] = ()
    listener_public: bool = True


@dataclass(frozen=True, slots=True)
class NatVerdict:
    """The tests that fired and what follows. `asymmetric`: only ports differ and no rport was asked for."""

    fired: frozenset[NatTest]
    nat: bool
    asymmetric: bool

    @property
    def names(self) -> list[str]:
        """Sorted names, for records."""
        return sorted(test.value for test in self.fired)


NO_NAT = NatVerdict(frozenset(), nat=False, asymmetric=False)


_SIGNS = frozenset(test.value for test in BY_ADDRESS | BY_PORT)


def is_nat(names: Iterable[str]) -> bool:
    """The tests with these names, kept with a binding, mean a NAT."""
    return not _SIGNS.isdisjoint(names)


_BY_ADDRESS = frozenset(test.value for test in BY_ADDRESS)


def is_asymmetric(names: Iterable[str]) -> bool:
    """Only ports differed: the device may send from another port than it listens on."""
    found = set(names)
    return NatTest.VIA_PORT_DIFFERS.value in found and _BY_ADDRESS.isdisjoint(found)


class NatTests:
    """Runs the tests; `local_nets` are subnets reached without a NAT."""

    def __init__(self, local_nets: Iterable[str] = ()) -> None:
        self._local = tuple(ipaddress.ip_network(net, strict=False) for net in local_nets)
        self._verdicts: dict[FirstHop, NatVerdict] = {}

    def examine(self, hop: FirstHop) -> NatVerdict:
        """Run every NAT test that the facts allow. Results are cached: phones repeat themselves."""
        verdict = self._verdicts.get(hop)
        if verdict is None:
            verdict = self._examine(hop)
            if len(self._verdicts) >= 20_000:
                self._verdicts.clear()
            self._verdicts[hop] = verdict
        return verdict

    def _examine(self, hop: FirstHop) -> NatVerdict:
        fired: set[NatTest] = set()
        datagram = hop.transport == "udp"
        shown: list[str] = []

        via = literal(hop.via_host)
        if via is not None:
            shown.append(via)
            if via != hop.source.host:
                fired.add(NatTest.VIA_HOST_DIFFERS)
            if self.nonpublic(via):
                fired.add(NatTest.VIA_NONPUBLIC)
        if datagram and (hop.via_port or 5060) != hop.source.port:
            fired.add(NatTest.VIA_PORT_DIFFERS)

        if hop.contact is not None:
            contact = literal(hop.contact[0])
            if contact is not None:
                shown.append(contact)
                if contact != hop.source.host:
                    fired.add(NatTest.CONTACT_HOST_DIFFERS)
                if self.nonpublic(contact):
                    fired.add(NatTest.CONTACT_NONPUBLIC)
                if datagram and (hop.contact[1] or 5060) != hop.source.port:
                    fired.add(NatTest.CONTACT_PORT_DIFFERS)

        for host in hop.media_hosts:
            address = literal(host)
            if address is None or classify(address) is AddressClass.UNSPECIFIED:
                continue
            shown.append(address)
            if self.nonpublic(address):
                fired.add(NatTest.SDP_NONPUBLIC)
            if address != hop.source.host:
                fired.add(NatTest.SDP_HOST_DIFFERS)

        if hop.listener_public and self.nonpublic(hop.source.host):
            fired.add(NatTest.SOURCE_NONPUBLIC)
        invalid = hop.via_host.endswith(".invalid") or (hop.contact is not None and hop.contact[0].endswith(".invalid"))
        if hop.transport in ("ws", "wss") or invalid:
            fired.add(NatTest.WEBSOCKET)
        kinds = {classify(host) for host in (*shown, hop.source.host) if self.nonpublic(host)}
        if AddressClass.CGNAT in kinds:
            fired.add(NatTest.CGNAT)
        if AddressClass.CLAT in kinds:
            fired.add(NatTest.CLAT)

        by_address = bool(fired & BY_ADDRESS)
        by_port = bool(fired & BY_PORT)
        return NatVerdict(
            frozenset(fired),
            nat=by_address or (by_port and hop.rport),
            asymmetric=NatTest.VIA_PORT_DIFFERS in fired and not by_address and not hop.rport,
        )

    def nonpublic(self, host: str) -> bool:
        """The literal address is of a class that shows a NAT, and not in a local net."""
        if classify(host) not in NON_PUBLIC:
            return False
        if not self._local:
            return True
        address = ipaddress.ip_address(host)
        return not any(address in net for net in self._local)


@lru_cache(maxsize=65536)
def literal(host: str) -> str | None:
    """Give the canonical form of a literal address (brackets allowed), None for a name."""
    try:
        return canonical(host.strip("[]"))
    except ValueError:
        return None
