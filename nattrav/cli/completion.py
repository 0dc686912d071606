"""`nattrav completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

_SCRIPTS = {
    "bash": """\
_nattrav() {{
    local IFS=$'\\n'
    COMPREPLY=($(nattrav completion words "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
}}
complete -o default -F _nattrav nattrav
""",
    "zsh": """\
#compdef nattrav
_nattrav() {{
    local -a found
    found=("${{(@f)$(nattrav completion words "${{words[@]:1:$((CURRENT - 1))}}" 2>/dev/null)}}")
    compadd -a found
}}
compdef _nattrav nattrav
""",
    "fish": """\
complete -c nattrav -f -a '(nattrav completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
    line: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Print the completion script for a shell.

    Examples: nattrav completion bash > /etc/bash_completion.d/nattrav;  nattrav completion fish | source
    """
    if shell == "words":
        print("\n".join(candidates(line or [""])))
        return
    if shell not in _SCRIPTS:
        raise typer.BadParameter(f"choose one of {', '.join(_SCRIPTS)}", param_hint="SHELL")
    sys.stdout.write(_SCRIPTS[shell].format())


def candidates(line: list[str]) -> list[str]:
    """Give what the last word of a line may become; only the group that was typed is imported."""
    import typer.main

    from nattrav.cli.app import build
    from nattrav.cli.output import FORMATS

    *before, last = line
    if before and before[-1] in ("-o", "--output"):
        return [name for name in FORMATS if name.startswith(last)]
    command = typer.main.get_command(build(before))
    for word in before:
        commands = getattr(command, "commands", {})
        if word in commands:
            command = commands[word]
    if last.startswith("-"):
        options = [name for one in command.params for name in getattr(one, "opts", ()) if name.startswith("--")]
        found = [*options, "--help", "--json", "--output", "--fields", "--watch", "--runtime-dir"]
    else:
        found = [name for name, one in getattr(command, "commands", {}).items() if not one.hidden]
    return sorted({name for name in found if name.startswith(last)})
