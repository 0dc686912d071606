"""`nattrav sip`: look at SIP from outside; needs no running service."""

from __future__ import annotations

from typing import Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail
from nattrav.cli.output import Column, current, emit
from nattrav.cli.sip_client import alg_check, register

app = typer.Typer(help="SIP from the command line: find a domain's servers, ping them, register, look for an ALG.")
app.command()(register)
app.command("alg-check")(alg_check)

_TRANSPORTS = "udp,tcp,tls"


@app.command()
def dns(
    domain: str = typer.Argument(help="A SIP domain, or a sip: URI."),
    transports: str = typer.Option(_TRANSPORTS, help="Transports to look for, separated by commas."),
    nameserver: str | None = typer.Option(None, help="Ask this name server (ADDRESS or ADDRESS:PORT)."),
    host: str | None = typer.Option(None, help="Host of the proxy in the zone lines (default: sip.DOMAIN)."),
    address: list[str] = typer.Option([], help="Public address of the proxy in the zone lines."),
) -> None:
    """Show the DNS records a domain has for SIP, where they lead (RFC 3263), and the zone lines that are missing.

    Example: nattrav sip dns voice.example.com
    """
    import trio

    from nattrav.sip.errors import MalformedMessage
    from nattrav.sip.resolve import Wanted, wanted_by_uri
    from nattrav.sip.uri import SipUri

    if ":" in domain:
        try:
            uri = SipUri.parse(domain)
        except MalformedMessage as problem:
            fail(problem.reason, exit_codes.USAGE)
        wanted, name = wanted_by_uri(uri), uri.host
    else:
        wanted, name = Wanted(domain, None, None), domain
    chosen = tuple(part.strip() for part in transports.split(",") if part.strip())
    report = trio.run(_look, wanted, name, chosen, nameserver, host, address)
    if not current().human:
        emit(report)
    else:
        emit(report["records"], ["name", "type", "data", Column("ttl", right=True)], empty=f"{name} has no SIP records")
        typer.echo("")
        emit(report["hops"], ["order", "transport", "address", "certificate"], empty=f"no next hop: {report['reason']}")
        if report["missing"]:
            typer.echo("\nZone lines to add:\n")
            for line in report["missing"]:
                typer.echo(line)
    if not report["hops"]:
        raise SystemExit(exit_codes.NOT_FOUND)


async def _look(
    wanted: Any, name: str, transports: tuple[str, ...], nameserver: str | None, host: str | None, given: list[str]
) -> dict[str, Any]:
    from nattrav.net.address import TransportAddress
    from nattrav.sip.resolve import Abilities
    from nattrav.sip.transport.io.resolver import NameService
    from nattrav.sip.zone import zone_lines

    server = TransportAddress.parse(nameserver, 53) if nameserver else None
    service = NameService(
        Abilities(transports, (4, 6)),
        nameservers=(server.host,) if server else (),
        port=server.port if server else 53,
    )
    hops = await service.resolve(wanted)
    records = await _records(service, name)
    targets = sorted({row["data"].split()[-1] for row in records if row["type"] == "SRV"})
    proxy = host or (targets[0] if targets else f"sip.{name}")
    addresses = given or sorted({row["data"] for row in records if row["name"] == proxy}) or ["203.0.113.10"]
    there = {(row["name"], row["type"], row["data"].split()[-1]) for row in records}
    wanted_lines = zone_lines(name, proxy, addresses, transports)
    missing = [
        str(line)
        for line in wanted_lines
        if (line.name.rstrip("."), line.type, line.data.split()[-1].rstrip(".")) not in there
    ]
    shown = [
        {
            "order": place + 1,
            "transport": target.transport,
            "address": str(target.remote),
            "certificate": target.server_name if target.transport in ("tls", "wss") else "",
        }
        for place, target in enumerate(hops.targets)
    ]
    return {"domain": name, "records": records, "hops": shown, "reason": hops.reason, "missing": missing}


async def _records(service: Any, name: str) -> list[dict[str, Any]]:
    from nattrav.sip.resolve import Naptr, Question, Srv

    questions = [Question(name.lower(), "NAPTR")]
    questions += [Question(f"{prefix}.{name.lower()}", "SRV") for prefix in ("_sips._tcp", "_sip._tcp", "_sip._udp")]
    questions += [Question(f"{prefix}.{name.lower()}", "SRV") for prefix in ("_stun._udp", "_stun._tcp")]
    questions += [Question(name.lower(), kind) for kind in ("A", "AAAA")]
    rows: list[dict[str, Any]] = []
    asked = set(questions)
    while questions:
        question = questions.pop(0)
        answer = await service.ask(question)
        for record in answer.records:
            match record:
                case Naptr():
                    data = (
                        f'{record.order} {record.preference} "{record.flags}" "{record.service}" {record.replacement}'
                    )
                case Srv():
                    data = f"{record.priority} {record.weight} {record.port} {record.target}"
                    more = [Question(record.target, kind) for kind in ("A", "AAAA")]
                    questions += [extra for extra in more if extra not in asked]
                    asked.update(more)
                case _:
                    data = record
            rows.append({"name": question.name, "type": question.type, "data": data, "ttl": int(answer.ttl)})
    return rows


@app.command()
def ping(
    uri: str = typer.Argument(help="Where to send OPTIONS: sip:HOST[:PORT][;transport=tcp], or just HOST."),
    count: int = typer.Option(3, help="How many."),
    timeout: float = typer.Option(2.0, help="Seconds to wait for each answer."),
    user: str | None = typer.Option(None, help="User part of From."),
) -> None:
    """Send OPTIONS and show who answers, how fast, and from which address it saw us (RFC 3581).

    Example: nattrav sip ping sip:192.0.2.10:5060
    """
    import trio

    from nattrav.sip.errors import MalformedMessage
    from nattrav.sip.io.pinger import NoWay
    from nattrav.sip.uri import SipUri

    try:
        target = SipUri.parse(uri if ":" in uri and uri.lower().startswith("sip") else f"sip:{uri}")
    except MalformedMessage as problem:
        fail(problem.reason, exit_codes.USAGE)
    try:
        rows = trio.run(_ping, target, count, timeout, user)
    except NoWay as problem:
        fail(f"{target}: {problem}", exit_codes.NOT_FOUND)
    except OSError as problem:
        fail(f"{target}: {problem.strerror or problem}")
    emit(rows, ["number", "status", "reason", Column("ms", right=True), "seen_as", "from", "server"])
    if not any(row["status"] for row in rows):
        raise SystemExit(exit_codes.TIMEOUT)


async def _ping(uri: Any, count: int, patience: float, user: str | None) -> list[dict[str, Any]]:
    import trio

    from nattrav.sip.io.pinger import Pinger

    rows = []
    async with Pinger.open(uri) as pinger:
        for number in range(1, count + 1):
            rows.append({"number": number, **await pinger.ping(patience, user or "nattrav")})
            if number < count:
                await trio.sleep(0.2)
    return rows
