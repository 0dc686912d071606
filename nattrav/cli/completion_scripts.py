"""Writes the completion scripts for bash, zsh and fish from the command tree; `make generated` keeps them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import typer.main

from nattrav.cli.app import build
from nattrav.cli.output import FORMATS

EVERYWHERE = {
    "--help": "show help",
    "--json": "the same as -o json",
    "--output": "table, wide, json, jsonl or csv",
    "--fields": "only these fields",
    "--watch": "repeat every so many seconds",
    "--runtime-dir": "where the control sockets are",
    "--url": "ask the admin listener of another host",
    "--token-file": "file with the token of that listener",
}
ARGUMENTS = {
    "sessions show": "sessions",
    "sessions kill": "sessions",
    "calls show": "calls",
    "calls kill": "calls",
    "calls ladder": "calls",
    "explain": "calls",
    "trace": "users",
    "registrations show": "users",
    "registrations remove": "users",
    "flows show": "flows",
    "flows forget": "flows",
    "upstreams enable": "upstreams",
    "upstreams disable": "upstreams",
    "bans remove": "bans",
    "ports show": "ports",
    "nat show": "nats",
    "nat forget": "nats",
    "restart": "services",
    "log level": "services",
    "sessions list --pool": "pools",
}
"""Which names of `nattrav completion values` complete the argument of a command, or of its option."""

CHOICES = {
    "completion": ("bash", "zsh", "fish"),
    "top --sort": ("packets", "rate", "age", "lost", "dropped", "loss", "mos"),
    "ports list --state": ("used", "quarantined", "aside"),
}


@dataclass
class Place:
    """One command or group: what may follow it."""

    path: str
    commands: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


def places() -> list[Place]:
    """Walk the command tree."""
    command: Any = typer.main.get_command(build(None))
    return list(_walk("", command))


def _walk(path: str, command: Any) -> Iterator[Place]:
    place = Place(path)
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden:
            names = (*option.opts, *option.secondary_opts)
            place.options |= {name: _first(option.help) for name in names if name.startswith("--")}
    place.commands = {
        name: _first(one.help) for name, one in getattr(command, "commands", {}).items() if not one.hidden
    }
    yield place
    for name in place.commands:
        yield from _walk(f"{path} {name}".strip(), command.commands[name])


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split()).split(". ")[0].rstrip(".")[:70]


def scripts() -> dict[str, str]:
    """Give the scripts by shell."""
    found = places()
    return {"bash": _bash(found), "zsh": _zsh(found), "fish": _fish(found)}


_FIND = """\
_nattrav_find() {
    # Takes the words behind "nattrav"; leaves in `found` what the last one may become.
    local at= word= previous= commands= options= kind= choices=
    _nattrav_look ""
    while [ $# -gt 1 ]; do
        word=$1
        shift
        case $word in
            -*) ;;
            *) case " $commands " in
                *" $word "*) at=${at:+$at }$word; _nattrav_look "$at" ;;
            esac ;;
        esac
        previous=$word
    done
    case $previous in
        -*) _nattrav_value "$at" "$previous" ;;
    esac
    found=
    if [ -n "$choices" ]; then found=$choices
    elif [ "${1#-}" != "$1" ]; then found="$options @EVERYWHERE@"
    elif [ -n "$commands" ]; then found=$commands
    elif [ -n "$kind" ]; then found=$(nattrav completion values "$kind" 2>/dev/null)
    fi
}
""".replace("@EVERYWHERE@", " ".join(EVERYWHERE))


def _look(found: list[Place]) -> str:
    """Functions for bash and zsh that say what stands at a place of the tree, and what an option takes."""
    lines = ["_nattrav_look() {", "    commands= options= kind= choices=", '    case "$1" in']
    for one in found:
        parts = [
            f"{name}={shlex.quote(value)}"
            for name, value in (
                ("commands", " ".join(one.commands)),
                ("options", " ".join(one.options)),
                ("kind", ARGUMENTS.get(one.path, "")),
                ("choices", " ".join(CHOICES.get(one.path, ()))),
            )
            if value
        ]
        if parts:
            lines.append(f'        "{one.path}") {" ".join(parts)} ;;')
    lines += ["    esac", "}", "_nattrav_value() {", '    case "$1 $2" in']
    lines.append(f"        *' -o' | *' --output') choices={shlex.quote(' '.join(FORMATS))} ;;")
    for key, value in ARGUMENTS.items():
        if " --" in key:
            lines.append(f'        "{key}") kind={value} commands= ;;')
    for key, words in CHOICES.items():
        if " --" in key:
            lines.append(f'        "{key}") choices={shlex.quote(" ".join(words))} ;;')
    return "\n".join([*lines, "    esac", "}"])


def _bash(found: list[Place]) -> str:
    return f"""\
