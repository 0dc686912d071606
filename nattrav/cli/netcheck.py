"""`nattrav netcheck`: what this place on the network does to SIP and media, by asking a server outside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call_if_running, fail
from nattrav.cli.output import ItemWriter, clean, current, emit, say
from nattrav.cli.stun_client import host_and_port

if TYPE_CHECKING:
    from stun.io.probe import Report

SIP_PATIENCE = 2.0
_LINES = (
    ("udp", "UDP"),
    ("ipv4", "IPv4"),
    ("ipv6", "IPv6"),
    ("nat", "NAT"),
    ("mapping", "mapping"),
    ("filtering", "filtering"),
    ("hairpin", "hairpinning"),
    ("lifetime", "binding lives"),
    ("alg", "SIP ALG"),
)

Row = dict[str, Any]


def netcheck(
    hosts: Annotated[
        list[str] | None, typer.Argument(help="HOST[:PORT] of STUN servers outside; default: the bundle on this host.")
    ] = None,
    every: Annotated[str, typer.Option("--every", help="Check again after this time, as 5s or 1m, until Ctrl-C.")] = "",
    lifetime: Annotated[
        bool, typer.Option("--lifetime", help="Measure the NAT's binding lifetime, too; minutes.")
    ] = False,
    sip: Annotated[
        str, typer.Option("--sip", help="SIP server to look through for an ALG: HOST[:PORT]; default each host.")
    ] = "",
) -> None:
    """Check UDP, IPv4 and IPv6, mapping and filtering (RFC 5780), hairpinning, binding lifetime, and a SIP ALG.

    The server should be one of ours, or another with two addresses; of others less can be found out. Exit code 0 when
    UDP passes and no ALG was seen, 1 when not, 6 when no server answers.

    Examples: nattrav netcheck edge.example.net;  nattrav netcheck stun1.example.net stun2.example.net --every 5s
    """
    from nattrav.config.types import duration

    try:
        pause = duration(float(every) if every.replace(".", "", 1).isdigit() else every) if every else None
    except ValueError as error:
        fail(f"--every {every}: {error}", exit_codes.USAGE)
    asked = hosts or []
    if not asked:
        asked, sip = [_own("stun")], sip or _own("proxy")
    for host in asked:
        host_and_port(host)
    if pause is None:
        rows = [_check(host, sip, lifetime) for host in asked]
        if current().human:
            say("\n\n".join(block(row) for row in rows))
        else:
            emit(rows)
        raise typer.Exit(exit_code(rows))
    writer = ItemWriter()
    while True:
        for host in asked:
            row = _check(host, sip, lifetime)
            if current().human:
                print(clean(line(row)), flush=True)
            else:
                writer.write({"at": time.time(), **row})
        time.sleep(pause)


def _own(role: str) -> str:
    """Give the UDP listener of a service of the bundle on this host."""
    state = call_if_running("supervisor", "status") or {}
    for one in state.get("listening", ()):
        if one["role"] == role and one["transport"] == "udp":
            return str(one["address"])
    fail(f"no {role} runs here that could be asked: name a server", exit_codes.USAGE)


def _check(host: str, sip: str, lifetime: bool) -> Row:
    import trio

    from stun.io.client import NoAddress

    try:
        report, alg = trio.run(_ask, host, sip, lifetime)
    except NoAddress as error:
        return failed(host, str(error))
    except OSError as error:
        return failed(host, f"cannot be reached: {error.strerror}")
    return as_row(host, report, alg)


async def _ask(host: str, sip: str, lifetime: bool) -> tuple[Report, str | None]:
    from nattrav.cli.stun import show_progress
    from nattrav.net.address import is_literal
    from stun.io.client import resolve
    from stun.io.probe import Prober, ipv6_address
    from stun.lifetime import LifetimeSearch

    name, port = host_and_port(host)
    try:
        address = await resolve(name, port)
        second = None if is_literal(name) or ":" in address.host else await ipv6_address(name, port)
        search = LifetimeSearch() if lifetime else None
        report = await Prober(address, show_progress).run(ipv6_server=second, lifetime=search)
        show_progress("SIP ALG", None)
        return report, await _alg(sip or name, host)
    finally:
        show_progress("", None)


async def _alg(sip: str, stun: str) -> str | None:
    """What was seen of an ALG: None without an answer over SIP, empty when nothing was altered."""
    from nattrav.cli.sip_client import check_alg, to_uri
    from nattrav.sip.io.pinger import NoWay

    try:
        found = await check_alg(to_uri(f"[{sip}]" if sip.count(":") > 1 and sip[0] != "[" else sip), stun, SIP_PATIENCE)
    except (NoWay, OSError):
        return None
    return None if found is None else ", ".join(one.name for one in found[0] if one.altered)


def as_row(host: str, report: Report, alg: str | None) -> Row:
    """Give what was found as one row."""
    from nattrav.cli.stun_report import as_data

    data = as_data(report)
    mapped = data["mapped_address"]
    six = mapped is not None and mapped.startswith("[")
    return {
        "host": host,
        "ok": data["udp"] and not alg and not data["alg"],
        "udp": data["udp"],
        "ms": None if data["round_trip_seconds"] is None else round(data["round_trip_seconds"] * 1000, 2),
        "ipv4": None if six else mapped,
        "ipv6": mapped if six else data["ipv6_mapped_address"],
        "nat": data["classic_name"],
        "mapping": data["mapping"],
        "filtering": data["filtering"],
        "hairpin": data["hairpin"],
        "lifetime": data["binding_lifetime_seconds"],
        "keepalive": data["keepalive_seconds"],
        "alg": "addresses in payloads" if data["alg"] else alg,
        "advice": data["advice"],
    }


def failed(host: str, reason: str) -> Row:
    """Give the row of a server that could not be asked."""
    nothing = dict.fromkeys(
        ("ms", "ipv4", "ipv6", "nat", "mapping", "filtering", "hairpin", "lifetime", "keepalive", "alg")
    )
    return {"host": host, "ok": False, "udp": False, **nothing, "advice": reason}


def block(row: Mapping[str, Any]) -> str:
    """Write one server's result for people."""
    lines = [row["host"], *(f"  {title:<14}{_words(key, row)}" for key, title in _LINES), f"  {row['advice']}"]
    return "\n".join(lines)


