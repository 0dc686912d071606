"""`python -m nattrav.cli` is `nattrav`."""

from __future__ import annotations

from nattrav.cli.entry import main

main()
