"""Loaded BPF programs: trying one on a frame, its run-time statistics, attaching it to an interface."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nattrav.net.bpf.libbpf import check, failure, libbpf

FRAME_MAX = 4096
"""Octets of a frame that a trial can give back."""

_XDP = 37
"""BPF_XDP as an attach type."""
_STATS_RUN_TIME = 0


class Action(enum.IntEnum):
    """What an XDP program returns."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


class Mode(enum.Enum):
    """Where an XDP program runs: in the driver before anything is allocated, or on the network stack's doorstep."""

    NATIVE = "native"
    GENERIC = "generic"


_FLAGS = {Mode.GENERIC: 1 << 1, Mode.NATIVE: 1 << 2}


@dataclass(frozen=True, slots=True)
class Trial:
    """What a program made of a frame: its verdict, the frame afterwards, nanoseconds per run."""

    action: int
    frame: bytes
    duration: int


@dataclass(frozen=True, slots=True)
class RunTime:
    """Time a program spent (seconds) and how often it ran; both only grow while statistics are on."""

    seconds: float
    runs: int


class _TrialOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _XdpContext(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint32),
        ("data_end", ctypes.c_uint32),
        ("data_meta", ctypes.c_uint32),
        ("ingress_ifindex", ctypes.c_uint32),
        ("rx_queue_index", ctypes.c_uint32),
        ("egress_ifindex", ctypes.c_uint32),
    )


class _LinkOptions(ctypes.Structure):
    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("reserved", ctypes.c_uint32))


class _QueryOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("prog_id", ctypes.c_uint32),
        ("drv_prog_id", ctypes.c_uint32),
        ("hw_prog_id", ctypes.c_uint32),
        ("skb_prog_id", ctypes.c_uint32),
        ("attach_mode", ctypes.c_uint8),
    )


_ATTACHED = {1: Mode.NATIVE, 2: Mode.GENERIC}


def attached_program(index: int) -> int:
    """Give the kernel's number of the XDP program that an interface has; 0 when it has none."""
    return int(_query(index).prog_id)


def attached_name(index: int) -> str:
    """Name the XDP program that an interface has, or its number where that is all we may know; empty without one."""
    number = attached_program(index)
    if not number:
        return ""
    fd = int(libbpf().bpf_prog_get_fd_by_id(number))
    if fd < 0:
        return f"number {number}"
    info = ctypes.create_string_buffer(256)
    size = ctypes.c_uint32(len(info))
    try:
        check(libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)), "a program's name")
    finally:
        os.close(fd)
    return info.raw[64:80].partition(b"\0")[0].decode(errors="replace") or f"number {number}"


def attached_mode(index: int) -> Mode | None:
    """Say where the XDP program of an interface runs; None when it has none, or not one."""
    return _ATTACHED.get(_query(index).attach_mode)


def _query(index: int) -> _QueryOptions:
    options = _QueryOptions(sz=_QueryOptions.attach_mode.offset + 1)
    check(libbpf().bpf_xdp_query(index, 0, ctypes.byref(options)), "XDP programs cannot be asked for")
    return options


class Program:
    """A program of the kernel. `fd` stays open as long as the object it came from."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self._library = libbpf()

    def try_frame(self, frame: bytes, *, repeat: int = 1, interface: str | None = None) -> Trial:
        """Run the program on a frame as if it had arrived (BPF_PROG_TEST_RUN), on `lo` or a given interface.

        Only an interface that an XDP program is attached to natively can be given.
        """
        out = ctypes.create_string_buffer(FRAME_MAX)
        options = _TrialOptions(sz=ctypes.sizeof(_TrialOptions))
        options.data_in, options.data_size_in = frame, len(frame)
        options.data_out, options.data_size_out = ctypes.addressof(out), len(out)
        options.repeat = repeat
        context = _XdpContext(data_end=len(frame))
        if interface is not None:
            context.ingress_ifindex = socket.if_nametoindex(interface)
            options.ctx_in, options.ctx_size_in = ctypes.addressof(context), ctypes.sizeof(context)
        check(self._library.bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"trying program {self.name}")
        return Trial(options.retval, out.raw[: options.data_size_out], options.duration)

    def run_time(self) -> RunTime:
        """Read the program's statistics; they stand still unless `statistics` is on somewhere in the system."""
        lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
        told = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return RunTime(int(told.get("run_time_ns", 0)) / 1e9, int(told.get("run_cnt", 0)))

    def attach(self, interface: str, mode: Mode | None = None) -> Attachment:
        """Attach to an interface as XDP program: natively, else generically, or as `mode` says.

        OSError EBUSY or EEXIST when the interface has a program already. Attaching natively may reset a NIC for a
        moment.
        """
        try:
            index = socket.if_nametoindex(interface)
        except OSError as error:
            raise OSError(error.errno, f"no interface {interface}") from None
        for attempt in (Mode.NATIVE, Mode.GENERIC) if mode is None else (mode,):
            options = _LinkOptions(ctypes.sizeof(_LinkOptions), _FLAGS[attempt], 0)
            fd = int(self._library.bpf_link_create(self.fd, index, _XDP, ctypes.byref(options)))
            if fd >= 0:
                return Attachment(interface, index, attempt, fd)
        raise _refused(-fd, interface)


def _refused(number: int, interface: str) -> OSError:
    what = f"XDP cannot be attached to {interface}"
    if number in (errno.EBUSY, errno.EEXIST):
        return OSError(
            number,
            f"{what}: it has an XDP program already (bpftool net list dev {interface} names it), and can have one "
            "only: take that one off, or name other interfaces in offload_interfaces",
        )
    return failure(number, what)


@dataclass(slots=True)
class Attachment:
    """A program at work on an interface, until closed or the process ends, however it ends."""

    interface: str
    index: int
    mode: Mode
    fd: int

    def close(self) -> None:
        """Detach."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel measure the run time of all BPF programs meanwhile; costs some 20 ns for each run."""
    fd = check(libbpf().bpf_enable_stats(_STATS_RUN_TIME), "BPF run-time statistics")
    try:
        yield
    finally:
        os.close(fd)
