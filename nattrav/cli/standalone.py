"""Starts one service alone, from a file, from options, or from nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nattrav.cli import exit_codes
from nattrav.cli.output import clean


def run_service(role: str, config: Path | None, flags: dict[str, Any], runtime_directory: Path | None) -> int:
    """Load the configuration with `flags` over it and run the service in the foreground; give its exit code.

    Without `config` no file is read, so that a service tried out on the command line is what the line says. What the
    file says of the other services is not checked: they need not be on this host.
    """
    import os

    from nattrav.config.load import ConfigurationError, Document, Loaded, load
    from nattrav.config.problems import Problem
    from nattrav.daemon.alone import run_alone

    def read() -> Loaded:
        documents = []
        if config is not None:
            try:
                documents.append(Document(str(config), config.read_text()))
            except OSError as error:
                problem = Problem(str(config), "", f"cannot be read: {error.strerror}", "name a readable file")
                raise ConfigurationError([problem]) from None
        return load(documents, environment=dict(os.environ), flags=flags | {"node": {"services": [role]}})

    try:
        loaded = read()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        return exit_codes.FAILED
    return run_alone(role, loaded.configuration, runtime_directory, read_again=read)
