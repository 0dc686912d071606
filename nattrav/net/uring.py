"""io_uring without a compiler: the rings are shared memory seen as numpy arrays, three system calls go through ctypes.

A `Ring` belongs to the thread that made it. Submission entries are filled as whole columns, one `enter` hands them
over and waits for completions, which are read as columns too. Layouts and numbers are those of
`<linux/io_uring.h>`.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_OFFSET_RINGS, _OFFSET_SQES = 0, 0x10000000

SETUP_CQSIZE = 1 << 3
SETUP_SUBMIT_ALL = 1 << 7
SETUP_SINGLE_ISSUER = 1 << 12
SETUP_DEFER_TASKRUN = 1 << 13
SETUP_NO_SQARRAY = 1 << 16

FEATURE_SINGLE_MMAP = 1 << 0
FEATURE_EXT_ARG = 1 << 8
FEATURE_MIN_TIMEOUT = 1 << 15

_ENTER_GETEVENTS = 1 << 0
_ENTER_EXT_ARG = 1 << 3

_UNREGISTER_FILES = 3
_REGISTER_PROBE = 8
_REGISTER_FILES_UPDATE = 6
_REGISTER_FILES2 = 13
_REGISTER_PBUF_RING = 22
_SPARSE = 1

OP_POLL_ADD = 6
OP_RECVMSG = 10
OP_ASYNC_CANCEL = 14
OP_SEND = 26

SQE_FIXED_FILE = 1 << 0
SQE_BUFFER_SELECT = 1 << 5
SQE_SKIP_SUCCESS = 1 << 6
RECV_MULTISHOT = 1 << 1
POLL_MULTI = 1 << 0
CANCEL_ALL = 1 << 0
CANCEL_ANY = 1 << 2

CQE_BUFFER = 1 << 0
CQE_MORE = 1 << 1
CQE_BUFFER_SHIFT = 16

BUFFERS_MAX = 32768

SQE = np.dtype(
    {
        "names": [
            "opcode",
            "flags",
            "ioprio",
            "fd",
            "addr2",
            "addr",
            "len",
            "op_flags",
            "user_data",
            "buf_group",
            "personality",
            "addr_len",
        ],
        "formats": ["u1", "u1", "u2", "i4", "u8", "u8", "u4", "u4", "u8", "u2", "u2", "u2"],
        "offsets": [0, 1, 2, 4, 8, 16, 24, 28, 32, 40, 42, 44],
        "itemsize": 64,
    }
)
SQE_WORDS = 8
"""An entry is eight 64-bit words; word 2 is `addr`, word 3 `len` and `op_flags`."""

_PARAMS = np.dtype(
    [
        ("sq_entries", "u4"),
        ("cq_entries", "u4"),
        ("flags", "u4"),
        ("sq_thread_cpu", "u4"),
        ("sq_thread_idle", "u4"),
        ("features", "u4"),
        ("wq_fd", "u4"),
        ("resv", "3u4"),
        ("sq_head", "u4"),
        ("sq_tail", "u4"),
        ("sq_mask", "u4"),
        ("sq_ring_entries", "u4"),
        ("sq_flags", "u4"),
        ("sq_dropped", "u4"),
        ("sq_array", "u4"),
        ("sq_resv", "u4"),
        ("sq_user", "u8"),
        ("cq_head", "u4"),
        ("cq_tail", "u4"),
        ("cq_mask", "u4"),
        ("cq_ring_entries", "u4"),
        ("cq_overflow", "u4"),
        ("cq_cqes", "u4"),
        ("cq_flags", "u4"),
        ("cq_resv", "u4"),
        ("cq_user", "u8"),
    ]
)
assert _PARAMS.itemsize == 120

_WAIT = np.dtype([("sigmask", "u8"), ("sigmask_size", "u4"), ("min_wait_usec", "u4"), ("timespec", "u8")])

_LONG = 3600.0

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# The last argument is a full register: as an int its upper half would be garbage, `syscall` being variadic.
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_uint,
    ctypes.c_uint,
    ctypes.c_void_p,
    ctypes.c_size_t,
]


class Unavailable(OSError):
    """This kernel, or what confines this process, does not allow what we need of io_uring."""


class Ring:
    """One io_uring. Make it in the thread that uses it, and use it in no other."""

    def __init__(self, entries: int, completions: int) -> None:
        if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise Unavailable(errno.ENOSYS, "io_uring needs 64-bit Linux")
        flags = SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN
        self.fd, params = _setup(entries, completions, flags | SETUP_NO_SQARRAY)
        if self.fd < 0:
            self.fd, params = _setup(entries, completions, flags)
        if self.fd < 0:
            raise Unavailable(-self.fd, _refusal(-self.fd))
        try:
            self._map(params)
        except BaseException:
            os.close(self.fd)
            raise
        self._wait = np.zeros(1, _WAIT)
        self._waited: tuple[float, float | None] | None = None
        """What the wait's argument says."""
        self._timespec = np.zeros(2, np.int64)
        self._wait_pointer = self._wait.ctypes.data
        self._timespec_pointer = self._timespec.ctypes.data
        # struct io_uring_files_update, always of the one descriptor beside it: addresses are looked up once.
        self._file = np.zeros(1, np.int32)
        self._file_update = np.array([0, self._file.ctypes.data], np.uint64)
        self._file_update_pointer = self._file_update.ctypes.data

    def _map(self, params: NDArray[np.void]) -> None:
        p = params[0]
        self.features = int(p["features"])
        if not self.features & FEATURE_SINGLE_MMAP or not self.features & FEATURE_EXT_ARG:
            raise Unavailable(errno.ENOSYS, "kernel older than 5.11")
        self.entries = int(p["sq_entries"])
        self.completions = int(p["cq_entries"])
        size = int(p["cq_cqes"]) + self.completions * 16
        if not int(p["flags"]) & SETUP_NO_SQARRAY:
            size = max(size, int(p["sq_array"]) + self.entries * 4)
        shared = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._rings = mmap.mmap(self.fd, size, flags=shared, offset=_OFFSET_RINGS)
        self._entries = mmap.mmap(self.fd, self.entries * 64, flags=shared, offset=_OFFSET_SQES)

        def word(name: str) -> memoryview[int]:
            # A number read from a memoryview costs a quarter of one read from an array.
            return memoryview(self._rings)[int(p[name]) : int(p[name]) + 4].cast("I")

        self._sq_head, self._sq_tail = word("sq_head"), word("sq_tail")
        self._cq_head, self._cq_tail, self._cq_overflow = word("cq_head"), word("cq_tail"), word("cq_overflow")
        self.sqes: NDArray[np.void] = np.frombuffer(self._entries, SQE)
        self.sqe_words: NDArray[np.uint64] = np.frombuffer(self._entries, np.uint64).reshape(-1, SQE_WORDS)
        self.sqe_halves: NDArray[np.uint32] = np.frombuffer(self._entries, np.uint32).reshape(-1, 2 * SQE_WORDS)
        cqes = np.frombuffer(self._rings, np.uint64, 2 * self.completions, int(p["cq_cqes"]))
        self._cqe_words: NDArray[np.uint64] = cqes.reshape(-1, 2)
        if not int(p["flags"]) & SETUP_NO_SQARRAY:
            array = np.frombuffer(self._rings, np.uint32, self.entries, int(p["sq_array"]))
            array[:] = np.arange(self.entries, dtype=np.uint32)
        self._tail = self._sq_tail[0]
        self._head = self._cq_head[0]

    @property
    def pending(self) -> int:
        """Entries filled and not yet taken by the kernel."""
        return self._tail - self._sq_head[0] & 0xFFFFFFFF

    @property
    def overflowed(self) -> int:
        """Completions the kernel could not store so far."""
        return self._cq_overflow[0]

    def spans(self, count: int) -> Iterator[tuple[int, int]]:
        """Reserve `count` entries; give them as one or two (start, stop) ranges of `sqes`.

        The ranges keep what earlier entries left there. `count` may not exceed `entries - pending`.
        """
        mask = self.entries - 1
        while count:
            start = self._tail & mask
            part = min(count, self.entries - start)
            self._tail = self._tail + part & 0xFFFFFFFF
            count -= part
            yield start, start + part

    def entry(self) -> NDArray[np.void]:
        """Reserve one zeroed entry, submitting first if the ring is full."""
        if self.pending >= self.entries:
            self.enter()
        start, stop = next(self.spans(1))
        self.sqe_words[start] = 0
        return self.sqes[start:stop]

    def enter(self, wait: int = 0, *, min_wait: float = 0.0, timeout: float | None = None) -> int:
        """Submit what is filled; wait for `wait` completions, or after `min_wait` seconds for one, at most `timeout`.

        `min_wait` needs `FEATURE_MIN_TIMEOUT`. Returns 0, or the errno of a wait that ended early (ETIME, EINTR).
        """
        self._sq_tail[0] = self._tail
        submit = self._tail - self._sq_head[0] & 0xFFFFFFFF
        if (min_wait, timeout) != self._waited:
            self._set_wait(min_wait, timeout)
        result = _syscall(_ENTER, self.fd, submit, wait, _ENTER_GETEVENTS | _ENTER_EXT_ARG, self._wait_pointer, 24)
        if result >= 0:
            return 0
        code = ctypes.get_errno()
        if code in (errno.ETIME, errno.EINTR, errno.EBUSY, errno.EAGAIN):
            return code
        raise OSError(code, f"io_uring_enter: {os.strerror(code)}")

    def _set_wait(self, min_wait: float, timeout: float | None) -> None:
        self._waited = (min_wait, timeout)
        if min_wait and timeout is None:
            # Without a time limit the kernel takes the least time to wait for the whole: an idle ring would spin.
            timeout = _LONG
        self._wait[0] = (0, 0, int(min_wait * 1e6), 0 if timeout is None else self._timespec_pointer)
        if timeout is not None:
            self._timespec[0] = int(timeout)
            self._timespec[1] = int(timeout % 1 * 1e9)

    def completed(self) -> NDArray[np.uint64]:
        """Give the completions that are there as rows (user_data, res | flags << 32). Valid until `seen`."""
        count = self._cq_tail[0] - self._head & 0xFFFFFFFF
        start = self._head & self.completions - 1
        if start + count <= self.completions:
            return self._cqe_words[start : start + count]
        return np.concatenate((self._cqe_words[start:], self._cqe_words[: start + count - self.completions]))

    def seen(self, count: int) -> None:
        """Give `count` completions back to the kernel."""
        self._head = self._head + count & 0xFFFFFFFF
        self._cq_head[0] = self._head

    def register_files(self, count: int) -> None:
        """Make a table of `count` empty file slots."""
        request = np.zeros(1, [("nr", "u4"), ("flags", "u4"), ("resv", "u8"), ("data", "u8"), ("tags", "u8")])
        request["nr"], request["flags"] = count, _SPARSE
        self._register(_REGISTER_FILES2, request.ctypes.data, 32, "file table")

    def update_file(self, slot: int, descriptor: int) -> None:
        """Put a descriptor (-1 = none) into a slot of the table."""
        self._file_update[0] = slot
        self._file[0] = descriptor
        self._register(_REGISTER_FILES_UPDATE, self._file_update_pointer, 1, "file table update")

    def supports(self, opcodes: Sequence[int]) -> bool:
        """Ask the kernel whether it knows these operations."""
        probe = np.zeros(16 + 256 * 8, np.uint8)
        self._register(_REGISTER_PROBE, probe.ctypes.data, 256, "probe")
        operations = probe[16:].reshape(-1, 8)
        return all(bool(operations[opcode, 2] & 1) for opcode in opcodes)

    def _register(self, opcode: int, pointer: int, count: int, what: str) -> None:
        result = _register_call(_REGISTER, self.fd, opcode, pointer, count)
        if result < 0:
            code = ctypes.get_errno()
            raise Unavailable(code, f"io_uring {what}: {os.strerror(code)}")

    def cancel_all(self) -> None:
        """Cancel every request and let go of all registered files, so that closing a socket closes it at once."""
        entry = self.entry()
        entry["opcode"] = OP_ASYNC_CANCEL
        entry["op_flags"] = CANCEL_ALL | CANCEL_ANY
        self.enter()
        _register_call(_REGISTER, self.fd, _UNREGISTER_FILES, 0, 0)

    def close(self) -> None:
        """Close the ring; requests in flight are cancelled by the kernel some time later."""
        os.close(self.fd)


