"""Which configuration files are read, and reading them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nattrav.config.load import ConfigurationError, Document, Loaded, load
from nattrav.config.problems import Problem

DEFAULT_FILE = Path("/etc/nattrav/nattrav.toml")
VARIABLE = "NATTRAV_CONFIG"


def chosen_file(explicit: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Choose the main file: the option, else NATTRAV_CONFIG, else /etc/nattrav/nattrav.toml where that exists."""
    if explicit is not None:
        return explicit
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read(explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read the main file, then `conf.d/*.toml` beside it in order of names, and the environment.

    Without any file the defaults hold. Raises ConfigurationError, also for files that cannot be read.
    """
    main = chosen_file(explicit, environ)
    paths = [] if main is None else [main, *sorted((main.parent / "conf.d").glob("*.toml"))]
    documents, problems = [], []
    for path in paths:
        try:
            documents.append(Document(str(path), path.read_text(encoding="utf-8")))
        except OSError as error:
            problems.append(Problem(str(path), "", f"cannot be read: {error.strerror}", "name a readable file"))
        except UnicodeDecodeError as error:
            problems.append(Problem(str(path), "", f"is not UTF-8 text (octet {error.start})", "save it as UTF-8"))
    if problems:
        raise ConfigurationError(problems)
    return load(documents, environ)
