"""What the examinations read from this host; tests put a written-down host in its place."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import resource
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.device import driver_of
from nattrav.net.bpf.libbpf import refusal
from nattrav.net.bpf.programs import attached_name
from nattrav.net.clock import wall
from nattrav.net.interfaces import InterfaceAddress, local_addresses
from nattrav.net.uring import availability

ADJTIMEX_UNSYNC = 0x40
_CAPABILITIES = {10: "CAP_NET_BIND_SERVICE", 12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 39: "CAP_BPF"}


class Host(Protocol):
    """One machine, as far as the examinations care. None means: cannot be told here."""

    def read(self, path: str) -> str | None:
        """Content of a small file, such as a sysctl below /proc/sys."""

    def kernel(self) -> tuple[int, int]:
        """Version of the Linux kernel."""

    def open_files(self) -> int:
        """Most descriptors this process may open."""

    def io_uring(self) -> str | None:
        """Why the kernel refuses io_uring; None when it allows it."""

    def xdp(self) -> str | None:
        """Why XDP programs cannot be loaded; None when they can."""

    def xdp_on(self, interface: str) -> tuple[str, str]:
        """Driver of an interface, and the XDP program that it has; empty where there is none or it cannot be told."""

    def capabilities(self) -> frozenset[str]:
        """Names of this process's effective capabilities that matter here."""

    def clock_synchronised(self) -> bool | None:
        """The kernel says that a time service keeps its clock."""

    def addresses(self) -> Sequence[InterfaceAddress]:
        """All addresses of this host."""

    def bind_error(self, transport: str, address: TransportAddress) -> str | None:
        """Why a socket cannot be bound there; None when it can."""

    def ruleset(self) -> str | None:
        """The firewall's rules by nft, in JSON."""

    def now(self) -> float:
        """Unix time."""

    def module_file(self, name: str) -> str | None:
        """Where a Python package comes from."""

    def resolves(self, name: str) -> bool:
        """The resolver knows the name."""


class ThisHost:
    """The machine we run on."""

    def read(self, path: str) -> str | None:
        """Read a file."""
        try:
            return Path(path).read_text().strip()
        except OSError:
            return None

    def kernel(self) -> tuple[int, int]:
        """Read the version from uname."""
        major, minor = platform.release().split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdigit()) or 0)

    def open_files(self) -> int:
        """Read the hard limit, to which the services raise their own."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def io_uring(self) -> str | None:
        """Try what the relay will try."""
        return availability()

    def xdp(self) -> str | None:
        """Load the smallest one."""
        return refusal()

    def xdp_on(self, interface: str) -> tuple[str, str]:
        """Ask the driver and the kernel."""
        try:
            return driver_of(interface), attached_name(socket.if_nametoindex(interface))
        except OSError:
            return driver_of(interface), ""

    def capabilities(self) -> frozenset[str]:
        """Read CapEff."""
        text = self.read("/proc/self/status") or ""
        bits = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff")), 0)
        return frozenset(name for bit, name in _CAPABILITIES.items() if bits >> bit & 1)

    def clock_synchronised(self) -> bool | None:
        """Ask adjtimex without changing anything."""
        buffer = ctypes.create_string_buffer(256)
        if ctypes.CDLL(None).adjtimex(buffer) < 0:
            return None
        # struct timex on 64-bit Linux: modes, padding, offset, freq, maxerror, esterror (8 each), then status.
        status = int.from_bytes(buffer.raw[40:44], "little")
        return not status & ADJTIMEX_UNSYNC

    def addresses(self) -> Sequence[InterfaceAddress]:
        """List them by netifaces."""
        return local_addresses()

    def bind_error(self, transport: str, address: TransportAddress) -> str | None:
        """Bind and close at once."""
        kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
        with socket.socket(address.family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(transport == "tcp"))
            try:
                sock.bind(address)
            except OSError as error:
                return error.strerror
        return None

    def ruleset(self) -> str | None:
        """Run nft, where it exists and may be run."""
        nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
        if nft is None:
            return None
        listed = subprocess.run(
            [nft, "--json", "list", "ruleset"], capture_output=True, text=True, timeout=5, check=False
        )
        return listed.stdout if listed.returncode == 0 else None

    def now(self) -> float:
        """Ask its clock."""
        return wall()

    def module_file(self, name: str) -> str | None:
        """Ask the import system."""
        found = importlib.util.find_spec(name)
        return None if found is None else found.origin

    def resolves(self, name: str) -> bool:
        """Ask the system's resolver."""
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            return False
        return True
