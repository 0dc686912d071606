"""`nattrav sip register` and `nattrav sip alg-check`: what a phone at this place would live through."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail
from nattrav.cli.output import Column, current, emit, say

if TYPE_CHECKING:
    from nattrav.sip.alg_probe import Check
    from nattrav.sip.uri import SipUri


def register(
    aor: Annotated[str, typer.Argument(help="USER@DOMAIN.")],
    server: Annotated[
        str, typer.Option("--server", help="Where to send it: HOST[:PORT] or sip: URI; default DOMAIN.")
    ] = "",
    auth_user: Annotated[str, typer.Option("--auth-user", help="User name for authentication; default USER.")] = "",
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="File with the password, - for standard input.")
    ] = None,
    expires: Annotated[int, typer.Option(min=1, max=86400, help="Seconds asked for.")] = 60,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the binding to run out; else it is taken back.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each answer.")] = 5.0,
) -> None:
    """Register as a phone would, show what the registrar grants and as whom it sees us, and take it back.

    Exit codes: 0 registered, 1 refused, 5 wrong user or password, 6 no answer.

    Examples: nattrav sip register alice@voice.example.com --password-file alice.txt;
    nattrav sip register alice@voice.example.com --server 'sip:192.0.2.10;transport=tcp'
    """
    import trio

    from nattrav.sip.io.pinger import NoWay, seen_as

    user, at, domain = aor.removeprefix("sip:").partition("@")
    if not (user and at and domain):
        fail(f"{aor}: write USER@DOMAIN", exit_codes.USAGE)
    target = to_uri(server or domain)
    password = _password(password_file)
    try:
        answer, challenged, contact, remote = trio.run(
            _register, target, (user, domain, auth_user or user, password), expires, keep, timeout
        )
    except NoWay as problem:
        fail(f"{target}: {problem}", exit_codes.NOT_FOUND)
    except OSError as problem:
        fail(f"{target}: {problem.strerror or problem}", exit_codes.UNREACHABLE)
    response = answer.response
    if response is None:
        fail(f"{target}: {answer.failure}", exit_codes.TIMEOUT)
    bindings = [] if response.contacts == "*" else [str(one) for one in response.contacts]
    emit(
        {
            "aor": f"sip:{user}@{domain}",
            "status": response.status,
            "reason": response.reason,
            "authenticated": challenged,
            "ms": round(answer.seconds * 1000, 2),
            "server": str(remote),
            "contact": contact,
            "seen_as": seen_as(response),
            "bindings": bindings,
            "path": response.all("path"),
            "service_route": response.all("service-route"),
            "software": response.user_agent or response.first("server") or "",
        }
    )
    if response.status in (401, 403, 407):
        fail(_why_refused(response.status, password is None), exit_codes.REFUSED)
    if response.status >= 300:
        fail(f"{response.status} {response.reason}")


def _why_refused(status: int, without_password: bool) -> str:
    if status == 403:
        return "403: the registrar does not let this user in from here"
    return "a password is wanted: --password-file" if without_password else "the user or the password is wrong"


async def _register(
    target: SipUri, account: tuple[str, str, str, str | None], expires: int, keep: bool, patience: float
) -> Any:
    from nattrav.sip.io.pinger import Pinger
    from nattrav.sip.io.registering import Account, Registration

    async with Pinger.open(target) as pinger:
        registration = Registration(pinger, Account(*account))
        answer = await registration.register(expires, patience)
        challenged = registration.challenged
        if not keep and answer.response is not None and answer.response.status < 300:
            await registration.register(0, patience)
        return answer, challenged, registration.contact, pinger.to.remote


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        text = sys.stdin.readline() if str(file) == "-" else file.read_text()
    except OSError as error:
        fail(f"--password-file {file}: {error.strerror}", exit_codes.USAGE)
    return text.rstrip("\r\n")


def to_uri(text: str) -> SipUri:
    """Read HOST, HOST:PORT or a URI; ends the command when it is none."""
    from nattrav.sip.errors import MalformedMessage
    from nattrav.sip.uri import SipUri

    try:
        return SipUri.parse(text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}")
    except MalformedMessage as problem:
        fail(problem.reason, exit_codes.USAGE)


def alg_check(
    host: Annotated[str, typer.Argument(help="SIP server that answers OPTIONS over UDP: HOST[:PORT].")],
    stun: Annotated[
        str, typer.Option("--stun", help="STUN server that tells our outside address; default the same host.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each answer.")] = 3.0,
) -> None:
    """Look for a SIP ALG between here and a SIP server: fields that it must repeat come back altered.

    Run it where the phone is. Exit code 0 when nothing was altered, 1 when an ALG was found, 6 without an answer. An
    ALG that mends everything on the way back stays unseen; the server sees more: nattrav registrations show USER.

    Example: nattrav sip alg-check sip.example.net
    """
    import trio

    from nattrav.sip.io.pinger import NoWay

    target = to_uri(host)
    if target.scheme == "sips" or target.params.get("transport", "udp") != "udp":
        fail(f"{target}: an ALG is looked for over UDP", exit_codes.USAGE)
    try:
        found = trio.run(check_alg, target, stun, timeout)
    except NoWay as problem:
        fail(f"{target}: {problem}", exit_codes.NOT_FOUND)
    except OSError as problem:
        fail(f"{target}: {problem.strerror or problem}", exit_codes.UNREACHABLE)
    if found is None:
        fail(f"{target}: no answer over UDP; with an ALG or a firewall between, try TLS", exit_codes.TIMEOUT)
    checks, mapped = found
    rows = [{"field": one.name, "sent": one.sent, "back": one.back, "altered": one.altered or None} for one in checks]
    emit(rows, ["field", "sent", "back", Column("altered")])
    altered = [one for one in checks if one.altered]
    if current().human:
        say(f"\n{verdict(checks, mapped)}")
    if altered:
        raise typer.Exit(exit_codes.FAILED)


def verdict(checks: list[Check], mapped: str | None) -> str:
    """Say in one sentence what the checks mean."""
    altered = [one.name for one in checks if one.altered]
    if altered:
        return f"A SIP ALG rewrites messages ({', '.join(altered)}): switch it off in the router, or use TLS."
    if mapped is None:
        return "No sign of a SIP ALG. No STUN server answered, so that one sign could not be looked at: --stun HOST."
    return "No sign of a SIP ALG."


async def check_alg(target: SipUri, stun: str, patience: float) -> tuple[list[Check], str | None] | None:
    """Ask a SIP server and a STUN server; the comparisons and our outside address. None without an answer over UDP."""
    import secrets

    from nattrav.sip.alg_probe import AlgProbe
    from nattrav.sip.io.pinger import Pinger

    async with Pinger.open(target) as pinger:
        if pinger.to.transport != "udp":
            return None
        probe = AlgProbe(target, "udp", pinger.local, secrets.token_hex(8))
        answer = await pinger.exchange("OPTIONS", probe.branch, probe.request(), patience)
        if answer.response is None:
            return None
        mapped = await _mapped(stun or pinger.to.remote.host, patience)
        return probe.compare(answer.response, mapped), mapped


async def _mapped(host: str, patience: float) -> str | None:
    """Our address outside, by one Binding request; None without an answer."""
    import trio

    from nattrav.cli.stun_client import ask_once
    from stun.io.client import NoAddress

    with trio.move_on_after(patience):
        try:
            outcome = await ask_once(host)
        except (NoAddress, OSError):
            return None
        return outcome.mapped.host if outcome.answered and outcome.mapped else None
    return None
