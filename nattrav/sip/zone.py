"""The DNS records a SIP domain needs so that RFC 3263 (and RFC 5389 §9 for STUN) lead to its proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_SIP = (
    ("tls", "SIPS+D2T", "_sips._tcp", 5061),
    ("tcp", "SIP+D2T", "_sip._tcp", 5060),
    ("udp", "SIP+D2U", "_sip._udp", 5060),
)
_STUN = (("_stun._udp", 3478), ("_stun._tcp", 3478))


class ZoneLine(NamedTuple):
    """One record in the words of a zone file; names end with a dot."""

    name: str
    type: str
    data: str

    def __str__(self) -> str:
        return f"{self.name:32} 3600 IN {self.type:5} {self.data}"


def zone_lines(
    domain: str, host: str, addresses: Sequence[str], transports: Sequence[str], *, stun: bool = True
) -> list[ZoneLine]:
    """Give the records of `domain` whose proxy is `host` at `addresses`, the most secure transport first."""
    domain, host = domain.rstrip(".") + ".", host.rstrip(".") + "."
    offered = [service for service in _SIP if service[0] in transports]
    lines = [
        ZoneLine(domain, "NAPTR", f'{10 * (place + 1)} 50 "s" "{service}" "" {prefix}.{domain}')
        for place, (_, service, prefix, _) in enumerate(offered)
    ]
    lines += [ZoneLine(f"{prefix}.{domain}", "SRV", f"10 50 {port} {host}") for _, _, prefix, port in offered]
    if stun:
        lines += [ZoneLine(f"{prefix}.{domain}", "SRV", f"10 50 {port} {host}") for prefix, port in _STUN]
    lines += [ZoneLine(host, "AAAA" if ":" in address else "A", address) for address in addresses]
    return lines
