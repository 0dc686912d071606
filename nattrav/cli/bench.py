"""`nattrav bench`: how many packets, answers and calls this machine does, in seconds, on loopback."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from nattrav.cli.connect import fail
from nattrav.cli.output import current, emit

app = typer.Typer(
    help="What this machine does, in seconds, on loopback. No comparison with others: that is docs/benchmarks.md."
)

Seconds = Annotated[float, typer.Option("--seconds", min=0.2, max=300, help="How long to send.")]

NOTE = (
    "On loopback, with the load from this host as well: CPU per unit is what carries over to a network, and the rate\n"
    "is what is left of the machine. Run it while the machine is idle; a bundle in service is not used."
)


@app.command()
def stun(
    seconds: Seconds = 3.0,
    server: Annotated[
        str, typer.Option("--server", help="Ask this server, HOST[:PORT], instead of one started here.")
    ] = "",
    sockets: Annotated[int, typer.Option("--sockets", min=1, max=256, help="Ports that ask at the same time.")] = 16,
) -> None:
    """Count Binding requests answered.

    Another host's server limits requests per source; without that it is loaded as far as this machine can.

    Example: nattrav bench stun --seconds 5
    """
    from nattrav.cli.bench_bundle import bundle
    from nattrav.cli.bench_load import binding_sources, closing, rounds
    from nattrav.net.address import TransportAddress

    if server:
        import trio

        from nattrav.cli.stun_client import host_and_port
        from stun.io.client import NoAddress, resolve

        try:
            to = trio.run(resolve, *host_and_port(server))
        except NoAddress as error:
            fail(str(error), 3)
        with closing(binding_sources(to, sockets, 32)) as sources:
            sent, back, taken = rounds(sources, seconds, numbered=False)
        _tell("answers", sent, back, taken, None)
        return
    with (
        bundle(["stun"], TransportAddress("127.0.0.1", 9)) as bench,
        closing(binding_sources(bench.stun, sockets, 32)) as sources,
    ):
        rounds(sources, 0.2, numbered=False)
        before = bench.cpu_seconds("stun")
        sent, back, taken = rounds(sources, seconds, numbered=False)
        _tell("answers", sent, back, taken, bench.cpu_seconds("stun") - before)


@app.command()
def relay(
    seconds: Seconds = 3.0,
    sessions: Annotated[int, typer.Option("--sessions", min=1, max=400, help="Calls that send both ways.")] = 64,
) -> None:
    """Count RTP packets (172 octets, G.711) relayed from one party to the other, both ways.

    Example: nattrav bench relay --sessions 200
    """
    import trio

    from nattrav.cli.bench_bundle import bundle
    from nattrav.cli.bench_load import closing, rounds, rtp_sources
    from nattrav.net.address import TransportAddress

    with (
        bundle(["relay"], TransportAddress("127.0.0.1", 9)) as bench,
        closing(trio.run(rtp_sources, bench.directory, sessions, 8)) as sources,
    ):
        rounds(sources, 0.2, numbered=True)
        before = bench.cpu_seconds("relay")
        sent, back, taken = rounds(sources, seconds, numbered=True)
        _tell("packets", sent, back, taken, bench.cpu_seconds("relay") - before, calls_of=100)


@app.command()
def sip(
    seconds: Seconds = 3.0,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=1000, help="Calls going on at the same time.")] = 10,
) -> None:
    """Count calls from INVITE to BYE through proxy and relay, SDP rewritten, with a gateway that answers at once.

    Example: nattrav bench sip --at-once 50
    """
    import socket
    import statistics

    from nattrav.cli.bench_bundle import bundle
    from nattrav.cli.bench_sip import Callers
    from nattrav.net.address import TransportAddress

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        with bundle(["relay", "proxy"], TransportAddress(*gateway.getsockname())) as bench:
            roles = ("proxy", "relay")
            before = bench.cpu_seconds(*roles)
            figures = Callers(gateway).run(bench.sip, seconds, at_once)
            cpu = bench.cpu_seconds(*roles) - before
    more = {"failed": figures.failed}
    if figures.setup:
        more["setup_ms"] = round(1000 * statistics.median(figures.setup), 2)  # type: ignore[assignment]
    _tell("calls", figures.started, figures.completed, figures.seconds, cpu, more=more)


def _tell(
    what: str,
    sent: int,
    back: int,
    seconds: float,
    cpu: float | None,
    *,
    calls_of: int = 0,
    more: dict[str, Any] | None = None,
) -> None:
    """Print one measurement. `calls_of` is how many packets a second one call has."""
    told: dict[str, Any] = {
        "measured": what,
        "seconds": round(seconds, 2),
        "sent": sent,
        "completed": back,
        "lost": round(1 - back / sent, 4) if sent else None,
        "per_second": round(back / seconds),
    }
    if cpu is not None and back:
        told["cpu_us"] = round(1e6 * cpu / back, 2)
        told["per_core_second"] = round(back / cpu) if cpu else None
        if calls_of and cpu:
            told["g711_calls_per_core"] = round(back / cpu / calls_of)
    emit(told | (more or {}))
    if current().human:
        print(f"\n{NOTE}", file=sys.stderr)
    if not back:
        fail(f"no {what} came back")
