"""`nattrav stun`: probe a server, run one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import clean, current, emit

app = typer.Typer(help="STUN: probe a server, classify a NAT, serve", no_args_is_help=True)


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
    no_rate_limit: Annotated[bool, typer.Option("--no-rate-limit", help="Lift all limits, for measurements.")] = False,
) -> None:
    """Run a STUN server alone, in the foreground.

    Example: nattrav stun serve --listen 203.0.113.1 --alternate 203.0.113.2
    """
    from nattrav.config.load import ConfigurationError, overlay, validate
    from nattrav.daemon import files
    from nattrav.daemon.service import run_alone

    given: dict[str, Any] = {
        "listen": listen,
        "alternate": alternate,
        "port": port,
        "alternate_port": alternate_port,
        "threads": threads,
    }
    if no_rate_limit:
        given |= {"source_rate": 0, "network_rate": 0, "error_rate": 0, "total_rate": 0}
    flags = {"stun": {key: value for key, value in given.items() if value is not None}}
    try:
        configuration = validate(overlay(files.read(config).tables, flags), [("command line", flags)])
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"nattrav: {clean(str(problem))}", file=sys.stderr)
        raise typer.Exit(exit_codes.USAGE) from None
    raise typer.Exit(run_alone("stun", configuration, current().runtime_directory))


@app.command()
def probe(
    server: Annotated[str, typer.Argument(help="HOST or HOST:PORT of a STUN server; the port defaults to 3478.")],
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Use IPv6.")] = False,
) -> None:
    """Ask a STUN server how the Internet sees this host.

    Example: nattrav stun probe stun.example.net
    """
    import trio

    from stun.io.client import NoAddress

    host, port = _host_and_port(server)
    try:
        found = trio.run(_mapped_address, host, port, ipv6)
    except NoAddress as error:
        fail(str(error), exit_codes.UNREACHABLE)
    except OSError as error:
        fail(f"{server} cannot be reached: {error.strerror}", exit_codes.UNREACHABLE)
    emit(found)
    if found["mapped_address"] is None:
        raise typer.Exit(exit_codes.TIMEOUT)


def _host_and_port(text: str) -> tuple[str, int]:
    from nattrav.net.address import TransportAddress, is_literal

    if is_literal(text.strip("[]")):
        return text.strip("[]"), 3478
    if text.startswith("["):
        return TransportAddress.parse(text, 3478)
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, 3478
    if not port.isdigit() or not 0 < int(port) < 65536:
        fail(f"{text}: write HOST or HOST:PORT", exit_codes.USAGE)
    return host, int(port)


async def _mapped_address(host: str, port: int, ipv6: bool) -> dict[str, Any]:
    import socket

    from nattrav.net.address import TransportAddress
    from stun.io.client import UdpClient, local_address_towards, new_transaction_id, resolve
    from stun.message import BINDING, MessageClass, encode

    address = await resolve(host, port, socket.AF_INET6 if ipv6 else socket.AF_UNSPEC)
    client = await UdpClient.open(TransportAddress(local_address_towards(address), 0))
    try:
        outcome = await client.ask(encode(BINDING, MessageClass.REQUEST, new_transaction_id()), address)
        return {
            "server": str(address),
            "result": outcome.verdict.value,
            "local_address": str(client.local),
            "mapped_address": None if outcome.mapped is None else str(outcome.mapped),
            "round_trip_seconds": round(outcome.seconds, 6) if outcome.answered else None,
            "server_software": outcome.software or None,
        }
    finally:
        client.close()


@app.command()
def stats() -> None:
    """Show what the running STUN service has counted.

    Example: nattrav stun stats --json
    """
    emit(call("stun", "stun.stats"))
