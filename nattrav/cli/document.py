"""The command tree as a page for people: docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from nattrav.cli.app import build

_HEADING = """\
# Command line

Generated from the commands themselves by `make generated`.

Anywhere on the line:

| option | meaning |
|---|---|
| `-o`, `--output table\\|wide\\|json\\|jsonl\\|csv` | how to print; JSON has `"schema": 1`, seconds, RFC 3339 times |
| `--json` | the same as `-o json` |
| `--fields a,b` | only these fields, in this order; a wrong name is answered with the known ones |
| `-w`, `--watch SECONDS` | repeat a command that only shows (`status`, `list`, `show`, …) until Ctrl-C |
| `--runtime-dir DIR` | where the daemon's control sockets are |
| `--url URL` | ask the admin listener of another host, `http://HOST:PORT` or `https://HOST`; verbs that only read |
| `--token-file FILE` | file with the token of that listener (`[admin] token_file` there) |

Data goes to standard output, everything else to standard error. Colours appear on terminals only, and never with
`NO_COLOR`. Control characters that came from the network are shown as `\\x1b`, never sent to the terminal. On a
terminal long columns are cut and long lines broken to its width; `-o wide` shows every column whole, and a pipe is
never cut.

What ends or forgets something asks first on a terminal and wants `--yes` elsewhere, with `--all` `--yes-really`;
`--dry-run` only says what would be done. `--filter` takes conditions on the fields of the JSON output:
`mos<3.5 and age>60`, `not (upstream=gateway or from~'+43')`, `loss>=2%`, `condition=none`.

With `--url` everything that reads works on another host, also what streams (`trace`, `sessions watch`,
`registrations watch`, `relay top`). There is no `cluster` command, for there is no store that edges share:
each edge keeps its own bindings, and is asked by its own address.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or the answer of a check is no |
| 2 | wrong usage |
| 3 | no daemon found |
| 4 | not found |
| 5 | refused: not allowed |
| 6 | time-out |
| 7 | degraded (`status --check`, `doctor`) |
| 130 | interrupted |
"""


def page() -> str:
    """Write the page for all groups that are installed."""
    command: Any = typer.main.get_command(build(None))
    return _HEADING + "".join(_group("nattrav", command, 2))


def _group(path: str, group: Any, depth: int) -> Iterator[str]:
    for name in group.commands:
        command = group.commands[name]
        if command.hidden:
            continue
        full = f"{path} {name}"
        yield f"\n{'#' * depth} {full}\n\n{_text(command.help)}\n"
        if getattr(command, "commands", None):
            yield from _group(full, command, depth + 1)
        else:
            yield from _parameters(full, command)


def _parameters(path: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    words = [path, *(f"[{one.name.upper()}]" if not one.required else one.name.upper() for one in arguments)]
    yield f"\n`{' '.join(words)}{' [OPTIONS]' if options else ''}`\n"
    rows = [(f"`{one.name.upper()}`", one.help or "") for one in arguments]
    rows += [(", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)), one.help or "") for one in options]
    if rows:
        yield "\n| | |\n|---|---|\n"
    for left, right in rows:
        yield f"| {left} | {_text(right).replace('|', chr(92) + '|')} |\n"


def _text(help: str | None) -> str:
    lines = [line.strip() for line in (help or "").splitlines()]
    return "\n".join(lines).strip()
