"""The named NAT tests on a first-hop request, and the verdict drawn from them.

Port tests mean something on datagrams only: a stream client's source port is always ephemeral. A host name is never
resolved here: it leaves a test undecided, which counts as not fired.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

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

    # Members are single objects; the hash that enum gives them is a call of Python code on every use of a set.
    __hash__ = object.__hash__


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


class FirstHop(NamedTuple):
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


@dataclass(frozen=True)
class NatVerdict:
    """The tests that fired and what follows. `asymmetric`: only ports differ and no rport was asked for."""

    fired: frozenset[NatTest]
    nat: bool
    asymmetric: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Sorted names, for records."""
        return tuple(sorted(test.value for test in self.fired))


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


_TELLTALE = tuple(NON_PUBLIC)


class NatTests:
    """Runs the tests; `local_nets` are subnets reached without a NAT."""

    def __init__(self, local_nets: Iterable[str] = ()) -> None:
        self._local = tuple(ipaddress.ip_network(net, strict=False) for net in local_nets)
        self._verdicts: dict[tuple[tuple[NatTest, ...], bool], NatVerdict] = {}
        self._given: dict[tuple[str, ...], int] = {}

    def examine(self, hop: FirstHop) -> NatVerdict:
        """Run every NAT test that the facts allow. The same tests give the same verdict object."""
        fired: list[NatTest] = []
        kinds: list[AddressClass | None] = []
        source, port = hop.source
        datagram = hop.transport == "udp"

        via = literal(hop.via_host)
        if via is not None:
            if via != source:
                fired.append(NatTest.VIA_HOST_DIFFERS)
            kind = self._telltale(via)
            if kind is not None:
                fired.append(NatTest.VIA_NONPUBLIC)
                kinds.append(kind)
        if datagram and (hop.via_port or 5060) != port:
            fired.append(NatTest.VIA_PORT_DIFFERS)

        if hop.contact is not None:
            contact = literal(hop.contact[0])
            if contact is not None:
                if contact != source:
                    fired.append(NatTest.CONTACT_HOST_DIFFERS)
                kind = self._telltale(contact)
                if kind is not None:
                    fired.append(NatTest.CONTACT_NONPUBLIC)
                    kinds.append(kind)
                if datagram and (hop.contact[1] or 5060) != port:
                    fired.append(NatTest.CONTACT_PORT_DIFFERS)

        for host in hop.media_hosts:
            address = literal(host)
            if address is None or classify(address) is AddressClass.UNSPECIFIED:
                continue
            kind = self._telltale(address)
            if kind is not None:
                fired.append(NatTest.SDP_NONPUBLIC)
                kinds.append(kind)
            if address != source:
                fired.append(NatTest.SDP_HOST_DIFFERS)

        kind = self._telltale(source)
        if kind is not None:
            kinds.append(kind)
            if hop.listener_public:
                fired.append(NatTest.SOURCE_NONPUBLIC)
        invalid = hop.via_host.endswith(".invalid") or (hop.contact is not None and hop.contact[0].endswith(".invalid"))
        if hop.transport in ("ws", "wss") or invalid:
            fired.append(NatTest.WEBSOCKET)
        if AddressClass.CGNAT in kinds:
            fired.append(NatTest.CGNAT)
        if AddressClass.CLAT in kinds:
            fired.append(NatTest.CLAT)

        key = (tuple(fired), hop.rport)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdict(frozenset(fired), rport=hop.rport)
            if len(self._verdicts) < 1000:
                self._verdicts[key] = verdict
        names = verdict.names
        self._given[names] = self._given.get(names, 0) + 1
        return verdict

    def take_detections(self) -> dict[str, int]:
        """Give how often each test fired since the last call, by name."""
        given, self._given = self._given, {}
        found: dict[str, int] = {}
        for names, times in given.items():
            for name in names:
                found[name] = found.get(name, 0) + times
        return found

    @staticmethod
    def _verdict(fired: frozenset[NatTest], *, rport: bool) -> NatVerdict:
        by_address = not fired.isdisjoint(BY_ADDRESS)
        by_port = not fired.isdisjoint(BY_PORT)
        return NatVerdict(
            fired,
            nat=by_address or (by_port and rport),
            asymmetric=NatTest.VIA_PORT_DIFFERS in fired and not by_address and not rport,
        )

    def _telltale(self, host: str) -> AddressClass | None:
        """The class of a literal address when it shows a NAT and is not in a local net."""
        kind = classify(host)
        if kind not in _TELLTALE:
            return None
        if not self._local:
            return kind
        address = ipaddress.ip_address(host)
        return None if any(address in net for net in self._local) else kind


@lru_cache(maxsize=65536)
def literal(host: str) -> str | None:
    """Give the canonical form of a literal address (brackets allowed), None for a name."""
    try:
        return canonical(host.strip("[]"))
    except ValueError:
        return None
