"""The `nattrav` command: names for a shell's completion at once, everything else by the command tree."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `nattrav` command."""
    if sys.argv[1:3] == ["completion", "values"]:
        # A shell waits for this at every Tab, so the command tree is not even imported.
        from nattrav.cli import values

        values.main(sys.argv[3:])
        return
    from nattrav.cli import app

    app.main()