class BufferRing:
    """Provided buffers (a power of two of them): the kernel takes the next one for each datagram it receives."""

    def __init__(self, ring: Ring, addresses: NDArray[np.uint64], size: int, group: int) -> None:
        count = len(addresses)
        if count & count - 1 or count > BUFFERS_MAX:
            raise ValueError(f"{count} buffers: a power of two up to {BUFFERS_MAX} is needed")
        self._ring = ring
        self._mask = count - 1
        self._memory = mmap.mmap(-1, count * 16)
        self._words: NDArray[np.uint64] = np.frombuffer(self._memory, np.uint64).reshape(count, 2)
        self._tail_word: NDArray[np.uint16] = np.frombuffer(self._memory, np.uint16, 1, 14)
        numbers = np.arange(count, dtype=np.uint64)
        self._entries: NDArray[np.uint64] = np.stack((addresses, np.uint64(size) | numbers << np.uint64(32)), axis=1)
        self._tail = 0
        request = np.zeros(1, [("address", "u8"), ("entries", "u4"), ("group", "u2"), ("flags", "u2"), ("resv", "3u8")])
        request["address"] = np.frombuffer(self._memory, np.uint8).ctypes.data
        request["entries"], request["group"] = count, group
        ring._register(_REGISTER_PBUF_RING, request.ctypes.data, 1, "buffer ring")
        self.recycle(np.arange(count))

    def recycle(self, numbers: NDArray[np.intp]) -> None:
        """Give buffers back."""
        count = len(numbers)
        start = self._tail & self._mask
        fits = min(count, self._mask + 1 - start)
        # The tail shares entry 0's unused field. The kernel reads it only inside our own `enter`, so it may be
        # overwritten for a moment.
        self._entries.take(numbers[:fits], axis=0, out=self._words[start : start + fits], mode="clip")
        if fits < count:
            self._entries.take(numbers[fits:], axis=0, out=self._words[: count - fits], mode="clip")
        self._tail = self._tail + count & 0xFFFF
        self._tail_word[0] = self._tail


