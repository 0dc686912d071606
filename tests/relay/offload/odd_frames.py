"""Frames that an attacker, a switch or an odd host may send where a plain datagram of a flow is expected."""

from __future__ import annotations

import struct

from nattrav.net.address import TransportAddress
from tests.relay.offload.wires import PARTIES, RELAY, Frame

MAPPED = "::ffff:"


def tagged(frame: bytes, *tags: int) -> bytes:
    """Put VLAN tags in, outermost first, each given by its EtherType."""
    return frame[:12] + b"".join(struct.pack("!HH", tag, 10) for tag in tags) + frame[12:]


def extended(frame: bytes, kind: int, size: int = 8) -> bytes:
    """Put an IPv6 extension header of `size` octets before the UDP header."""
    header = bytes([frame[20], size // 8 - 1]) + bytes(size - 2)
    length = struct.unpack_from("!H", frame, 18)[0] + size
    return frame[:18] + struct.pack("!H", length) + bytes([kind]) + frame[21:54] + header + frame[54:]


def with_length(frame: bytes, length: int) -> bytes:
    """Write another payload length into an IPv6 header."""
    return frame[:18] + struct.pack("!H", length) + frame[20:]


def icmp_error(frame: Frame) -> bytes:
    """ICMP port unreachable that quotes a datagram of the flow on its way back."""
    quoted = frame.octets()[14:42]
    icmp = bytes([3, 3, 0, 0, 0, 0, 0, 0]) + quoted
    return frame.but(payload=icmp[8:], protocol=1).octets()


def odd(frame: Frame, frame6: Frame) -> dict[str, bytes]:
    """By what is odd about them: frames no program of ours may touch, whatever flow they name."""
    plain, plain6 = frame.octets(), frame6.octets()
    mapped = [TransportAddress(MAPPED + one.host, one.port) for one in (frame.source, frame.target)]
    found = {
        "802.1Q": tagged(plain, 0x8100),
        "802.1Q of IPv6": tagged(plain6, 0x8100),
        "QinQ": tagged(plain, 0x88A8, 0x8100),
        "a priority tag": plain[:12] + struct.pack("!HH", 0x8100, 0) + plain[12:],
        "MPLS": plain[:12] + struct.pack("!HI", 0x8847, 0x1140) + plain[14:],
        "PPPoE": plain[:12] + struct.pack("!HHHHH", 0x8864, 0x1100, 1, len(plain) - 12, 0x21) + plain[14:],
        "ARP": plain[:12] + b"\x08\x06" + plain[14:],
        "version 6 behind the type of IPv4": plain[:14] + b"\x65" + plain[15:],
        "version 4 behind the type of IPv6": plain6[:14] + b"\x40" + plain6[15:],
        "a header shorter than any": plain[:14] + b"\x44" + plain[15:],
        "IP options": frame.but(options=b"\x94\x04\0\0").octets(),
        "a source route": frame.but(options=b"\x83\x07\x04\x0a\x5b\0\x03\0").octets(),
        "the longest options": frame.but(options=bytes(40)).octets(),
        "the first fragment": frame.but(fragment=0x2000).octets(),
        "a middle fragment": frame.but(fragment=0x2010).octets(),
        "the last fragment": frame.but(fragment=0x0010).octets(),
        "UDP-Lite": frame.but(protocol=136).octets(),
        "UDP in IPv4 in IPv4": frame.but(protocol=4).octets(),
        "an ICMP error that quotes it": icmp_error(frame),
        "only an Ethernet header": plain[:14],
        "half an IPv4 header": plain[:24],
        "half an IPv6 header": plain6[:34],
        "half a UDP header": plain[:38],
        "IPv4-mapped addresses on the wire": frame6.but(source=mapped[0], target=mapped[1]).octets(),
        "an IPv6 header that promises nothing": with_length(plain6, 0),
        "an IPv6 header that promises more": with_length(plain6, len(plain6)),
        "an IPv6 header that promises less": with_length(plain6, 40),
    }
    for kind, name in (
        (0, "hop-by-hop options"),
        (43, "a routing header"),
        (44, "an IPv6 fragment"),
        (60, "destination options"),
        (51, "an authentication header"),
        (135, "a mobility header"),
    ):
        found[name] = extended(plain6, kind)
    return found


MARTIANS = ("0.0.0.0", "127.0.0.1", "10.91.0.255", "224.0.0.1", "240.0.0.1", "255.255.255.255", RELAY, PARTIES[1])
