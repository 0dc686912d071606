"""`nattrav`: the table of commands, and the entry point that imports only the group it needs.

To add a group or a command: write `nattrav/cli/<file>.py` with a typer app (or a function) and list it in `GROUPS`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from nattrav.cli import exit_codes, output, watch


@dataclass(frozen=True)
class Group:
    """Where a command lives. `attribute` is a typer app (with subcommands) or a plain function (one command)."""

    name: str
    module: str
    attribute: str
    help: str
    hidden: bool = False


GROUPS: tuple[Group, ...] = (
    Group("run", "nattrav.cli.run", "run", "Start the whole bundle under its supervisor"),
    Group("check", "nattrav.cli.check", "check", "Check a configuration file without starting anything"),
    Group("status", "nattrav.cli.status", "status", "Services, listeners and readiness on one screen"),
    Group("top", "nattrav.cli.top", "top", "Calls, ports, rates and quality, live"),
    Group("doctor", "nattrav.cli.doctor", "doctor", "Examine this host; each finding with its remedy"),
    Group("reload", "nattrav.cli.config", "reload", "Take over a changed configuration; calls go on"),
    Group("drain", "nattrav.cli.lifecycle", "drain", "Take no new calls, let those in progress end"),
    Group("undrain", "nattrav.cli.lifecycle", "undrain", "Take new calls again"),
    Group("restart", "nattrav.cli.lifecycle", "restart", "Restart one service without losing calls"),
    Group("log", "nattrav.cli.log", "app", "Show or change log levels while services run"),
    Group("log-level", "nattrav.cli.log", "level", "The same as log level", hidden=True),
    Group("config", "nattrav.cli.config", "app", "Show, compare, reload and write the configuration"),
    Group("sessions", "nattrav.cli.sessions", "app", "Relay sessions: list, show, kill, watch, stats"),
    Group("ports", "nattrav.cli.ports", "app", "Relay ports: pools, use, quarantine, leaks"),
    Group(
        "registrations",
        "nattrav.cli.registrations",
        "app",
        "Bindings of phones, with the NAT each is behind; in short: regs",
    ),
    Group("regs", "nattrav.cli.registrations", "app", "The same as registrations", hidden=True),
    Group("calls", "nattrav.cli.calls", "app", "Calls in progress, and missed ones"),
    Group("flows", "nattrav.cli.flows", "app", "Ways to peers, with the registrations and calls on each"),
    Group("transactions", "nattrav.cli.transactions", "app", "SIP transactions that are being worked on"),
    Group("upstreams", "nattrav.cli.upstreams", "app", "Gateways and cores: which are up; enable, disable"),
    Group("bans", "nattrav.cli.bans", "app", "Sources that are not heard: list, add, remove"),
    Group("explain", "nattrav.cli.explain", "explain", "What happened to a call, a phone or an address, and why"),
    Group("trace", "nattrav.cli.trace", "trace", "SIP messages as they come and go"),
    Group("users", "nattrav.cli.users", "app", "Accounts of the built-in registrar"),
    Group("stun", "nattrav.cli.stun", "app", "STUN: probe a server, classify a NAT, serve"),
    Group("netcheck", "nattrav.cli.netcheck", "netcheck", "What this place on the network does to SIP and media"),
    Group("nat", "nattrav.cli.nat", "app", "What is known of the NATs that clients are behind"),
    Group("relay", "nattrav.cli.relay", "app", "Run a relay alone, watch its traffic, drain it"),
    Group("proxy", "nattrav.cli.proxy", "app", "Run a SIP proxy alone"),
    Group("sip", "nattrav.cli.sip", "app", "SIP from the command line: ping, register, find an ALG"),
    Group("selftest", "nattrav.cli.selftest", "selftest", "Place a call between two built-in phones, and listen"),
    Group("bench", "nattrav.cli.bench", "app", "What this machine does, in seconds, on loopback"),
    Group("control", "nattrav.cli.control", "app", "Speak the ng control protocol"),
    Group("metrics", "nattrav.cli.metrics", "metrics", "Every metric of the running bundle, as it is now"),
    Group("version", "nattrav.cli.version", "version", "The version of this program and of the running bundle"),
    Group("completion", "nattrav.cli.completion", "completion", "Print the completion script for a shell"),
)

_HELP = """SIP phones behind any NAT register, call and are heard.

Anywhere on the line: -o/--output table|wide|json|jsonl|csv, --json, --fields a,b, --runtime-dir DIR;
-w/--watch SECONDS repeats a command that only shows, until Ctrl-C;
for another host, read-only: --url http://HOST:PORT --token-file FILE.

Exit codes: 0 ok, 1 failed, 2 usage, 3 no daemon, 4 not found, 5 refused, 6 timeout, 7 degraded, 130 interrupted.
"""


def build(words: Sequence[str] | None) -> typer.Typer:
    """Build the command tree. Only the group named first in `words` is imported; None imports every one."""
    app = typer.Typer(
        name="nattrav",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Plain text: "[sip]" in a help text is a table of the configuration, not a style.
        rich_markup_mode=None,
    )
    app.callback()(_root)
    chosen = None if words is None else next((word for word in words if not word.startswith("-")), "")
    for group in GROUPS:
        # A room that is not installed yet offers no command.
        if importlib.util.find_spec(group.module) is None:
            continue
        if chosen is None or group.name == chosen:
            found = getattr(importlib.import_module(group.module), group.attribute)
            if isinstance(found, typer.Typer):
                # A group with a default verb runs it; the others show their verbs.
                shows_help = found.info.invoke_without_command is not True
                app.add_typer(found, name=group.name, help=group.help, no_args_is_help=shows_help, hidden=group.hidden)
            else:
                app.command(group.name, hidden=group.hidden)(found)
        else:
            app.command(group.name, help=group.help, hidden=group.hidden)(_not_loaded)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from nattrav import __version__

        print(f"nattrav {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Options before any command."""


def _not_loaded() -> None:
    raise AssertionError("a group that was not named cannot be run")


def run(arguments: Sequence[str], *, all_groups: bool = False) -> int:
    """Run one command line and give its exit code; nothing escapes but what the daemon itself raises."""
    previous = output.current()
    try:
        rest, chosen = output.take(arguments)
        output.use(chosen)
        command: Any = build(None if all_groups else rest)
        if chosen.watch is not None:
            return watch.repeat(lambda: _run_once(command, rest), rest, chosen)
        return _run_once(command, rest)
    except output.UsageError as error:
        print(f"nattrav: {error}", file=sys.stderr)
        return exit_codes.USAGE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; the interpreter must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OK
    finally:
        output.use(previous)


def _run_once(command: Any, words: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        result = command(words, prog_name="nattrav", standalone_mode=True)
    except SystemExit as exit_request:
        if sys.stdout is not stdout:
            # typer makes a broken pipe a failure; it leaves a wrapper behind that tells.
            raise BrokenPipeError from None
        code = exit_request.code
        return code if isinstance(code, int) else exit_codes.OK if code is None else exit_codes.FAILED
    except BaseExceptionGroup as group:
        # Ctrl-C below a nursery.
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return exit_codes.INTERRUPTED
    return result if isinstance(result, int) else exit_codes.OK


def main() -> None:
    """Entry point of the `nattrav` command."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)
