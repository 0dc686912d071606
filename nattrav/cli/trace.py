"""`nattrav trace`: SIP messages as they come and go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer

from nattrav.cli import exit_codes
from nattrav.cli.connect import fail, stream
from nattrav.cli.output import ItemWriter, clean, current

WIDTH = 80
_ARROWS = {"in": "<-", "out": "->", "dropped": "xx"}

Item = Mapping[str, Any]
Sink = Callable[[Item], None]


def trace(
    what: Annotated[str, typer.Argument(help="Call-ID, number, user or address; everything without.")] = "",
    source: Annotated[
        str, typer.Option("--from", metavar="IP", help="The same: messages from and to an address.")
    ] = "",
    aor: Annotated[str, typer.Option("--aor", help="The same: messages of a user, or user@domain.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Whole messages instead of their first lines.")] = False,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, max=86400, help="End after so many seconds.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    pcap: Annotated[
        str,
        typer.Option("--pcap", metavar="FILE", help="Write the messages there for wireshark or sngrep; - is a pipe."),
    ] = "",
    hep: Annotated[str, typer.Option("--hep", metavar="HOST:PORT", help="Send the messages to a Homer (HEP3).")] = "",
) -> None:
    """Show SIP messages as the proxy receives (<-) and sends (->) them; Ctrl-C ends it.

    With an address, or with nothing, also what was dropped (xx) and why. Digests, media keys and the text of messages
    between subscribers are hidden, in files and copies, too. A file holds every message as UDP, whatever carried it,
    so that other tools read also what was encrypted. Ends with exit code 4 when --for is over and nothing was seen.

    Examples: nattrav trace 203.0.113.7 --full;  nattrav trace +431234567 --for 60 -o jsonl;
    nattrav trace --from 203.0.113.7 --pcap phone.pcap;  nattrav trace alice --pcap - | sngrep -I -
    """
    named = [one for one in (what, source, aor) if one]
    if len(named) > 1:
        fail("name one: a Call-ID, number, user or address", exit_codes.USAGE)
    if pcap and hep:
        fail("--pcap or --hep, not both", exit_codes.USAGE)
    wanted = _address(source, "--from") if source else "".join(named)
    seen = 0
    arguments: dict[str, Any] = {"what": wanted} if seconds is None else {"what": wanted, "seconds": seconds}
    with _to_file(pcap) if pcap else _to_collector(hep) if hep else _to_stdout(full) as write:
        for item in stream("proxy", "trace", **arguments):
            seen += 1
            write(item)
            if seen == count:
                break
    if pcap or hep:
        print(f"{seen} messages{f' in {pcap}' if pcap not in ('', '-') else ''}", file=sys.stderr)
    if not seen:
        fail(f"no message{f' of {wanted}' if wanted else ''} within {seconds:g} s", exit_codes.NOT_FOUND)


def _address(text: str, option: str) -> str:
    from nattrav.net.address import canonical

    try:
        return canonical(text)
    except ValueError:
        fail(f"{option} {text}: give an IP address", exit_codes.USAGE)


@contextmanager
def _to_stdout(full: bool) -> Generator[Sink, None, None]:
    writer = ItemWriter()

    def write(item: Item) -> None:
        if current().human:
            print("\n".join(lines(item, full=full)), flush=True)
        else:
            writer.write(item)

    yield write


@contextmanager
def _to_file(name: str) -> Generator[Sink, None, None]:
    import os

    from nattrav.cli.capture import pcap_head, pcap_packet

    try:
        # What subscribers say is for the operator alone.
        descriptor = os.dup(1) if name == "-" else os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        fail(f"--pcap {name}: {error.strerror}", exit_codes.USAGE)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(pcap_head())

        def write(item: Item) -> None:
            if item["text"]:
                file.write(pcap_packet(item["at"], *_ends(item), _octets(item)))

        yield write


@contextmanager
def _to_collector(target: str) -> Generator[Sink, None, None]:
    import socket

    from nattrav.control.hep.packet import Capture, MessageCopy, encode
    from nattrav.net.address import TransportAddress

    try:
        place = TransportAddress.parse(target, 9060)
    except ValueError as error:
        fail(f"--hep {target}: {error}", exit_codes.USAGE)
    capture = Capture(0, socket.gethostname(), "")
    with socket.socket(place.family, socket.SOCK_DGRAM) as sock:

        def write(item: Item) -> None:
            if item["text"]:
                copy = MessageCopy(item["transport"], *_ends(item), item["at"], _octets(item))
                try:
                    sock.sendto(encode(copy, capture), place)
                except OSError as error:
                    fail(f"--hep {target}: {error.strerror}")

        yield write


def _ends(item: Item) -> tuple[Any, Any]:
    """Source and destination of a message."""
    from nattrav.net.address import TransportAddress

    peer = TransportAddress.parse(item["peer"])
    unknown = TransportAddress("::" if ":" in peer.host else "0.0.0.0", 0)
    local = unknown if item["local"] is None else TransportAddress.parse(item["local"])
    return (peer, local) if item["direction"] == "in" else (local, peer)


def _octets(item: Item) -> bytes:
    return str(item["text"]).encode("latin-1", "replace")


def lines(item: Item, *, full: bool = False) -> list[str]:
    """Write one message: a line of at most 80 columns, and with `full` its text below."""
    at = datetime.fromtimestamp(item["at"]).strftime("%H:%M:%S.%f")[:-3]
    line = clean(f"{at} {item['transport']}:{item['peer']} {_ARROWS[item['direction']]} {item['line']}")
    found = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"]
    if item["lost"]:
        found.insert(0, f"{item['lost']} messages were lost: they came faster than they were read")
    if full:
        found += [f"    {clean(text)}" for text in item["text"].splitlines()]
    return found