# Completion of nattrav for bash. Generated by `make generated`.
{_look(found)}
{_FIND}
_nattrav() {{
    local line=${{COMP_LINE:0:COMP_POINT}} typed found last head
    read -ra typed <<< "$line"
    typed=("${{typed[@]:1}}")
    [[ $line == *[[:space:]] || ${{#typed[@]}} -eq 0 ]] && typed+=("")
    _nattrav_find "${{typed[@]}}"
    last=${{typed[${{#typed[@]}}-1]}}
    COMPREPLY=()
    while read -r word; do
        [[ -n $word && $word == "$last"* ]] && COMPREPLY+=("$word")
    done <<< "${{found// /$'\\n'}}"
    # The shell breaks words at colons and wants only what comes behind the last one.
    if [[ $last == *:* && $COMP_WORDBREAKS == *:* ]]; then
        head=${{last%"${{last##*:}}"}}
        COMPREPLY=("${{COMPREPLY[@]#"$head"}}")
    fi
}}
complete -o default -F _nattrav nattrav
"""


def _zsh(found: list[Place]) -> str:
    return f"""\
#compdef nattrav
# Completion of nattrav for zsh. Generated by `make generated`.
{_look(found)}
{_FIND}
_nattrav() {{
    local found=
    _nattrav_find "${{(@)words[2,CURRENT]}}"
    if [[ -n $found ]]; then compadd -- ${{=found}}; else _files; fi
}}
if [[ ${{funcstack[1]:-}} == _nattrav ]]; then _nattrav "$@"; else compdef _nattrav nattrav; fi
"""


def _fish(found: list[Place]) -> str:
    lines = [_FISH_HEAD]
    lines += [f"complete -c nattrav -l {name[2:]} -d {shlex.quote(about)}" for name, about in EVERYWHERE.items()]
    lines.append(f"complete -c nattrav -s o -x -a {shlex.quote(' '.join(FORMATS))}")
    for place in found:
        at = f"complete -c nattrav -n '__nattrav_at {place.path}'"
        lines += [f"{at} -a {name} -d {shlex.quote(about)}" for name, about in place.commands.items()]
        for name, about in place.options.items():
            key = f"{place.path} {name}"
            taken = ""
            if key in ARGUMENTS:
                taken = f" -x -a '(nattrav completion values {ARGUMENTS[key]} 2>/dev/null)'"
            elif key in CHOICES:
                taken = f" -x -a {shlex.quote(' '.join(CHOICES[key]))}"
            lines.append(f"{at} -l {name[2:]}{taken} -d {shlex.quote(about)}")
        if place.path in ARGUMENTS:
            lines.append(f"{at} -a '(nattrav completion values {ARGUMENTS[place.path]} 2>/dev/null)'")
        if place.path in CHOICES:
            lines.append(f"{at} -a {shlex.quote(' '.join(CHOICES[place.path]))}")
    return "\n".join(lines) + "\n"


_FISH_HEAD = """\
# Completion of nattrav for fish. Generated by `make generated`.
function __nattrav_at -d 'The commands typed so far are exactly these'
    set -l typed
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; or set -a typed $word
    end
    test "$typed" = "$argv"
end
complete -c nattrav -f"""
