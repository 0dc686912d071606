"""Where a running instance keeps its sockets (run directory) and what survives a restart (state directory)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

RUNTIME_VARIABLE = "NATTRAV_RUNTIME_DIR"
STATE_VARIABLE = "NATTRAV_STATE_DIR"


def runtime_directories(
    explicit: Path | None = None, environ: Mapping[str, str] = os.environ
) -> list[tuple[Path, str]]:
    """List the run directories to try, best first, each with what decided for it. The daemon takes the first."""
    if explicit is not None:
        return [(explicit, "--runtime-dir")]
    if RUNTIME_VARIABLE in environ:
        return [(Path(environ[RUNTIME_VARIABLE]), RUNTIME_VARIABLE)]
    if "RUNTIME_DIRECTORY" in environ:
        return [(Path(environ["RUNTIME_DIRECTORY"].split(":")[0]), "systemd's RUNTIME_DIRECTORY")]
    if os.geteuid() == 0:
        return [(Path("/run/nattrav"), "default of root")]
    own = []
    if "XDG_RUNTIME_DIR" in environ:
        own.append((Path(environ["XDG_RUNTIME_DIR"]) / "nattrav", "XDG_RUNTIME_DIR"))
    own.append((Path(tempfile.gettempdir()) / f"nattrav-{os.geteuid()}", "default without XDG_RUNTIME_DIR"))
    return own


def runtime_directory(explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Choose the run directory of a daemon started now."""
    return runtime_directories(explicit, environ)[0][0]


def client_directories(explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> list[tuple[Path, str]]:
    """List where a command looks for a daemon: its own run directory, then the system's."""
    places = runtime_directories(explicit, environ)
    if explicit is None and RUNTIME_VARIABLE not in environ and all(str(p) != "/run/nattrav" for p, _ in places):
        places.append((Path("/run/nattrav"), "the system's daemon"))
    return places


def state_directory(
    explicit: str | None = None, environ: Mapping[str, str] = os.environ, *, beside: Path | None = None
) -> Path:
    """Choose where snapshots and databases go: `beside`, /var/lib/nattrav as root, else below XDG_STATE_HOME."""
    if explicit:
        return Path(explicit)
    if STATE_VARIABLE in environ:
        return Path(environ[STATE_VARIABLE])
    if "STATE_DIRECTORY" in environ:
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if beside is not None:
        return beside
    if os.geteuid() == 0:
        return Path("/var/lib/nattrav")
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/nonexistent")) / ".local/state")
    return Path(home) / "nattrav"
