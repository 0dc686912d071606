"""`nattrav version`."""

from __future__ import annotations

import platform

from nattrav import __version__
from nattrav.cli.connect import call_if_running
from nattrav.cli.output import emit


def version() -> None:
    """Show the version of this program, of Python, and of the running bundle.

    Example: nattrav version --json
    """
    status = call_if_running("supervisor", "status")
    running = None if status is None else status["version"]
    emit({"nattrav": __version__, "python": platform.python_version(), "running": running})
