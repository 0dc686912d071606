"""Values of the [sip] table that are more than a word: listeners, host names, next hops."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from nattrav.net.address import AddressClass, canonical, classify

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
NOBODYS = frozenset({AddressClass.UNSPECIFIED, AddressClass.MULTICAST, AddressClass.BROADCAST})
"""Addresses that no peer can send to one host by."""

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$")
_PORT_LIKE = re.compile(r"[1-9]\d{3}$")
_NEXT_HOP = 'write "HOST[:PORT]" or "sip:HOST[:PORT][;transport=tcp]"'


@dataclass(frozen=True)
class Listen:
    """One entry of `[sip] listen`, taken apart. `host` is a literal address, a wildcard or `auto`."""

    transports: tuple[str, ...]
    host: str
    port: int | None
    advertised: str | None


def parse_listen(text: str) -> Listen:
    """Read `[TRANSPORT:]ADDRESS[:PORT][!ADVERTISED]`; without a transport it means UDP and TCP."""
    rest, _, advertised = text.partition("!")
    transports: tuple[str, ...] = ("udp", "tcp")
    head, colon, tail = rest.partition(":")
    if colon and head in TRANSPORTS:
        transports, rest = (head,), tail
    elif colon and head.isalpha() and head != "auto" and not tail.startswith(":"):
        raise ValueError(f"{head!r} is not a transport: write one of {', '.join(TRANSPORTS)}")
    host, port = _host_and_port(rest)
    if host != "auto":
        host = canonical(host)
        if classify(host) in NOBODYS - {AddressClass.UNSPECIFIED}:
            raise ValueError(f"{host!r} belongs to no single host: write an address of this host, or auto")
    if advertised:
        advertised = host_name(advertised)
        _somebodys(advertised)
    return Listen(transports, host, port, advertised or None)


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError(f"{text!r}: write an IPv6 address as [ADDRESS]:PORT")
        colon, port_text = tail[:1], tail[1:]
    elif text.count(":") == 1:
        host, colon, port_text = text.partition(":")
    else:
        host, colon, port_text = text, "", ""
        before, _, last = text.rpartition(":")
        if before and _PORT_LIKE.match(last):
            raise ValueError(f"{text!r} may mean a port or not: write [{before}]:{last} or [{text}]")
    if not colon:
        return host, None
    if not (port_text.isascii() and port_text.isdigit()) or not 0 <= int(port_text) <= 65535:
        raise ValueError(f"{port_text!r} is not a port number: write 1 to 65535")
    return host, int(port_text)


def _somebodys(host: str) -> None:
    try:
        kind = classify(host)
    except ValueError:
        return
    if kind in NOBODYS:
        raise ValueError(f"{host!r} cannot be reached by anybody: advertise the address that phones can send to")


def listen_text(value: str) -> str:
    """Check one entry of `[sip] listen`."""
    parse_listen(value)
    return value


def host_name(value: str) -> str:
    """Check a literal address or a DNS name; give its canonical spelling."""
    text = value.strip().strip("[]")
    try:
        return canonical(text)
    except ValueError:
        # No top-level domain is a number (RFC 3696 §2), so that is an address with a slip in it.
        if not _HOST.match(text) or "%" in text or text.rpartition(".")[2].isdigit():
            raise ValueError(f"{value!r} is neither an IP address nor a host name") from None
        return text.lower()


def server_name(value: str) -> str:
    """Check a host name that may begin with `*.`."""
    return f"*.{host_name(value[2:])}" if value.startswith("*.") else host_name(value)


def network(value: str) -> str:
    """Check an address or a network; give the network."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is no network: write one such as 192.0.2.0/24") from None


def next_hop(value: str) -> str:
    """Check `HOST[:PORT]` or `sip:HOST[:PORT][;transport=T]`; give it as a URI."""
    text = value if value.startswith(("sip:", "sips:")) else f"sip:{value}"
    place, *parameters = text.partition(":")[2].split(";")
    if "@" in place or not place or any(c.isspace() for c in text):
        raise ValueError(f"{value!r} is no next hop: {_NEXT_HOP}")
    try:
        host, port = _host_and_port(place)
        if ":" in host and not place.startswith("["):
            raise ValueError(f"{place!r} is an IPv6 address: write it in brackets, [{place}]")
        if port == 0:
            raise ValueError("'0' is not a port number: write 1 to 65535")
        if not host.endswith("."):
            host_name(host)
    except ValueError as error:
        reason, _, remedy = str(error).partition(": ")
        raise ValueError(f"{reason} (in {value!r}): {remedy or _NEXT_HOP}") from None
    for name, _, wanted in (one.partition("=") for one in parameters):
        if name.lower() == "transport" and wanted.lower() not in TRANSPORTS:
            raise ValueError(f"{wanted!r} is not a transport: write one of {', '.join(TRANSPORTS)}")
    return text
