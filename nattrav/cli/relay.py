"""`nattrav relay`: run a relay alone, watch its traffic, drain it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(help="Run a relay alone, watch its traffic, drain it.")


@app.command()
def serve(
    interface: Annotated[
        list[str] | None,
        typer.Option(help="NAME/ADDRESS or NAME/ADDRESS!ADVERTISED; repeat for several. Default: this host's address."),
    ] = None,
    listen_ng: Annotated[
        list[str] | None,
        typer.Option(help="ADDRESS:PORT (UDP), or udp:, tcp:, unix: in front. Default 127.0.0.1:2223."),
    ] = None,
    port_min: Annotated[int | None, typer.Option(help="Lowest media port (30000).")] = None,
    port_max: Annotated[int | None, typer.Option(help="Highest media port (39999).")] = None,
    threads: Annotated[int | None, typer.Option(help="Data threads; default one per processor.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, io_uring or portable.")] = None,
    transmit: Annotated[str | None, typer.Option(help="socket or frame: how packets of settled flows leave.")] = None,
    offload: Annotated[str | None, typer.Option(help="off, auto or xdp: have the kernel forward latched RTP.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Network whose ng requests are answered; repeat for several.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Configuration file; options win over it.")
    ] = None,
) -> None:
    """Run an RTP relay with its ng control socket in the foreground, without the rest of the bundle.

    Example: nattrav relay serve --interface public/203.0.113.1!198.51.100.7 --listen-ng 127.0.0.1:2223
    """
    from pathlib import Path

    from nattrav.cli.output import current
    from nattrav.cli.standalone import run_service

    relay: dict[str, Any] = {}
    control: dict[str, Any] = {}
    if interface:
        relay["interfaces"] = interface
    if port_min is not None or port_max is not None:
        relay["ports"] = f"{port_min or 30000}-{port_max or 39999}"
    if threads is not None:
        relay["threads"] = threads
    if backend is not None:
        relay["backend"] = backend
    if transmit is not None:
        relay["transmit"] = transmit
    if offload is not None:
        relay["offload"] = offload
    if listen_ng:
        control["listen"] = [
            text if text.startswith(("udp:", "tcp:", "unix:")) else f"udp:{text}" for text in listen_ng
        ]
    if allow:
        control["allow"] = [*allow, "127.0.0.0/8", "::1/128"]
    flags = {name: table for name, table in (("relay", relay), ("control", control)) if table}
    raise typer.Exit(run_service("relay", Path(config) if config else None, flags, current().runtime_directory))


@app.command()
def top(
    interval: Annotated[float, typer.Option(help="Seconds between readings.")] = 1.0,
    limit: Annotated[int, typer.Option(help="How many of the busiest sessions to show.")] = 20,
    once: Annotated[bool, typer.Option("--once", help="Print one reading and end.")] = False,
) -> None:
    """Show traffic, port pools and the busiest sessions, live.

    Examples: nattrav relay top;  nattrav relay top --once --json
    """
    import sys

    from nattrav.cli.connect import stream
    from nattrav.cli.output import ItemWriter, current
    from nattrav.cli.relay_tables import top_text

    writer = ItemWriter()
    for item in stream("relay", "relay.top", interval=interval, limit=limit):
        if not current().human:
            writer.write(item)
        else:
            if sys.stdout.isatty() and not once:
                sys.stdout.write("\x1b[H\x1b[2J")
            sys.stdout.write(top_text(item))
            sys.stdout.flush()
        if once:
            return


@app.command()
def drain(
    leave: Annotated[bool, typer.Option("--exit", help="End the relay after its last session.")] = False,
    longest: Annotated[int, typer.Option("--max", help="End it after so many seconds even so; 0 = wait.")] = 0,
) -> None:
    """Take no new sessions; those in progress go on.

    Examples: nattrav relay drain;  nattrav relay drain --exit --max 3600
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import emit

    emit(call("relay", "relay.drain", exit=leave, max=longest))


@app.command()
def undrain() -> None:
    """Take new sessions again.

    Example: nattrav relay undrain
    """
    from nattrav.cli.connect import call
    from nattrav.cli.output import emit

    emit(call("relay", "relay.undrain"))
