"""This host's interfaces and addresses (netifaces), and which of them to show to the world."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import netifaces

from nattrav.net.address import AddressClass, canonical, classify

_USABLE = frozenset({AddressClass.PUBLIC, AddressClass.PRIVATE, AddressClass.CGNAT, AddressClass.ULA})


@dataclass(frozen=True)
class InterfaceAddress:
    """One address of one network interface."""

    interface: str
    host: str
    kind: AddressClass

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def local_addresses() -> list[InterfaceAddress]:
    """List every IP address of this host, in the kernel's interface order. Link-local ones are left out."""
    found = []
    for name in netifaces.interfaces():
        addresses = netifaces.ifaddresses(name)
        for family in (netifaces.AF_INET, netifaces.AF_INET6):
            for entry in addresses.get(family, ()):
                if "addr" not in entry or "%" in entry["addr"]:
                    continue
                host = canonical(entry["addr"])
                kind = classify(host)
                if kind is not AddressClass.LINK_LOCAL:
                    found.append(InterfaceAddress(name, host, kind))
    return found


def default_interface(family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """Name the interface of the default route, or None without one."""
    key = netifaces.AF_INET6 if family == socket.AF_INET6 else netifaces.AF_INET
    default = netifaces.gateways().get("default", {})
    return str(default[key][1]) if key in default else None


def default_gateway(family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """Give the address of the default route's router, or None without one."""
    key = netifaces.AF_INET6 if family == socket.AF_INET6 else netifaces.AF_INET
    default = netifaces.gateways().get("default", {})
    return str(default[key][0]).partition("%")[0] if key in default else None


def advertised_address(
    family: socket.AddressFamily = socket.AF_INET,
    *,
    addresses: list[InterfaceAddress] | None = None,
    default: str | None = None,
) -> str | None:
    """Choose the address to show in SIP and SDP: public before private, default route's interface first.

    Falls back to IPv4 loopback on a host that has nothing else; None when the family is absent.
    """
    if addresses is None:
        addresses = local_addresses()
        default = default_interface(family)
    candidates = [a for a in addresses if a.family == family and a.kind in _USABLE]
    if candidates:
        return min(candidates, key=lambda a: (a.kind is not AddressClass.PUBLIC, a.interface != default)).host
    loopback = [a.host for a in addresses if a.family == family and a.kind is AddressClass.LOOPBACK]
    return loopback[0] if loopback else None


def expand(host: str) -> list[str]:
    """Turn a listen address into the addresses to bind, one socket each.

    A socket per address answers from the address that was asked, which a wildcard socket would not (RFC 3581 §4).
    `0.0.0.0` and `::` mean every address of that family, loopback included; `auto` the advertised address
    and IPv4 loopback; a literal address itself. ValueError for anything else.
    """
    if host == "auto":
        chosen = [advertised_address(socket.AF_INET), "127.0.0.1"]
        return list(dict.fromkeys(h for h in chosen if h is not None))
    host = canonical(host)
    if classify(host) is AddressClass.UNSPECIFIED:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [a.host for a in local_addresses() if a.family == family]
    return [host]
