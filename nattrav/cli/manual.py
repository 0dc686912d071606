"""Manual pages in roff: nattrav(1) from the commands, nattrav.toml(5) from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from nattrav import __version__
from nattrav.cli.app import build
from nattrav.config.document import Key, tables

_OPTIONS = (
    ("-o, --output table|wide|json|jsonl|csv", "How to print."),
    ("--json", "The same as -o json."),
    ("--fields a,b", "Only these fields, in this order."),
    ("-w, --watch SECONDS", "Repeat a command that only shows until Ctrl-C."),
    ("--runtime-dir DIR", "Where the daemon's control sockets are."),
    ("--url URL, --token-file FILE", "Ask the admin listener of another host; verbs that only read."),
)
_EXIT = (
    "0 done; 1 failed, or the answer of a check is no; 2 wrong usage; 3 no daemon found; 4 not found; 5 refused; "
    "6 time-out; 7 degraded; 130 interrupted."
)
_FILES = (
    ("/etc/nattrav/nattrav.toml", "Configuration; see nattrav.toml(5). An empty file is a working one."),
    ("/etc/nattrav/conf.d/*.toml", "Laid over it, in order of names."),
    ("/run/nattrav/*.sock", "Control sockets of the supervisor and the services."),
    ("/var/lib/nattrav", "What survives a restart: bindings, sessions, users, keys, call records."),
)


def commands_page() -> str:
    """Write nattrav(1)."""
    command: Any = typer.main.get_command(build(None))
    return "".join(
        [
            _head("nattrav", 1, "SIP phones behind any NAT register, call and are heard"),
            ".SH SYNOPSIS\n.B nattrav\n.I COMMAND\n[\\fIOPTIONS\\fR]\n.SH COMMANDS\n",
            *_commands("nattrav", command),
            ".SH OPTIONS OF EVERY COMMAND\n",
            *(_entry(left, right) for left, right in _OPTIONS),
            f".SH EXIT STATUS\n{_roff(_EXIT)}\n.SH FILES\n",
            *(_entry(left, right) for left, right in _FILES),
            ".SH SEE ALSO\n.BR nattrav.toml (5)\n",
        ]
    )


def configuration_page() -> str:
    """Write nattrav.toml(5)."""
    return "".join(
        [
            _head("nattrav.toml", 5, "configuration of nattrav"),
            ".SH DESCRIPTION\nTOML. Every key has a default. ",
            _roff('Durations are written "250ms", "25s", "2m", "1h30m". Keys that say "restart" count after '),
            ".B nattrav reload --restart\n; all others at once after\n.B nattrav reload\n.\n",
            *(line for title, about, keys in tables() for line in _table(title, about, keys)),
            ".SH SEE ALSO\n.BR nattrav (1)\n",
        ]
    )


def _head(name: str, section: int, about: str) -> str:
    return f'.TH {name.upper()} {section} "" "nattrav {__version__}" "nattrav"\n.SH NAME\n{name} \\- {_roff(about)}\n'


def _commands(path: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        full = f"{path} {name}"
        if getattr(command, "commands", None):
            yield from _commands(full, command)
        elif not command.hidden:
            words = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
            yield f".SS {_roff(' '.join([full, *words]))}\n"
            yield ".PP\n".join(f"{_roff(' '.join(one.split()))}\n" for one in (command.help or "").split("\n\n"))
            for one in command.params:
                if one.param_type_name == "option" and not one.hidden:
                    yield _entry(", ".join((*one.opts, *one.secondary_opts)), one.help or "")


def _table(title: str, about: str, keys: list[Key]) -> Iterator[str]:
    yield f".SH {_roff(title)}\n{_roff(about)}\n"
    for key in keys:
        default = f"Default {key.default}. " if key.default else ""
        restart = "" if key.counts == "at once" else f" ({key.counts})"
        yield _entry(key.name, f"{' '.join(key.about.split())} {default}{restart}".strip())


def _entry(left: str, right: str) -> str:
    return f".TP\n.B {_roff(left)}\n{_roff(' '.join(right.split()))}\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{text}" if text.startswith((".", "'")) else text
