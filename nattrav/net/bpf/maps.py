"""BPF maps: one entry by its octets, many as numpy columns, arrays as shared memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nattrav.net.bpf.libbpf import check, failure, libbpf

_BATCH = 4096

Entries = tuple[NDArray[Any], NDArray[Any]]
"""Keys and values, as many of each."""


@lru_cache(maxsize=1)
def possible_cpus() -> int:
    """Processors that a per-CPU map holds values for."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.rpartition("-")[2]) for part in text.split(",")) + 1


class Map:
    """A map of the kernel. `fd` stays open as long as the object it came from."""

    def __init__(self, name: str, fd: int, key_size: int, value_size: int, max_entries: int) -> None:
        self.name = name
        self.fd = fd
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self._library = libbpf()
        self._memory: mmap.mmap | None = None

    def lookup(self, key: bytes) -> bytes | None:
        """Read one entry; None when there is none."""
        value = ctypes.create_string_buffer(self.value_size)
        return value.raw if self._found(key, value) else None

    def lookup_each_cpu(self, key: bytes) -> NDArray[np.uint8]:
        """Read one entry of a per-CPU map: one row of octets per possible processor."""
        width = (self.value_size + 7) // 8 * 8
        value = ctypes.create_string_buffer(width * possible_cpus())
        found = self._found(key, value)
        rows = np.frombuffer(value.raw, np.uint8).reshape(-1, width)[:, : self.value_size]
        return rows if found else np.zeros_like(rows)

    def update(self, key: bytes, value: bytes) -> None:
        """Write one entry, new or not. OSError E2BIG when the map is full."""
        self._sized(key, value)
        result = self._library.bpf_map_update_elem(self.fd, key, value, 0)
        if result:
            raise failure(-result, f"map {self.name}: update")

    def delete(self, key: bytes) -> bool:
        """Remove one entry; tell whether there was one."""
        self._sized(key)
        result = self._library.bpf_map_delete_elem(self.fd, key)
        if result and result != -errno.ENOENT:
            raise failure(-result, f"map {self.name}: delete")
        return bool(result == 0)

    def entries(self, key: np.dtype[Any], value: np.dtype[Any]) -> Entries:
        """Read everything, thousands of entries with each call."""
        assert key.itemsize == self.key_size
        assert value.itemsize == self.value_size
        size = min(_BATCH, max(1, self.max_entries))
        keys: list[NDArray[Any]] = []
        values: list[NDArray[Any]] = []
        position: ctypes.Array[ctypes.c_char] | None = None
        while True:
            # A batch must hold at least one bucket of the hash: the kernel says ENOSPC when it does not.
            some_keys, some_values = np.empty(size, key), np.empty(size, value)
            count = ctypes.c_uint32(size)
            following = ctypes.create_string_buffer(max(self.key_size, 8))
            result = self._library.bpf_map_lookup_batch(
                *(self.fd, position, following, some_keys.ctypes.data, some_values.ctypes.data),
                *(ctypes.byref(count), None),
            )
            if result == -errno.ENOSPC:
                size *= 2
                continue
            if result and result != -errno.ENOENT:
                raise failure(-result, f"map {self.name}: reading")
            keys.append(some_keys[: count.value])
            values.append(some_values[: count.value])
            if result:
                return np.concatenate(keys), np.concatenate(values)
            position = following

    def update_many(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write many entries with one call."""
        assert len(keys) == len(values)
        assert keys.dtype.itemsize == self.key_size
        assert values.dtype.itemsize == self.value_size
        if len(keys):
            keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
            count = ctypes.c_uint32(len(keys))
            result = self._library.bpf_map_update_batch(
                self.fd, keys.ctypes.data, values.ctypes.data, ctypes.byref(count), None
            )
            check(result, f"map {self.name}: update")

    def delete_many(self, keys: NDArray[Any]) -> None:
        """Remove many entries with one call; ones that are not there are no fault."""
        assert keys.dtype.itemsize == self.key_size
        keys = np.ascontiguousarray(keys)
        while len(keys):
            count = ctypes.c_uint32(len(keys))
            result = self._library.bpf_map_delete_batch(self.fd, keys.ctypes.data, ctypes.byref(count), None)
            if result != -errno.ENOENT:
                check(result, f"map {self.name}: delete")
                return
            # The kernel stops at the first missing one.
            keys = np.ascontiguousarray(keys[count.value + 1 :])

    def memory(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Give an array map (made with BPF_F_MMAPABLE) as the kernel's own memory; valid as long as the array lives."""
        assert dtype.itemsize == self.value_size
        assert self.value_size % 8 == 0
        length = self.value_size * self.max_entries
        page = mmap.PAGESIZE
        memory = mmap.mmap(self.fd, (length + page - 1) // page * page, mmap.MAP_SHARED)
        return np.frombuffer(memory, dtype, self.max_entries)

    def pin(self, path: Path) -> None:
        """Keep the map beyond this process, under a name in a BPF file system."""
        check(self._library.bpf_obj_pin(self.fd, os.fsencode(path)), f"map {self.name}: pinning at {path}")

    def _sized(self, key: bytes, value: bytes | None = None) -> None:
        if len(key) != self.key_size or (value is not None and len(value) != self.value_size):
            raise ValueError(f"map {self.name}: keys are {self.key_size} octets, values {self.value_size}")

    def _found(self, key: bytes, value: ctypes.Array[ctypes.c_char]) -> bool:
        self._sized(key)
        result = self._library.bpf_map_lookup_elem(self.fd, key, value)
        if result and result != -errno.ENOENT:
            raise failure(-result, f"map {self.name}: lookup")
        return bool(result == 0)
