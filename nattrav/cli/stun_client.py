"""`nattrav stun query` and `nattrav stun lifetime`: one question each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail
from nattrav.cli.output import Column, emit

if TYPE_CHECKING:
    from stun.transaction import Outcome

Server = Annotated[str, typer.Argument(help="HOST or HOST:PORT of a STUN server; the port defaults to 3478.")]


def host_and_port(text: str) -> tuple[str, int]:
    """Read HOST or HOST:PORT; ends the command when it is neither."""
    from nattrav.net.address import TransportAddress, is_literal

    if is_literal(text.strip("[]")):
        return text.strip("[]"), 3478
    if text.startswith("["):
        try:
            return TransportAddress.parse(text, 3478)
        except ValueError as error:
            fail(f"{text}: {error}", exit_codes.USAGE)
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, 3478
    if not port.isdigit() or not 0 < int(port) < 65536:
        fail(f"{text}: write HOST or HOST:PORT", exit_codes.USAGE)
    return host, int(port)


async def ask_once(server: str, *, ipv6: bool = False) -> Outcome:
    """Send one Binding request. NoAddress when the name has none, OSError without a route."""
    import socket

    from nattrav.net.address import TransportAddress
    from stun.io.client import UdpClient, local_address_towards, new_transaction_id, resolve
    from stun.message import BINDING, MessageClass, encode

    to = await resolve(*host_and_port(server), socket.AF_INET6 if ipv6 else socket.AF_UNSPEC)
    client = await UdpClient.open(TransportAddress(local_address_towards(to), 0))
    try:
        return await client.ask(encode(BINDING, MessageClass.REQUEST, new_transaction_id()), to)
    finally:
        client.close()


def query(
    server: Server,
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="Use IPv6.")] = False,
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many, each from a new port.")] = 1,
) -> None:
    """Ask a STUN server for our mapped address, and measure the time.

    Examples: nattrav stun query stun.example.net;  nattrav stun query 192.0.2.1:3478 --count 10 -o csv
    """
    import trio

    from stun.io.client import NoAddress

    rows = []
    for number in range(1, count + 1):
        try:
            outcome = trio.run(_one, server, ipv6)
        except NoAddress as error:
            fail(str(error), exit_codes.UNREACHABLE)
        except OSError as error:
            fail(f"{server} cannot be reached: {error.strerror}", exit_codes.UNREACHABLE)
        rows.append(
            {
                "number": number,
                "mapped_address": None if outcome.mapped is None else str(outcome.mapped),
                "ms": round(outcome.seconds * 1000, 2) if outcome.answered else None,
                "requests": outcome.sends,
                "software": outcome.software or None,
                "result": outcome.verdict.value,
            }
        )
    emit(
        rows,
        ["number", "mapped_address", Column("ms", right=True), "requests", "result", Column("software", wide=True)],
    )
    if not any(row["mapped_address"] for row in rows):
        raise typer.Exit(exit_codes.TIMEOUT)


async def _one(server: str, ipv6: bool) -> Outcome:
    return await ask_once(server, ipv6=ipv6)


def lifetime(
    server: Server,
    longest: Annotated[float, typer.Option("--max", min=1, max=7200, help="Longest silence tried, in seconds.")] = 300,
    shortest: Annotated[float, typer.Option("--min", min=0.5, max=3600, help="Shortest silence tried first.")] = 15,
) -> None:
    """Measure how long the NAT keeps a UDP binding; takes minutes, needs a server with RESPONSE-PORT as ours.

    Example: nattrav stun lifetime stun.example.net --max 120
    """
    import trio

    from nattrav.cli.stun import show_progress
    from stun.io.client import NoAddress, resolve
    from stun.io.probe import Prober
    from stun.lifetime import LifetimeSearch

    search = LifetimeSearch(min(shortest, longest), longest)
    host, port = host_and_port(server)

    async def measure() -> tuple[bool, str | None]:
        try:
            report = await Prober(await resolve(host, port), show_progress).run(lifetime=search)
        finally:
            show_progress("", None)
        return report.findings.udp, report.lifetime_refused

    try:
        udp, refused = trio.run(measure)
    except NoAddress as error:
        fail(str(error), exit_codes.UNREACHABLE)
    except OSError as error:
        fail(f"{server} cannot be reached: {error.strerror}", exit_codes.UNREACHABLE)
    if not udp:
        fail(f"{server} does not answer over UDP", exit_codes.TIMEOUT)
    if refused is not None:
        fail(refused)
    emit({"lower": search.lower, "upper": search.upper, "keepalive": search.keepalive})
