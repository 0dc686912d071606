"""`nattrav status`: one screen about the running bundle."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call
from nattrav.cli.output import Column, clean, current, emit, say


def status(
    check: Annotated[bool, typer.Option("--check", help="Exit 7 unless every service is ready.")] = False,
    nagios: Annotated[
        bool, typer.Option("--nagios", help="One line and exit code 0, 1, 2 or 3, as monitoring plugins do.")
    ] = False,
) -> None:
    """Show services, listeners and readiness of the running bundle.

    Examples: nattrav status;  nattrav status --check --json;  nattrav status --nagios
    """
    if nagios:
        from nattrav.cli.nagios import answer

        line, code = answer()
        print(clean(line))
        raise typer.Exit(code)
    state: dict[str, Any] = call("supervisor", "status")
    if current().human:
        _print_screen(state, call("supervisor", "overview")["tiles"])
        for row in state["services"]:
            # Each service's own status is part of its row.
            if row["role"] == "relay" and "backend" in row:
                say("\n" + media_path(row))
            if row["role"] == "stun" and row.get("offload", {}).get("state", "off") != "off":
                say(stun_path(row["offload"]))
    elif current().format == "json":
        emit(state)
    else:
        emit(state["services"], ["role", "up", "ready", "pid", "uptime", "restarts"])
    if check and not state["ready"]:
        raise typer.Exit(exit_codes.DEGRADED)


def _print_screen(state: dict[str, Any], tiles: dict[str, Any]) -> None:
    ready = "ready" if state["ready"] else f"NOT READY: {', '.join(state['not_ready'])}"
    say(f"nattrav {state['version']} on {state['node']}: {ready}, up {duration(state['uptime'])}")
    busy = "-" if tiles["ports_share"] is None else f"{tiles['ports_share']:.1%}"
    print(
        f"{tiles['calls']:.0f} calls, {tiles['registrations']:.0f} registrations, {tiles['one_way']:.0f} one-way, "
        f"{tiles['no_media']:.0f} without media, {busy} of ports busy\n"
    )
    if state["waiting_for_restart"]:
        say(f"wait for a restart: {', '.join(state['waiting_for_restart'])}; nattrav reload --restart\n")
    emit(
        state["services"],
        [
            Column("role", "service"),
            Column("up", "answers"),
            "ready",
            "pid",
            Column("uptime", "up", duration),
            "restarts",
        ],
    )
    print()
    emit(
        state["listening"],
        [Column("role", "service"), "what", "transport", Column("address", "listens on"), "advertised"],
        empty="no listeners",
    )


def media_path(relay: dict[str, Any]) -> str:
    """Say by what media is moved, and whether the kernel forwards it."""
    told = f"media by {relay['backend']} ({relay['backend_reason']})"
    if relay["transmit"] == "frame":
        told += f"; {relay['framed']} flows leave as frames"
    elif relay["transmit_reason"] != "asked for":
        told += f"; none leaves as frames: {relay['transmit_reason']}"
    offload = relay["offload"]
    match offload["state"]:
        case "off":
            return told
        case "unavailable":
            return f"{told}; not by XDP: {offload['why']}"
        case _:
            return f"{told}; {offload['flows']} flows by XDP ({offload['why']})"


def stun_path(offload: dict[str, Any]) -> str:
    """Say whether the kernel answers STUN."""
    if offload["state"] == "unavailable":
        return f"STUN by user space; not by XDP: {offload['why']}"
    return f"STUN by XDP ({offload['why']}), {offload['answered']} answers"


def duration(seconds: float) -> str:
    """Write seconds for people: `3d 4h`, `2h 5m`, `12m 3s`, `8s`."""
    whole = int(seconds)
    for unit, size, below, below_size in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below_size}{below}"
    return f"{whole}s"
