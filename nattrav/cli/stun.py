"""`nattrav stun`: probe a server, run one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import clean, current, emit, say
from nattrav.cli.stun_client import host_and_port, lifetime, query

if TYPE_CHECKING:
    from stun.io.probe import Report, Streams
    from stun.lifetime import LifetimeSearch

app = typer.Typer(help="STUN: ask and probe servers, classify a NAT, serve", no_args_is_help=True)
app.command()(query)
app.command()(lifetime)


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Configuration file; options override it.")
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(help="Address to serve, ADDRESS or ADDRESS!ADVERTISED; may be repeated.")
    ] = None,
    alternate: Annotated[
        list[str] | None, typer.Option(help="Second address, for clients that find out their NAT's behaviour.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="UDP port, default 3478.")] = None,
    alternate_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Other port, default 3479.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Data threads, default 1.")] = None,
    offload: Annotated[str | None, typer.Option(help="Have the kernel answer too: off, auto or xdp.")] = None,
    no_rate_limit: Annotated[bool, typer.Option("--no-rate-limit", help="Lift all limits, for measurements.")] = False,
) -> None:
    """Run a STUN server alone, in the foreground.

    Example: nattrav stun serve --listen 203.0.113.1 --alternate 203.0.113.2
    """
    from nattrav.config.load import ConfigurationError, Loaded, overlay, validate
    from nattrav.daemon import files
    from nattrav.daemon.alone import run_alone

    given: dict[str, Any] = {
        "listen": listen,
        "alternate": alternate,
        "port": port,
        "alternate_port": alternate_port,
        "offload": offload,
        "threads": threads,
    }
    if no_rate_limit:
        given |= {"source_rate": 0, "network_rate": 0, "error_rate": 0, "total_rate": 0}
    flags = {"stun": {key: value for key, value in given.items() if value is not None}}

    def read() -> Loaded:
        tables = overlay(files.read(config).tables, flags)
        return Loaded(validate(tables, [("command line", flags)]), tables)

    try:
        loaded = read()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        raise typer.Exit(exit_codes.USAGE) from None
    raise typer.Exit(run_alone("stun", loaded.configuration, current().runtime_directory, read_again=read))


@app.command()
def probe(
    server: Annotated[str, typer.Argument(help="HOST or HOST:PORT of a STUN server; the port defaults to 3478.")],
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Use IPv6.")] = False,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Ask the local router too (UPnP, NAT-PMP, PCP): finds cascaded NATs.")
    ] = False,
    tcp: Annotated[
        bool, typer.Option("--tcp", help="Ask over TCP too, also when UDP works: mapped address and mapping.")
    ] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Ask over TLS too; the certificate must hold.")] = False,
    tls_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of TLS.")] = 5349,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", exists=True, dir_okay=False, help="PEM file of authorities to trust, for your own."),
    ] = None,
    with_lifetime: Annotated[
        bool, typer.Option("--lifetime", help="Measure how long the NAT keeps a binding; takes minutes.")
    ] = False,
    lifetime_max: Annotated[float, typer.Option(min=1, max=7200, help="Longest silence tried, in seconds.")] = 300,
    lifetime_min: Annotated[float, typer.Option(min=0.5, max=3600, help="Shortest silence tried first.")] = 15,
) -> None:
    """Find out what NAT this host is behind, and what that means for SIP.

    When the server does not answer over UDP, it is asked over TCP, and then over TLS.

    Example: nattrav stun probe stun.example.net
    """
    import trio

    from nattrav.cli.stun_report import as_data, as_text
    from stun.io.client import NoAddress
    from stun.io.probe import Streams
    from stun.lifetime import LifetimeSearch

    host, port = host_and_port(server)
    search = LifetimeSearch(min(lifetime_min, lifetime_max), lifetime_max) if with_lifetime else None
    try:
        streams = Streams(tcp, tls, tls_port, host, None if tls_ca is None else str(tls_ca))
        report = trio.run(_probe, host, port, ipv6, gateway, search, streams)
    except NoAddress as error:
        fail(str(error), exit_codes.UNREACHABLE)
    except OSError as error:
        fail(f"{server} cannot be reached: {error.strerror}", exit_codes.UNREACHABLE)
    if current().human:
        say(as_text(report))
    else:
        emit(as_data(report))
    if not report.findings.udp and not report.over_stream:
        raise typer.Exit(exit_codes.TIMEOUT)


app.command("nat", hidden=True)(probe)


async def _probe(
    host: str, port: int, ipv6: bool, gateway: bool, search: LifetimeSearch | None, streams: Streams
) -> Report:
    import socket

    from nattrav.net.address import is_literal
    from nattrav.net.interfaces import default_gateway
    from stun.io.client import resolve
    from stun.io.gateway import ask_gateway
    from stun.io.probe import Prober, ipv6_address

    address = await resolve(host, port, socket.AF_INET6 if ipv6 else socket.AF_UNSPEC)
    second = None if ipv6 or is_literal(host) or ":" in address.host else await ipv6_address(host, port)
    prober = Prober(address, show_progress, streams)
    try:
        report = await prober.run(ipv6_server=second, lifetime=search)
        if gateway:
            show_progress("asking the router", None)
            report = replace(report, gateway=await ask_gateway(default_gateway(address.family)))
        return report
    finally:
        show_progress("", None)


def show_progress(what: str, share: float | None) -> None:
    """Keep one line of progress on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return
    bar = "" if share is None else f" [{'█' * int(20 * share):░<20}]"
    sys.stderr.write(f"\r\x1b[K{what}{bar}" if what else "\r\x1b[K")
    sys.stderr.flush()


@app.command()
def stats() -> None:
    """Show what the running STUN service has counted.

    Example: nattrav stun stats --json
    """
    emit(call("stun", "stun.stats"))