def _setup(entries: int, completions: int, flags: int) -> tuple[int, NDArray[np.void]]:
    params = np.zeros(1, _PARAMS)
    params["flags"], params["cq_entries"] = flags, completions
    fd = int(_setup_call(_SETUP, entries, params.ctypes.data))
    return (fd if fd >= 0 else -ctypes.get_errno()), params


_prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_uint, ctypes.c_void_p, use_errno=True)
_setup_call = _prototype(("syscall", _libc))
_register_prototype = ctypes.CFUNCTYPE(
    ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint, use_errno=True
)
_register_call = _register_prototype(("syscall", _libc))


def _refusal(code: int) -> str:
    if code == errno.ENOSYS:
        return "this kernel has no io_uring"
    if code == errno.EPERM:
        try:
            with open("/proc/sys/kernel/io_uring_disabled") as file:
                value = file.read().strip()
        except OSError:
            value = "0"
        if value != "0":
            return f"the sysctl kernel.io_uring_disabled is {value}; set it to 0"
        return "forbidden here, probably by the container's seccomp profile: allow io_uring_setup, _enter, _register"
    if code == errno.EINVAL:
        return f"kernel {platform.release()} is older than 6.1"
    if code == errno.ENOMEM:
        return "not enough lockable memory: raise RLIMIT_MEMLOCK (LimitMEMLOCK=)"
    return os.strerror(code)


def availability(opcodes: Sequence[int] = (OP_POLL_ADD, OP_RECVMSG, OP_ASYNC_CANCEL, OP_SEND)) -> str | None:
    """Tell why io_uring cannot be used here; None when it can."""
    try:
        ring = Ring(8, 16)
    except Unavailable as error:
        return error.strerror or str(error)
    try:
        if not ring.supports(opcodes):
            return f"kernel {platform.release()} lacks an operation we need"
        addresses = np.zeros(8, np.uint64)
        BufferRing(ring, addresses, 0, 0)
    except Unavailable as error:
        return error.strerror or str(error)
    finally:
        ring.close()
    return None
