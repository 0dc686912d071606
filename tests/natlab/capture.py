"""Packets as they pass, from a raw socket in a namespace, so that a test can assert what was on the wire."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.natlab.namespaces import Namespace, within
from tests.natlab.wire import SipMessage, messages_in_stream, parse

_ALL_PROTOCOLS = 3
_OUTGOING = socket.PACKET_OUTGOING
_UDP, _TCP = 17, 6
_IPV4, _IPV6 = 0x0800, 0x86DD
Address = tuple[str, int]


@dataclass(frozen=True)
class Packet:
    """A UDP datagram or TCP segment; addresses as on this wire."""

    moment: float
    interface: str
    transport: str
    source: Address
    destination: Address
    payload: bytes

    @property
    def is_sip(self) -> bool:
        head = self.payload[:200]
        return self.transport == "udp" and (head.startswith(b"SIP/2.0 ") or b" SIP/2.0\r\n" in head)

    @property
    def is_rtp(self) -> bool:
        """RTP, not RTCP nor STUN (RFC 7983, RFC 5761)."""
        first = self.payload[:2]
        return self.transport == "udp" and len(self.payload) >= 12 and first[0] >> 6 == 2 and not 192 <= first[1] <= 223

    def __str__(self) -> str:
        return f"{self.source[0]}:{self.source[1]} → {self.destination[0]}:{self.destination[1]}"


@dataclass(frozen=True)
class Seen:
    """A SIP message and the packet that carried its end."""

    packet: Packet
    message: SipMessage

    def __str__(self) -> str:
        return f"{self.packet}  {self.message.start}"


class Capture:
    """Records every UDP and TCP packet that comes into a namespace (and, on a host, also what leaves it).

    A bridge's namespace sees each packet once, where it enters the bridge. Use as a context manager.
    """

    def __init__(self, namespace: Namespace, *, outgoing: bool = False, keep_rtp: int = 20_000) -> None:
        self._namespace = namespace
        self._outgoing = outgoing
        self._keep_rtp = keep_rtp
        self._packets: list[Packet] = []
        self._fragments: dict[tuple[bytes, bytes, int], dict[int, tuple[bytes, bool]]] = {}
        self._closing = threading.Event()

    def __enter__(self) -> Capture:
        self._socket = within(self._namespace.name, self._open)
        self._thread = threading.Thread(target=self._read, name=f"capture {self._namespace.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def mark(self) -> int:
        """A place in the recording; give it to the reading methods to see only what came later."""
        return len(self._packets)

    def packets(self, since: int = 0) -> list[Packet]:
        return self._packets[since:]

    def sip(self, since: int = 0) -> list[Seen]:
        """SIP messages in order of arrival, from datagrams and from reassembled TCP streams."""
        found = []
        streams: dict[tuple[str, Address, Address], bytes] = {}
        for packet in self.packets(since):
            if packet.is_sip:
                message = parse(packet.payload)
                if message is not None:
                    found.append(Seen(packet, message))
            elif packet.transport == "tcp" and packet.payload:
                key = (packet.interface, packet.source, packet.destination)
                whole, streams[key] = messages_in_stream(streams.get(key, b"") + packet.payload)
                found += [Seen(packet, message) for message in whole]
        return found

    def rtp(self, since: int = 0) -> Iterator[Packet]:
        return (packet for packet in self.packets(since) if packet.is_rtp)

    def first(
        self, wanted: Callable[[Seen], bool], *, since: int = 0, seconds: float = 5.0, what: str = "the message"
    ) -> Seen:
        """Wait for the first SIP message that is wanted; raises AssertionError that lists what was seen instead."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.sip(since)
            for one in seen:
                if wanted(one):
                    return one
            if time.monotonic() > deadline:
                listing = "\n".join(map(str, seen)) or "nothing"
                raise AssertionError(f"{what} did not come in {seconds} s; seen:\n{listing}")
            time.sleep(0.05)

    def ladder(self, since: int = 0) -> str:
        return "\n".join(map(str, self.sip(since)))

    def _open(self) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        raw.settimeout(0.1)
        return raw

    def _read(self) -> None:
        rtp = 0
        while not self._closing.is_set():
            try:
                data, (interface, protocol, direction, *_) = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            if interface == "inet" or (direction == _OUTGOING and not self._outgoing):
                continue
            packet = self._decode(data, interface, protocol)
            if packet is None:
                continue
            rtp += packet.is_rtp
            if not packet.is_rtp or rtp <= self._keep_rtp:
                self._packets.append(packet)

    def _decode(self, data: bytes, interface: str, protocol: int) -> Packet | None:
        if protocol == _IPV4 and len(data) >= 20:
            header = (data[0] & 15) * 4
            total = int.from_bytes(data[2:4], "big")
            body: bytes | None = data[header:total]
            transport = data[9]
            place = int.from_bytes(data[6:8], "big")
            if place & 0x3FFF:
                body = self._reassemble(data, place, body or b"")
            source, destination = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        elif protocol == _IPV6 and len(data) >= 40:
            transport, body = data[6], data[40 : 40 + int.from_bytes(data[4:6], "big")]
            source = str(ipaddress.IPv6Address(data[8:24]))
            destination = str(ipaddress.IPv6Address(data[24:40]))
        else:
            return None
        if body is None or len(body) < 8 or transport not in (_UDP, _TCP):
            return None
        source_port, destination_port = struct.unpack_from("!HH", body)
        if transport == _UDP:
            payload = body[8:]
        else:
            if len(body) < 20:
                return None
            payload = body[(body[12] >> 4) * 4 :]
        return Packet(
            time.monotonic(),
            interface,
            "udp" if transport == _UDP else "tcp",
            (source, source_port),
            (destination, destination_port),
            payload,
        )

    def _reassemble(self, data: bytes, place: int, body: bytes) -> bytes | None:
        """Join the fragments of one IPv4 datagram; None until the last one is here."""
        key = (data[12:16], data[16:20], int.from_bytes(data[4:6], "big"))
        parts = self._fragments.setdefault(key, {})
        parts[(place & 0x1FFF) * 8] = (body, bool(place & 0x2000))
        whole = b""
        while len(whole) in parts:
            piece, more = parts[len(whole)]
            whole += piece
            if not more:
                del self._fragments[key]
                return whole
            if not piece:
                break
        return None
