"""libbpf through ctypes: its functions, its warnings, and why BPF cannot be used here.

libbpf.so.1 comes with Debian's iproute2. It returns negative errno values, and NULL with errno set.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
import threading
from collections import deque
from functools import lru_cache
from typing import Any

LIBRARY = "libbpf.so.1"

_XDP = 6
"""BPF_PROG_TYPE_XDP."""

# mov r0, 2 (XDP_PASS); exit
_PASS = bytes.fromhex("b7000000020000009500000000000000")

_WARN = 0
_LINES = 60


class Unavailable(OSError):
    """This host does not allow what we need of BPF; the text says why."""


class Warnings:
    """What libbpf said last, the kernel's verifier included; bounded."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._lock = threading.Lock()

    def note(self, line: str) -> None:
        """Keep one line."""
        with self._lock:
            self._lines.append(line.rstrip())

    def take(self) -> str:
        """Give what was kept, and forget it."""
        with self._lock:
            text = "\n".join(line for line in self._lines if line)
            self._lines.clear()
        return text


warnings = Warnings()

_libc = ctypes.CDLL(None)
_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def _print(level: int, form: bytes, arguments: int) -> int:
    if level == _WARN:
        buffer = ctypes.create_string_buffer(65536)
        _libc.vsnprintf(buffer, len(buffer), form, ctypes.c_void_p(arguments))
        warnings.note(buffer.value.decode(errors="replace"))
    return 0


_printer = _Print(_print)
_P, _U32, _INT, _SIZE, _U64, _TEXT = (
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_uint64,
    ctypes.c_char_p,
)
_COUNT = ctypes.POINTER(_U32)
# name: (result, arguments)
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_mem": (_P, (_TEXT, _SIZE, _P)),
    "bpf_object__load": (_INT, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__find_map_by_name": (_P, (_P, _TEXT)),
    "bpf_object__find_program_by_name": (_P, (_P, _TEXT)),
    "bpf_map__fd": (_INT, (_P,)),
    "bpf_map__key_size": (_U32, (_P,)),
    "bpf_map__value_size": (_U32, (_P,)),
    "bpf_map__max_entries": (_U32, (_P,)),
    "bpf_map__set_max_entries": (_INT, (_P, _U32)),
    "bpf_map__initial_value": (_P, (_P, ctypes.POINTER(_SIZE))),
    "bpf_map__reuse_fd": (_INT, (_P, _INT)),
    "bpf_program__fd": (_INT, (_P,)),
    "bpf_program__set_autoload": (_INT, (_P, ctypes.c_bool)),
    "bpf_map_lookup_elem": (_INT, (_INT, _TEXT, _P)),
    "bpf_map_update_elem": (_INT, (_INT, _TEXT, _TEXT, _U64)),
    "bpf_map_delete_elem": (_INT, (_INT, _TEXT)),
    "bpf_map_lookup_batch": (_INT, (_INT, _P, _P, _P, _P, _COUNT, _P)),
    "bpf_map_update_batch": (_INT, (_INT, _P, _P, _COUNT, _P)),
    "bpf_map_delete_batch": (_INT, (_INT, _P, _COUNT, _P)),
    "bpf_prog_load": (_INT, (_INT, _TEXT, _TEXT, _TEXT, _SIZE, _P)),
    "bpf_prog_test_run_opts": (_INT, (_INT, _P)),
    "bpf_link_create": (_INT, (_INT, _INT, _INT, _P)),
    "bpf_enable_stats": (_INT, (_INT,)),
    "bpf_obj_pin": (_INT, (_INT, _TEXT)),
    "bpf_obj_get": (_INT, (_TEXT,)),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _P, _COUNT)),
    "bpf_prog_get_fd_by_id": (_INT, (_U32,)),
    "bpf_xdp_query": (_INT, (_INT, _INT, _P)),
}


@lru_cache(maxsize=1)
def libbpf() -> ctypes.CDLL:
    """Load the library. Unavailable when this host has none."""
    if not sys.platform.startswith("linux") or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise Unavailable(
            errno.ENOSYS, f"BPF programs are built for 64-bit little-endian Linux, not {platform.machine()}"
        )
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError:
        raise Unavailable(errno.ENOENT, f"{LIBRARY} is not installed (Debian package libbpf1)") from None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_printer)
    return library


def check(result: int, what: str) -> int:
    """Give a result that is no failure; OSError saying what failed, with libbpf's last word, when it is one."""
    if result >= 0:
        return result
    raise failure(-result, what)


def failure(number: int, what: str) -> OSError:
    """Make the OSError for an errno, with what the verifier, else libbpf, said last."""
    said = [line for line in warnings.take().splitlines() if not line.startswith(("processed ", "--"))]
    verifier = [line for line in said if not line.startswith("libbpf:")]
    reason = os.strerror(number)
    last = next(iter((verifier or said)[-1:]), "")
    return OSError(number, f"{what}: {reason}" + (f" ({last})" if last else ""))


def refusal() -> str | None:
    """Say why XDP programs cannot be loaded here; None when they can. Tries the smallest one."""
    try:
        library = libbpf()
    except Unavailable as error:
        return str(error.strerror)
    loaded = int(library.bpf_prog_load(_XDP, b"nattrav_probe", b"Dual MIT/GPL", _PASS, len(_PASS) // 8, None))
    warnings.take()
    if loaded >= 0:
        os.close(loaded)
        return None
    if -loaded in (errno.EPERM, errno.EACCES):
        return (
            "the process lacks CAP_BPF and CAP_NET_ADMIN (AmbientCapabilities= in the unit, --cap-add for containers)"
        )
    if -loaded in (errno.ENOSYS, errno.EINVAL):
        return "this kernel has no BPF, or one too old for XDP"
    return f"the kernel refuses XDP programs: {os.strerror(-loaded)}"
