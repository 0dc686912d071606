"""The [relay] table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from nattrav.config.types import Duration, PortNumber, Section
from nattrav.net.address import AddressClass, canonical, classify

_INTERFACE = 'write "NAME/ADDRESS", "NAME/ADDRESS!ADVERTISED" or "auto"'
_NOBODYS = frozenset({AddressClass.UNSPECIFIED, AddressClass.MULTICAST, AddressClass.BROADCAST})
_RANGE = 'write a range of ports such as "30000-39999"'


@dataclass(frozen=True, slots=True)
class RelayInterface:
    """One entry of `interfaces`: bind to `host`, show `advertised` in SDP. `host` is None for `auto`."""

    name: str
    host: str | None = None
    advertised: str | None = None

    @classmethod
    def parse(cls, text: str) -> RelayInterface:
        """Read `public/203.0.113.1!198.51.100.7`, a bare address, or `auto`. ValueError with the remedy."""
        name, slash, rest = text.partition("/")
        if not slash:
            name, rest = "default", text
        host, mark, advertised = rest.partition("!")
        if not name or not all(letter.isalnum() or letter in "-_." for letter in name):
            raise ValueError(f"{text!r} has no usable interface name: {_INTERFACE}")
        try:
            shown = canonical(advertised.strip("[]")) if mark else None
            bound = None if host == "auto" else canonical(host.strip("[]"))
        except ValueError as error:
            raise ValueError(f"{error}: {_INTERFACE}") from None
        for one in (bound, shown):
            if one is not None and classify(one) in _NOBODYS:
                raise ValueError(f"{one!r} cannot stand in SDP, for nobody can send media to it: {_INTERFACE}")
        return cls(name, bound, shown)

    def __str__(self) -> str:
        host = "auto" if self.host is None else self.host
        return f"{self.name}/{host}" + (f"!{self.advertised}" if self.advertised else "")


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `low` to `high`, both included."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Read `30000-39999`. ValueError with the remedy."""
        low, _, high = text.partition("-")
        if not (low.strip().isdigit() and high.strip().isdigit()):
            raise ValueError(f"{text!r} is no port range: {_RANGE}")
        found = cls(int(low), int(high))
        if not 1024 <= found.low < found.high <= 65535:
            raise ValueError(f"{text!r} is not within 1024-65535, lower port first: {_RANGE}")
        if found.pairs < 2:
            raise ValueError(f"{text!r} has no two pairs of ports (even, odd), which a call takes: {_RANGE}")
        return found

    @property
    def pairs(self) -> int:
        """Pairs of an even port for RTP and the odd one above it for RTCP."""
        return (self.high + 1) // 2 - (self.low + 1) // 2

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


def _interface(value: Any) -> str:
    return str(RelayInterface.parse(str(value)))


def _ports(value: Any) -> str:
    return str(PortRange.parse(str(value)))


def _private_network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f"{error}: write a network such as 10.0.0.0/8") from None


InterfaceText = Annotated[
    str, BeforeValidator(_interface), WithJsonSchema({"type": "string", "pattern": r"^([\w.-]+/)?[^!/]+(![^!/]+)?$"})
]
PortRangeText = Annotated[str, BeforeValidator(_ports), WithJsonSchema({"type": "string", "pattern": r"^\d+-\d+$"})]
NetworkText = Annotated[str, AfterValidator(_private_network)]


