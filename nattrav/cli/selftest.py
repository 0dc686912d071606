"""`nattrav selftest`: a call between two built-in phones through the running bundle."""

from __future__ import annotations

import sys
from functools import partial

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import call, fail
from nattrav.cli.output import clean, current, emit
from nattrav.net.address import AddressClass, TransportAddress, classify


def selftest(
    server: str | None = typer.Option(
        None, help="SIP listener (UDP) to test, ADDRESS[:PORT]; default: the running proxy's."
    ),
    domain: str | None = typer.Option(None, help="Domain of the accounts; default: the server's address."),
    caller: str | None = typer.Option(None, help="Account that calls, USER or USER:PASSWORD; default: a lent one."),
    callee: str | None = typer.Option(None, help="Account that is called; default: a lent one."),
    seconds: float = typer.Option(3.0, min=1.0, max=60.0, help="How long the two send their tones."),
) -> None:
    """Register two built-in phones behind emulated symmetric NATs, call, and prove that both hear each other.

    Needs no privileges. Exit code 0 only when every step passed. The running registrar lends two accounts for the time
    of the test; of an edge or of a remote proxy, name two.

    Examples: nattrav selftest;  nattrav selftest --server 203.0.113.10 --caller alice:secret --callee bob:secret
    """
    import trio

    from nattrav.selftest.io.run import Account, Step, selftest

    try:
        address = TransportAddress.parse(server, 5060) if server is not None else _listener()
    except ValueError as error:
        fail(f"--server {server}: {error}", exit_codes.USAGE)
    human = current().human

    def tell(step: Step) -> None:
        if human:
            mark = "ok  " if step.ok else "FAIL"
            print(clean(f"{mark}  {step.name}" + (f"  ({step.detail})" if step.detail else "")), flush=True)

    if (caller is None) != (callee is None):
        fail("name both accounts, or none", exit_codes.USAGE)
    lent: list[dict[str, str]] = []
    if caller is not None and callee is not None:
        named = (caller.partition(":"), callee.partition(":"))
        accounts = [Account(user, password or None) for user, _, password in named]
    elif server is not None:
        accounts = [Account("selftest-a"), Account("selftest-b")]
    else:
        lent = call("proxy", "selftest.begin")
        accounts = [Account(one["user"], one["password"]) for one in lent]
    where = domain or (address.host if address.port == 5060 else str(address))
    try:
        report = trio.run(partial(selftest, address, where, accounts[0], accounts[1], seconds=seconds, tell=tell))
    finally:
        if lent:
            call("proxy", "selftest.end", users=[one["user"] for one in lent])
    if human:
        print(f"verdict: {report.verdict}", file=sys.stdout)
    else:
        steps = [{"step": step.name, "ok": step.ok, "detail": step.detail} for step in report.steps]
        emit({"verdict": report.verdict, "ok": report.ok, "server": str(address), "steps": steps})
    raise typer.Exit(exit_codes.OK if report.ok else exit_codes.FAILED)


def _listener() -> TransportAddress:
    listening = [
        TransportAddress.parse(entry["address"])
        for entry in call("proxy", "status").get("listening", [])
        if entry["transport"] == "udp"
    ]
    outer = [address for address in listening if classify(address.host) is not AddressClass.LOOPBACK]
    if not listening:
        fail("the running proxy has no UDP listener; name one with --server ADDRESS:PORT")
    return (outer or listening)[0]
