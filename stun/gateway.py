"""Asking the router itself: NAT-PMP (RFC 6886) and PCP (RFC 6887) messages, and what its answer says beside STUN's.

The external address a router names and the one a STUN server sees are the same behind one NAT. If they differ, or the
router's own is private, another NAT stands behind it.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass

from nattrav.net.address import NON_PUBLIC, AddressClass, canonical, classify
from stun.attributes import MalformedMessage

PORT = 5351
NAT_PMP_REQUEST = b"\0\0"
"""External address request (RFC 6886 §3.2)."""
_MAP = 1
_RESPONSE = 0x80
_UDP = 17
_PCP_RESULTS = {1: "unsupported version", 2: "not authorized", 8: "no resources", 12: "address mismatch"}
_NAT_PMP_RESULTS = {1: "unsupported version", 2: "not authorized", 3: "network failure", 4: "out of resources"}


class GatewayRefused(Exception):
    """The router understands and says no."""


def nat_pmp_address(data: bytes) -> str:
    """Read a NAT-PMP external address response. Raises MalformedMessage, or GatewayRefused with the reason."""
    if len(data) < 4 or data[0] != 0 or data[1] != _RESPONSE:
        raise MalformedMessage("no NAT-PMP external address response")
    result = int.from_bytes(data[2:4], "big")
    if result:
        raise GatewayRefused(_NAT_PMP_RESULTS.get(result, f"result {result}"))
    if len(data) != 12:
        raise MalformedMessage("a NAT-PMP external address response has 12 bytes")
    return str(ipaddress.ip_address(data[8:12]))


def _mapped_form(host: str) -> bytes:
    packed = ipaddress.ip_address(host).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def pcp_map(client: str, nonce: bytes, port: int, lifetime: int) -> bytes:
    """Build a MAP request for a UDP port of ours (RFC 6887 §11.1); lifetime 0 takes the mapping back."""
    unspecified = bytes(16) if ":" in client else bytes(10) + b"\xff\xff" + bytes(4)
    header = struct.pack("!BBHI", 2, _MAP, 0, lifetime) + _mapped_form(client)
    return header + nonce + struct.pack("!B3xHH", _UDP, port, 0) + unspecified


def pcp_address(data: bytes, nonce: bytes) -> str:
    """Read the external address of a MAP response. Raises MalformedMessage, or GatewayRefused with the reason."""
    if len(data) >= 2 and data[0] == 0 and data[1] & _RESPONSE:
        # A router that knows NAT-PMP only answers in its own version (RFC 6887 §9).
        raise GatewayRefused("unsupported version")
    if len(data) < 24 or data[0] != 2 or data[1] != _RESPONSE | _MAP:
        raise MalformedMessage("no PCP MAP response")
    if data[3]:
        raise GatewayRefused(_PCP_RESULTS.get(data[3], f"result {data[3]}"))
    if len(data) < 60 or data[24:36] != nonce:
        raise MalformedMessage("the response to another request")
    return canonical(str(ipaddress.ip_address(data[44:60])))


class Cascade(enum.Enum):
    """How many NATs there are, as far as router and STUN server tell together."""

    NONE = "no NAT"
    SINGLE = "one NAT: the router's"
    CARRIER_GRADE = "cascaded NATs: the router's own address is carrier-grade"
    PRIVATE = "cascaded NATs: the router's own address is private"
    DIFFERENT = "cascaded NATs, or several uplinks: the router names another public address than the STUN server"
    UNKNOWN = "unknown: the router does not say its external address"


@dataclass(frozen=True)
class GatewayReport:
    """What the local router said by each protocol: an address, or why there is none."""

    gateway: str | None
    upnp: str | None = None
    upnp_failure: str = ""
    nat_pmp: str | None = None
    nat_pmp_failure: str = ""
    pcp: str | None = None
    pcp_failure: str = ""

    @property
    def external(self) -> str | None:
        """The router's external address by whatever protocol gave one."""
        return self.upnp or self.nat_pmp or self.pcp

    def cascade(self, local: str | None, mapped: str | None) -> Cascade:
        """Compare with the address that a STUN server saw."""
        if mapped is not None and local == mapped:
            return Cascade.NONE
        if self.external is None:
            return Cascade.UNKNOWN
        kind = classify(self.external)
        if kind is AddressClass.CGNAT:
            return Cascade.CARRIER_GRADE
        if self.external == mapped:
            return Cascade.SINGLE
        if kind in NON_PUBLIC:
            return Cascade.PRIVATE
        return Cascade.UNKNOWN if mapped is None else Cascade.DIFFERENT
