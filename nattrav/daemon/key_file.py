"""Keys that this host makes for itself and keeps over restarts."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nattrav.daemon.runtime import StartRefused

LENGTH = 32
_LEAST = 16


def own_key(path: Path, remedy: str) -> bytes:
    """Read a key, or make it (mode 0600). StartRefused with `remedy` when the file cannot be used."""
    try:
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = secrets.token_bytes(LENGTH)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
    except OSError as error:
        raise StartRefused(f"cannot use {path}: {error.strerror}; {remedy}") from None
    if len(key) < _LEAST:
        raise StartRefused(f"{path} holds {len(key)} octets: a key needs {LENGTH}; delete the file to have one made")
    return key