def line(row: Mapping[str, Any]) -> str:
    """Write one server's result as one line, for --every."""
    state = "ok" if row["ok"] else "ALG" if row["udp"] else "no UDP"
    time_taken = "-" if row["ms"] is None else f"{row['ms']} ms"
    return (
        f"{datetime.now():%H:%M:%S} {row['host']:<21} {state:<6} {time_taken:>9} "
        f"{row['ipv4'] or row['ipv6'] or '-':<21} {row['nat'] or ''}"
    ).rstrip()


def _words(key: str, row: Mapping[str, Any]) -> str:
    value = row[key]
    match key:
        case "udp":
            return f"passes, {row['ms']} ms" if value else "does not pass"
        case "ipv4" | "ipv6":
            return f"seen as {value}" if value else "not used" if row["udp"] else "unknown"
        case "hairpin":
            return "no NAT to ask" if value is None and row["mapping"] is None else _yes_no(value)
        case "lifetime":
            return "not measured (--lifetime)" if value is None else " to ".join(f"{one or '?'} s" for one in value)
        case "alg":
            return "not looked at: no answer over SIP" if value is None else value or "not seen"
        case _:
            return "could not be determined" if value is None else str(value)


def _yes_no(value: bool | None) -> str:
    return "could not be determined" if value is None else "yes" if value else "no"


def exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """Say how it went: every server well, none answering, or something between."""
    if all(row["ok"] for row in rows):
        return exit_codes.OK
    return exit_codes.FAILED if any(row["udp"] for row in rows) else exit_codes.TIMEOUT
