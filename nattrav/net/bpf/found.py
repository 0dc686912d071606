"""BPF descriptors that came from another process: which maps, programs and attachments they are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nattrav.net.bpf.libbpf import check, libbpf
from nattrav.net.bpf.maps import Map
from nattrav.net.bpf.programs import Attachment, Program, attached_mode

_INFO = 256
_NAME = 16
_LINK_XDP = 6
"""BPF_LINK_TYPE_XDP."""


def is_bpf(descriptor: int) -> bool:
    """Tell whether a descriptor is a map, a program or an attachment."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("anon_inode:bpf")
    except OSError:
        return False


@dataclass
class Found:
    """Maps and programs by name, attachments by interface; each descriptor is ours until taken or closed."""

    maps: dict[str, Map] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)

    @classmethod
    def among(cls, descriptors: Iterable[int]) -> Found:
        """Sort descriptors; what is of no use, or there twice, is closed."""
        found = cls()
        for descriptor in descriptors:
            try:
                used = found._keep(descriptor)
            except OSError:
                used = False
            if not used:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        return found

    def _keep(self, descriptor: int) -> bool:
        kind = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        info = ctypes.create_string_buffer(_INFO)
        size = ctypes.c_uint32(_INFO)
        check(libbpf().bpf_obj_get_info_by_fd(descriptor, info, ctypes.byref(size)), "what came")
        if "map" in kind:
            _, _, key_size, value_size, max_entries, _ = struct.unpack_from("=6I", info)
            name = _text(info.raw[24 : 24 + _NAME])
            if "." in name:
                # `.bss` and the like have the object's name in front.
                name = "." + name.rpartition(".")[2]
            return self.maps.setdefault(name, Map(name, descriptor, key_size, value_size, max_entries)).fd == descriptor
        if "prog" in kind:
            name = _text(info.raw[64 : 64 + _NAME])
            return self.programs.setdefault(name, Program(name, descriptor)).fd == descriptor
        link, index = struct.unpack_from("=I12xI", info)
        if link != _LINK_XDP or not index:
            return False
        interface = socket.if_indextoname(index)
        mode = attached_mode(index)
        if mode is None or interface in self.attachments:
            return False
        self.attachments[interface] = Attachment(interface, index, mode, descriptor)
        return True

    def close(self) -> None:
        """Let go of everything."""
        for descriptor in [one.fd for one in self.maps.values()] + [one.fd for one in self.programs.values()]:
            os.close(descriptor)
        for attachment in self.attachments.values():
            attachment.close()
        self.maps, self.programs, self.attachments = {}, {}, {}


def number_of(descriptor: int) -> int:
    """Give the kernel's number of a map or program: the same for every descriptor of it."""
    info = ctypes.create_string_buffer(_INFO)
    size = ctypes.c_uint32(_INFO)
    check(libbpf().bpf_obj_get_info_by_fd(descriptor, info, ctypes.byref(size)), "its number")
    return int(struct.unpack_from("=2I", info)[1])


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
