"""The [stun] table."""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from nattrav.config.types import Duration, PortNumber, Section, SocketAddress
from nattrav.net.address import canonical


def listen_address(value: str) -> str:
    """Check `ADDRESS` or `auto`, with or without `!ADVERTISED`, and give the canonical spelling."""
    address, mark, advertised = value.partition("!")
    try:
        shown = mark + canonical(advertised.strip("[]")) if mark else ""
        return (address if address == "auto" else canonical(address.strip("[]"))) + shown
    except ValueError as error:
        raise ValueError(f'{error}: write "ADDRESS" or "auto", with or without "!ADVERTISED"') from None


def prefix(value: str) -> str:
    """Check an address prefix such as `192.0.2.0/24`."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f'{value!r} is not a prefix: write "192.0.2.0/24" or "2001:db8::/32"') from None


ListenAddress = Annotated[str, AfterValidator(listen_address)]
Prefix = Annotated[str, AfterValidator(prefix)]
Rate = Annotated[float, Field(ge=0)]


class StunSection(Section):
    """The STUN server: where it listens, what it answers, and how much."""

    restart: ClassVar = frozenset(
        {
            "listen",
            "alternate",
            "port",
            "alternate_port",
            "tcp",
            "tls_port",
            "tls_alternate_port",
            "threads",
            "offload",
            "offload_interfaces",
            "offload_mode",
            "nat_records",
        }
    )

    listen: list[ListenAddress] = Field(default=["auto"], min_length=1)
    """Addresses to serve, each "ADDRESS" or "ADDRESS!ADVERTISED" when a 1:1 NAT is in front; "auto" is this host's
    address towards the world (or "auto!ADVERTISED") and loopback, "0.0.0.0" and "::" every address of the family."""
    alternate: list[ListenAddress] = []
    """Second addresses, at most one a family: the first listen address of that family and this one, on two ports each,
    let clients find out their NAT's behaviour (RFC 5780). Without one CHANGE-REQUEST is refused."""
    port: PortNumber = 3478
    """UDP port."""
    alternate_port: PortNumber = 3479
    """The other port of a pair of addresses."""
    tcp: bool = True
    """Serve TCP on the same addresses and ports."""
    tls_port: PortNumber = 5349
    """Port of TLS, once there is a certificate."""
    tls_alternate_port: PortNumber = 5350
    """Other TLS port of a pair of addresses."""
    tls_certificate: str = ""
    """PEM file of the certificate chain; empty switches TLS off. Read again when the file changes."""
    tls_key: str = ""
    """PEM file of its private key."""
    connections: Annotated[int, Field(ge=0)] = 1000
    """TCP and TLS connections at a time."""
    connections_per_host: Annotated[int, Field(ge=1)] = 16
    """TCP and TLS connections of one address at a time."""
    connection_idle: Duration = 60
    """A connection without a request for so long is closed."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Data threads; one serves about a core's worth of requests."""
    offload: Literal["off", "auto", "xdp"] = "off"
    """Have the kernel answer clients that come back within seconds, by XDP: `auto` = where it can, `xdp` = start only
    where it can. Firewall rules do not see what it answers."""
    offload_interfaces: list[str] = []
    """Network interfaces that requests come in by, such as `eth0`; empty = those that carry the STUN addresses."""
    offload_mode: Literal["auto", "native", "generic"] = "auto"
    """Answer in the NIC's driver (`native`) or before the network stack (`generic`); `auto` = native where safe."""
    classic: Literal["on", "plain", "off"] = "on"
    """Clients of RFC 3489: answered in full, without behaviour discovery, or not at all."""
    software: Annotated[str, Field(max_length=100)] = ""
    """SOFTWARE attribute of replies; empty leaves it out, which keeps them small."""
    minimal: bool = False
    """Answer with the mapped address alone; behaviour discovery is then refused."""
    strict_change_request: bool = False
    """Refuse CHANGE-REQUEST without flags too where there is no alternate address. RFC 5780 says so, yet common clients
    send it always."""
    response_port: bool = True
    """Follow RESPONSE-PORT (RFC 5780), which clients need to measure how long a NAT keeps a binding."""
    response_address: Literal["off", "same_ip"] = "off"
    """Follow RESPONSE-ADDRESS (RFC 3489, TR-111) to the address the request came from, or refuse it."""
    padding_limit: Annotated[int, Field(ge=0, le=65000)] = 1500
    """Largest PADDING in a reply, in bytes; a reply never has more than its request brought."""
    credentials: Literal["none", "short-term", "long-term"] = "none"
    """Demand credentials (RFC 8489 §9). A server for the public should not."""
    realm: str = ""
    """Realm of long-term credentials."""
    users: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """User names and passwords of the credentials."""
    alternate_servers: list[SocketAddress] = []
    """Where authenticated clients are sent with 300 Try Alternate, at most one a family; normally empty."""
    alternate_domain: str = ""
    """Name in the certificate of the alternate server, for clients on TLS."""
    source_rate: Rate = 50
    """Replies a second to one IPv4 address or IPv6 /64; 0 lifts the limit. RFC 5780 clients need at least 20."""
    source_burst: Rate = 200
    """Replies that one source may get at once."""
    network_rate: Rate = 2000
    """Replies a second to one IPv4 /24 or IPv6 /48; 0 lifts the limit."""
    network_burst: Rate = 8000
    """Replies that one network may get at once."""
    error_rate: Rate = 20
    """Error responses, and replies to a port that the request chose, a second to one source; 0 lifts the limit."""
    error_burst: Rate = 100
    """Error responses that one source may get at once; then it gets none for ten seconds."""
    total_rate: Rate = 0
    """Replies a second of the whole server; 0 sets no ceiling."""
    exempt: list[Prefix] = ["127.0.0.0/8", "::1/128"]
    """Prefixes that source and network limits leave alone."""

    nat_records: bool = True
    """Keep a record of the NAT behind each client address, from the requests the server sees anyway."""
    nat_records_max: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Addresses kept; the least recently seen go first."""
    nat_records_retention: Duration = 86400
    """An address that is not seen for so long is forgotten."""
    nat_records_show: Literal["full", "prefix", "hash"] = "full"
    """How lists show addresses: in full, as their /24 or /48, or as a keyed hash that changes every day."""

    @model_validator(mode="after")
    def _pair(self) -> StunSection:
        if self.alternate and self.port == self.alternate_port:
            raise ValueError("alternate_port must differ from port, for RFC 5780 needs two ports: set another")
        families = [":" in address for address in self.alternate]
        if len(set(families)) < len(families):
            raise ValueError("alternate names two addresses of one family: keep one IPv4 and one IPv6 address")
        if any(address.partition("!")[0] == "auto" for address in self.alternate):
            raise ValueError('alternate cannot be "auto": name the second address')
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key belong together: name both files or neither")
        if self.tls_certificate and {self.tls_port, self.tls_alternate_port} & {self.port, self.alternate_port}:
            raise ValueError("TLS shares a port with TCP: give tls_port and tls_alternate_port others")
        return self

    @model_validator(mode="after")
    def _credentials(self) -> StunSection:
        if self.credentials != "none" and not self.users:
            raise ValueError("credentials are demanded and nobody has any: add [stun.users]")
        if self.credentials == "long-term" and not self.realm:
            raise ValueError("long-term credentials need a realm: set realm")
        if self.alternate_servers and self.credentials == "none":
            raise ValueError("only authenticated clients may be sent elsewhere: set credentials too")
        return self
