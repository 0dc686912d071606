"""How the C library's allocator treats memory that is freed and soon wanted again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed(octets: int) -> bool:
    """Let the process keep up to `octets` of freed memory per arena instead of giving it back to the kernel.

    Arrays that come and go several times a second otherwise cost a page fault for each 4 KiB, every time. Returns
    False where the C library has no such setting.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return all(libc.mallopt(option, octets) for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
