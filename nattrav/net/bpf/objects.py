"""BPF objects: what clang made of a C source, brought into the kernel with its maps and programs.

Sizes and constants are settled between opening and loading; maps and programs exist after loading. Everything goes
when the object is closed or the process ends, however it ends, unless it was pinned.
"""

from __future__ import annotations

import ctypes
from types import TracebackType

from nattrav.net.bpf.libbpf import check, failure, libbpf, warnings
from nattrav.net.bpf.maps import Map
from nattrav.net.bpf.programs import Program


class BpfObject:
    """An opened, and after `load` a loaded, BPF object file. Raises library.Unavailable without libbpf."""

    def __init__(self, octets: bytes, name: str = "object") -> None:
        self.name = name
        self._library = libbpf()
        # libbpf reads from here until the object is closed.
        self._octets = octets
        warnings.take()
        ctypes.set_errno(0)
        self._handle: int | None = self._library.bpf_object__open_mem(octets, len(octets), None)
        if not self._handle:
            raise failure(ctypes.get_errno(), f"BPF object {name} cannot be read")

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def set_size(self, name: str, max_entries: int) -> None:
        """Say, before loading, how many entries a map holds."""
        check(self._library.bpf_map__set_max_entries(self._map(name), max_entries), f"map {name}: size {max_entries}")

    def set_constants(self, octets: bytes) -> None:
        """Give, before loading, the program's `const volatile` variables their values, as `.rodata` lays them out.

        Plain global variables are the map `.bss`, with one entry that can be written at any time.
        """
        size = ctypes.c_size_t()
        place = self._library.bpf_map__initial_value(self._map(".rodata"), ctypes.byref(size))
        if not place or size.value != len(octets):
            raise ValueError(f"constants of {self.name} are {size.value} octets, not {len(octets)}")
        ctypes.memmove(place, octets, len(octets))

    def share(self, name: str, map_fd: int) -> None:
        """Use, instead of a new map, one that exists already."""
        check(self._library.bpf_map__reuse_fd(self._map(name), map_fd), f"map {name}: sharing")

    def leave_out(self, program: str) -> None:
        """Do not load one of the programs."""
        check(self._library.bpf_program__set_autoload(self._program(program), False), f"program {program}")

    def load(self) -> None:
        """Make the maps and have the programs verified. OSError with the verifier's last word when it refuses."""
        check(self._library.bpf_object__load(self._handle), f"BPF object {self.name} cannot be loaded")

    def map(self, name: str) -> Map:
        """Give a map of a loaded object."""
        handle, library = self._map(name), self._library
        return Map(
            name,
            check(library.bpf_map__fd(handle), f"map {name}"),
            library.bpf_map__key_size(handle),
            library.bpf_map__value_size(handle),
            library.bpf_map__max_entries(handle),
        )

    def program(self, name: str) -> Program:
        """Give a program of a loaded object."""
        return Program(name, check(self._library.bpf_program__fd(self._program(name)), f"program {name}"))

    def close(self) -> None:
        """Let go of maps and programs; what is attached or pinned lives on."""
        if self._handle:
            self._library.bpf_object__close(self._handle)
            self._handle = None

    def _map(self, name: str) -> int:
        found = self._library.bpf_object__find_map_by_name(self._handle, name.encode())
        if not found:
            raise KeyError(f"no map {name} in {self.name}")
        return int(found)

    def _program(self, name: str) -> int:
        found = self._library.bpf_object__find_program_by_name(self._handle, name.encode())
        if not found:
            raise KeyError(f"no program {name} in {self.name}")
        return int(found)
