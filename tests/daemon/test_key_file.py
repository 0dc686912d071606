"""Keys the host makes for itself: made once, private, and refused in one line when they cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from nattrav.daemon.key_file import own_key
from nattrav.daemon.runtime import StartRefused


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "some.key"
    key = own_key(path, "unused")
    assert len(key) == 32
    assert own_key(path, "unused") == key
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_serve_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"cannot use .*; name another file"):
        own_key(tmp_path / "absent" / "some.key", "name another file")
    short = tmp_path / "short.key"
    short.write_bytes(b"short")
    with pytest.raises(StartRefused, match="holds 5 octets: a key needs 32"):
        own_key(short, "unused")
