"""The key that proxies and relays on different hosts share (`[control] shared_key_file`)."""

from __future__ import annotations

from pathlib import Path

from nattrav.daemon.runtime import StartRefused

LEAST = 16


def shared_key(path: str) -> bytes | None:
    """Read the key; None when no file is configured. StartRefused when the file cannot serve."""
    if not path:
        return None
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise StartRefused(
            f"[control] shared_key_file {path}: {error.strerror}; make it readable or leave the key empty"
        ) from None
    if len(key) < LEAST:
        raise StartRefused(f"[control] shared_key_file {path} holds less than {LEAST} octets; write a longer secret")
    return key
