"""The bearer token of the admin listener (`[admin] token_file`)."""

from __future__ import annotations

from pathlib import Path

from nattrav.config.admin import AdminSection
from nattrav.daemon.runtime import StartRefused


def read_token(admin: AdminSection) -> str | None:
    """Read the bearer token; StartRefused when the file is missing or empty."""
    if not admin.token_file:
        return None
    try:
        token = Path(admin.token_file).read_text().strip()
    except OSError as error:
        raise StartRefused(
            f"cannot read [admin] token_file {admin.token_file}: {error.strerror}; write a long random word into it"
        ) from None
    if len(token) < 16:
        raise StartRefused(f"[admin] token_file {admin.token_file} holds less than 16 characters; write a longer token")
    return token