class RelaySection(Section):
    """The RTP relay: its addresses and ports, whom it believes, when a session ends, how much it takes on."""

    restart: ClassVar = frozenset(
        {
            "threads",
            "pin_threads",
            "backend",
            "transmit",
            "offload",
            "offload_interfaces",
            "offload_mode",
            "coalesce",
            "restore",
        }
    )

    interfaces: list[InterfaceText] = Field(default=["default/auto"], min_length=1)
    """Media addresses: `NAME/ADDRESS` or `NAME/ADDRESS!ADVERTISED`; `auto` = this host's. The first is the default."""
    aliases: dict[str, str] = {}
    """Further names for interfaces, as drivers may use them: `{ external = "public" }`."""
    ports: PortRangeText = "30000-39999"
    """Ports for media, both ends included; every interface has this range for itself."""
    interface_ports: dict[str, PortRangeText] = {}
    """Another port range for some interfaces, by name."""
    excluded_ports: list[PortNumber] = []
    """Ports of the ranges that are never used."""
    quarantine: Duration = 5.0
    """Rest of a released port before it is used again, so that late packets cannot enter another call."""
    threads: int = Field(default=0, ge=0, le=256)
    """Data threads; 0 = one per processor."""
    pin_threads: bool = False
    """Bind each data thread to one processor."""
    backend: Literal["auto", "io_uring", "portable"] = "auto"
    """How packets are moved; `auto` = io_uring where the kernel allows it."""
    transmit: Literal["socket", "frame"] = "socket"
    """How packets of settled flows leave: `frame` = past the kernel's routing and packet filter (CAP_NET_RAW)."""
    offload: Literal["off", "auto", "xdp"] = "off"
    """Have the kernel forward RTP of latched flows by XDP: `auto` = where it can, `xdp` = start only where it can."""
    offload_interfaces: list[str] = []
    """Network interfaces that media comes in by, such as `eth0`; empty = those that carry the media addresses."""
    offload_mode: Literal["auto", "native", "generic"] = "auto"
    """Forward in the NIC's driver (`native`) or before the network stack (`generic`); `auto` = native where safe."""
    coalesce: Duration = Field(default=0.001, le=0.01)
    """Longest time a packet may wait for company at low load."""
    learning: Literal["heuristic", "delayed", "immediate", "off"] = "heuristic"
    """How a party's real address is learned unless the driver says otherwise."""
    learning_window: Duration = Field(default=3.0, gt=0, le=30.0)
    """How long after signalling a party's address may be learned."""
    strict_source: bool = True
    """After learning, drop packets from anywhere else even if the driver does not ask for it."""
    continuity_relearn: bool = False
    """Follow a silent party to a new address that continues its RTP stream (for phones that change networks)."""
    validate_rtp: bool = True
    """Drop what is not RTP or RTCP on RTP streams."""
    reachable_networks: list[NetworkText] = []
    """Private networks that public interfaces reach; media is sent to others only after a packet came from there."""
    tos: int | None = Field(default=None, ge=0, le=255)
    """TOS or traffic class octet of media we send; 184 = expedited forwarding. Absent = the system's default."""
    packet_size: int = Field(default=1500, ge=256, le=9000)
    """Largest datagram passed on."""
    audio_packet_rate: int = Field(default=1000, ge=50)
    """Packets per second that one audio or fax port accepts."""
    video_packet_rate: int = Field(default=10000, ge=50)
    """Packets per second that one video port accepts."""
    timeout: Duration = 60.0
    """End a session when no party that should send was heard for this long; 0 = never."""
    silent_timeout: Duration = 3600.0
    """The same for sessions on hold; 0 = never."""
    offer_timeout: Duration = 240.0
    """End a session whose offer nobody answered; 0 = never."""
    final_timeout: Duration = 0.0
    """End any session at this age; 0 = never."""
    delete_delay: Duration = 0.0
    """Keep a deleted session this long, so that late messages can revive it."""
    one_way_grace: Duration = 10.0
    """Call a session one-way or without media after this long."""
    max_sessions: int = Field(default=0, ge=0)
    """Refuse new sessions beyond this number; 0 = no limit."""
    max_port_use: float = Field(default=0.95, gt=0, le=1)
    """Refuse new sessions when this share of a port range is in use."""
    max_packet_rate: int = Field(default=0, ge=0)
    """Refuse new sessions above this many received packets per second; 0 = no limit."""
    max_bandwidth: int = Field(default=0, ge=0)
    """Refuse new sessions above this many received bytes per second; 0 = no limit."""
    restore: bool = True
    """Keep sessions over a restart of the relay."""

    @model_validator(mode="after")
    def _names_exist(self) -> RelaySection:
        names = {RelayInterface.parse(text).name for text in self.interfaces}
        for key, wanted in (("aliases", self.aliases.values()), ("interface_ports", self.interface_ports)):
            for name in wanted:
                if name not in names:
                    raise ValueError(
                        f"{key} names {name!r}, which is not in interfaces: use one of {', '.join(sorted(names))}"
                    )
        return self

    @property
    def ports_stated(self) -> bool:
        """The operator chose port ranges of his own."""
        return bool(self.interface_ports) or self.ports != type(self).model_fields["ports"].default

    def chosen_interfaces(self) -> list[RelayInterface]:
        """Give the interfaces as values."""
        return [RelayInterface.parse(text) for text in self.interfaces]

    def port_range(self, interface: str) -> PortRange:
        """Give the port range of an interface."""
        return PortRange.parse(self.interface_ports.get(interface, self.ports))
