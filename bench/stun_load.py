"""Open-loop STUN load: prebuilt raw frames from many sources, sent at a fixed rate whatever comes back.

python -m bench.stun_load INTERFACE TARGET_MAC SERVER PORT RATE SECONDS SHAPE SOURCES

Prints one JSON object: frames sent and seconds taken. Frames bypass the queueing discipline; a UDP socket could not
saturate the servers from one core.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import random
import socket
import struct
import sys
import time

import numpy as np

from stun.attributes import AttributeType
from stun.integrity import add_fingerprint
from stun.message import BINDING, MessageClass, encode

SHAPES = ("plain", "fingerprint", "change")
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20
_BURST = 64
_FIRST_SOURCE = int(ipaddress.ip_address("10.64.0.1"))
_HEADER = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_IOVEC = np.dtype([("base", "u8"), ("len", "u8")])


def request(shape: str, number: int) -> bytes:
    """One Binding request; every one has a transaction id of its own."""
    tid = struct.pack("!QI", number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF, number)
    if shape == "fingerprint":
        software = (int(AttributeType.SOFTWARE), b"load 1.0")
        return add_fingerprint(encode(BINDING, MessageClass.REQUEST, tid, [software]))
    if shape == "change":
        return encode(BINDING, MessageClass.REQUEST, tid, [(int(AttributeType.CHANGE_REQUEST), bytes([0, 0, 0, 2]))])
    return encode(BINDING, MessageClass.REQUEST, tid)


def frame(target: bytes, own: bytes, source: str, source_port: int, server: str, port: int, payload: bytes) -> bytes:
    """Ethernet, IPv4 and UDP around a payload; the UDP checksum is left out, as IPv4 allows."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        28 + len(payload),
        0,
        0,
        64,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(server),
    )
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    udp = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0)
    return target + own + b"\x08\x00" + header + udp + payload


class Frames:
    """A ring of prebuilt frames with the kernel's headers over them."""

    def __init__(self, frames: list[bytes]) -> None:
        size = max(map(len, frames))
        self.data = np.zeros((len(frames), size), np.uint8)
        for row, one in enumerate(frames):
            self.data[row, : len(one)] = np.frombuffer(one, np.uint8)
        self.iovecs = np.zeros(len(frames), _IOVEC)
        self.iovecs["base"] = self.data.ctypes.data + np.arange(len(frames), dtype=np.uint64) * np.uint64(size)
        self.iovecs["len"] = [len(one) for one in frames]
        self.headers = np.zeros(len(frames), _HEADER)
        self.headers["iov"] = self.iovecs.ctypes.data + np.arange(len(frames), dtype=np.uint64) * np.uint64(16)
        self.headers["iovlen"] = 1


def load(
    interface: str, target: str, server: str, port: int, rate: float, seconds: float, shape: str, sources: int
) -> dict[str, float]:
    """Send at `rate` frames a second for `seconds`."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    sock.bind((interface, 0x0800))
    own = sock.getsockname()[4]
    mac = bytes.fromhex(target.replace(":", ""))
    generator = random.Random(1)
    count = max(_BURST, min(sources, 16384) // _BURST * _BURST)
    built = [
        frame(
            mac,
            own,
            str(ipaddress.ip_address(_FIRST_SOURCE + (n if sources <= count else generator.randrange(sources)))),
            1024 + n % 60000,
            server,
            port,
            request(shape, n),
        )
        for n in range(count)
    ]
    ring = Frames(built)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    pointer, descriptor = ring.headers.ctypes.data, sock.fileno()
    spoofed = ring.data[:, 26:30] if sources > count else None
    sent = position = 0
    numbers = np.random.default_rng(1)
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        due = int(elapsed * rate) - sent
        if due < _BURST:
            time.sleep(max(0.0, (_BURST - due) / rate - 0.00006))
            continue
        if spoofed is not None and position == 0:
            addresses = numbers.integers(_FIRST_SOURCE, _FIRST_SOURCE + sources, count, np.uint32)
            spoofed[:] = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
            _correct_checksums(ring.data)
        done = libc.sendmmsg(descriptor, pointer + position * 64, _BURST, 0)
        sent += max(done, 0)
        position = (position + _BURST) % count
    return {"sent": sent, "seconds": time.monotonic() - begin}


def _correct_checksums(frames: np.ndarray) -> None:
    frames[:, 24:26] = 0
    words = frames[:, 14:34].astype(np.uint32)
    total = (words[:, ::2] * 256 + words[:, 1::2]).sum(axis=1)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    frames[:, 24:26] = (~total.astype(np.uint16)).astype(">u2").view(np.uint8).reshape(-1, 2)


if __name__ == "__main__":
    name, mac_text, host, port_text, rate_text, seconds_text, shape_text, sources_text = sys.argv[1:]
    print(
        json.dumps(
            load(
                name,
                mac_text,
                host,
                int(port_text),
                float(rate_text),
                float(seconds_text),
                shape_text,
                int(sources_text),
            )
        )
    )
