"""What each kind of router does, as nftables rules and as the words of RFC 4787 and of STUN clients."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a subscriber is joined to the Internet."""

    OPEN = "open"
    FULL_CONE = "full_cone"
    RESTRICTED_CONE = "restricted_cone"
    PORT_RESTRICTED = "port_restricted"
    SYMMETRIC = "symmetric"
    SYMMETRIC_FIREWALL = "symmetric_firewall"
    UDP_BLOCKED = "udp_blocked"
    CARRIER_GRADE = "carrier_grade"
    IPV6_FIREWALL = "ipv6_firewall"


@dataclass(frozen=True)
class Behavior:
    """Mapping and filtering behavior (RFC 4787 §4.1, §5); None where nothing is translated or nothing passes."""

    mapping: str | None
    filtering: str | None


INDEPENDENT = "endpoint-independent"
ADDRESS = "address-dependent"
ADDRESS_AND_PORT = "address-and-port-dependent"

BEHAVIOR = {
    Kind.OPEN: Behavior(None, INDEPENDENT),
    Kind.FULL_CONE: Behavior(INDEPENDENT, INDEPENDENT),
    Kind.RESTRICTED_CONE: Behavior(INDEPENDENT, ADDRESS),
    Kind.PORT_RESTRICTED: Behavior(INDEPENDENT, ADDRESS_AND_PORT),
    Kind.SYMMETRIC: Behavior(ADDRESS_AND_PORT, ADDRESS_AND_PORT),
    Kind.SYMMETRIC_FIREWALL: Behavior(None, ADDRESS_AND_PORT),
    Kind.UDP_BLOCKED: Behavior(None, None),
    Kind.CARRIER_GRADE: Behavior(ADDRESS_AND_PORT, ADDRESS_AND_PORT),
    Kind.IPV6_FIREWALL: Behavior(None, ADDRESS_AND_PORT),
}

NATED = (Kind.FULL_CONE, Kind.RESTRICTED_CONE, Kind.PORT_RESTRICTED, Kind.SYMMETRIC)

_ESTABLISHED_ONLY = """
    chain pass {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan" ct state new accept
    }
"""


def rules(kind: Kind, *, lan: str, public: str, phone: str) -> str:
    """The ruleset of a router whose interfaces are `wan` and `lan`; empty when it only routes."""
    if kind is Kind.FULL_CONE:
        return f"""
table ip nat {{
    chain leave {{
        type nat hook postrouting priority 100;
        oifname "wan" ip saddr {lan} snat to {public}
    }}
    chain enter {{
        type nat hook prerouting priority -100;
        iifname "wan" udp dport 1024-65535 dnat to {phone}
    }}
}}
"""
    if kind is Kind.RESTRICTED_CONE:
        return (
            rules(Kind.FULL_CONE, lan=lan, public=public, phone=phone)
            + """
table ip cone {
    set seen {
        type ipv4_addr . inet_service . ipv4_addr
        flags dynamic
        timeout 5m
    }
    chain pass {
        type filter hook forward priority 0;
        iifname "lan" meta l4proto udp update @seen { ip saddr . udp sport . ip daddr } accept
        iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @seen accept
        iifname "wan" meta l4proto udp drop
    }
}
"""
        )
    if kind is Kind.PORT_RESTRICTED:
        return _masquerade("")
    if kind in (Kind.SYMMETRIC, Kind.CARRIER_GRADE):
        return _masquerade("fully-random")
    if kind is Kind.SYMMETRIC_FIREWALL:
        return "table ip wall {" + _ESTABLISHED_ONLY + "}\n"
    if kind is Kind.IPV6_FIREWALL:
        return "table ip6 wall {" + _ESTABLISHED_ONLY + "}\n"
    if kind is Kind.UDP_BLOCKED:
        return (
            _masquerade("")
            + """
table ip wall {
    chain pass {
        type filter hook forward priority 0;
        meta l4proto udp drop
    }
}
"""
        )
    return ""


def _masquerade(how: str) -> str:
    return f"""
table ip nat {{
    chain leave {{
        type nat hook postrouting priority 100;
        oifname "wan" masquerade {how}
    }}
    chain own {{
        # What nobody asked for is dropped, as home routers do; accepted, it would occupy the port towards its sender.
        type filter hook input priority 0;
        iifname "wan" meta l4proto udp ct state new drop
    }}
}}
"""
