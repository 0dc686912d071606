"""What a network interface is, as far as XDP cares: its driver and its MAC address."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from dataclasses import dataclass

DEVICES = 64
"""Interfaces that a program can run on."""

_INDEX = struct.Struct("=I")
_DEVICE = struct.Struct("=6sBx")

_SIOCETHTOOL = 0x8946
_GDRVINFO = 3
_INFO = 196


@dataclass(frozen=True, slots=True)
class Device:
    """An interface that programs run on."""

    index: int
    mac: bytes
    native: bool

    def entry(self) -> tuple[bytes, bytes]:
        """Give its key and value in a program's `devices` (headers.h)."""
        return _INDEX.pack(self.index), _DEVICE.pack(self.mac, self.native)


def driver_of(interface: str) -> str:
    """Name the driver of an interface (`veth`, `virtio_net`, `ixgbe`…); empty when it tells none."""
    info = array.array("B", struct.pack("=I", _GDRVINFO).ljust(_INFO, b"\0"))
    request = struct.pack("=16sQ8x", interface.encode(), info.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return ""
    return info.tobytes()[4:36].partition(b"\0")[0].decode()


def mac_of(interface: str) -> bytes:
    """Read the hardware address; six octets. OSError when there is no such interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, 0x8927, struct.pack("=16s24x", interface.encode()))
    return bytes(answer[18:24])
