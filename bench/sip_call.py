"""CPU per call of the proxy without its sockets, and where it goes: `python -m bench.sip_call [--profile]`.

Calls are played interleaved, as a busy proxy sees them: one batch holds the same message of many calls.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import secrets
import time
from typing import Any

from nattrav.config.schema import Configuration
from nattrav.net.address import TransportAddress
from nattrav.proxy.core import Proxy
from nattrav.proxy.io.shell import Shell
from nattrav.proxy.listener import Listener
from nattrav.proxy.parts import Settings
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.transport.flow import Flow, Incoming, Outgoing

EDGE = TransportAddress("203.0.113.10", 5060)
PHONE = TransportAddress("198.51.100.200", 5061)
GATEWAY = TransportAddress("203.0.113.80", 5060)
PRIVATE = "10.0.0.5"
LISTENER = 1
CONFIGURATION = {
    "sip": {
        "listen": [f"udp:{EDGE.host}"],
        "mode": "registrar",
        "history": 0,
        "realm": EDGE.host,
        "registrar": {"authentication": "none"},
        "keepalive": {"method": "none"},
        "limits": {"requests_per_source": 1000000, "burst": 1000000, "calls_per_user": 100000},
    },
    "upstream": [{"name": "gateway", "target": GATEWAY.host, "prefixes": ["9"], "probe": False}],
}
SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
HEAD = (
    "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP " + PRIVATE + ":5060;branch=z9hG4bK-{number}-{method};rport\r\n"
    "{routes}From: <sip:caller{number}@203.0.113.10>;tag=c{number}\r\nTo: <sip:9000@203.0.113.10>{to_tag}\r\n"
    "Call-ID: {number}-4711@198.51.100.200\r\nCSeq: {cseq}\r\n"
    "Contact: <sip:caller{number}@" + PRIVATE + ":5060>\r\nMax-Forwards: 70\r\n"
)


class Wire:
    """Stands for the transports: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, messages: list[Outgoing]) -> None:
        self.sent += messages

    def take(self, remote: TransportAddress) -> list[bytes]:
        taken = [one.data for one in self.sent if one.to.remote == remote]
        self.sent.clear()
        return taken


class Relay:
    """Stands for the relays: keeps the questions and answers them all at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, dict[str, Any]]] = []

    def ask(self, number: int, command: str, arguments: dict[str, Any], call_id: str) -> None:
        self.asked.append((number, command, arguments))

    def answer(self, shell: Shell) -> None:
        asked, self.asked = self.asked, []
        for number, _, arguments in asked:
            reply: dict[str, Any] = {"result": "ok"}
            if "sdp" in arguments:
                reply["sdp"] = arguments["sdp"].replace(PRIVATE.encode(), EDGE.host.encode())
            shell.relay_answered(number, reply)


class Play:
    """Plays calls through one proxy; `seconds` sums the CPU time the proxy itself used."""

    def __init__(self) -> None:
        settings = Configuration.model_validate(CONFIGURATION)
        core = Proxy(
            Settings(settings.sip, settings.upstream),
            [Listener(LISTENER, "udp", EDGE, EDGE.host, EDGE.port)],
            [secrets.token_bytes(32)],
            secrets.token_bytes,
        )
        core.restore(time.monotonic())
        self.wire, self.relay = Wire(), Relay()
        self.shell = Shell(core, resolve=_nowhere, observe=_nothing, log=_nothing, record=_nothing)
        self.shell.transports = self.wire  # type: ignore[assignment]
        self.shell.relays = self.relay  # type: ignore[assignment]
        self.seconds = 0.0
        self.profile: cProfile.Profile | None = None
        self._count = 0

    def calls(self, together: int) -> None:
        """Play so many calls, each message of all of them before the next one of any."""
        numbers = range(self._count, self._count + together)
        self._count += together
        uri = f"sip:9000@{EDGE.host}"
        self._phone([_message("INVITE", uri, number, body=SDP.format(host=PRIVATE)) for number in numbers])
        invites = [_read(data) for data in self.wire.take(GATEWAY)]
        assert len(invites) == together
        self._gateway([respond(invite, 180, to_tag=f"g{invite.call_id}") for invite in invites])
        answers = [
            respond(
                invite, 200, to_tag=f"g{invite.call_id}", body=SDP.format(host=GATEWAY.host).encode(),
                headers=[("Record-Route", value) for value in invite.all("record-route")]
                + [("Contact", f"<sip:{GATEWAY}>"), ("Content-Type", "application/sdp")],
            )
            for invite in invites
        ]  # fmt: skip
        self._gateway(answers)
        assert len(self.wire.take(PHONE)) >= together
        dialogs = []
        for number, answer in zip(numbers, answers, strict=True):
            response = parse_datagram_untrusted(answer)
            assert isinstance(response, Response)
            routes = "".join(f"Route: {value}\r\n" for value in reversed(response.all("record-route")))
            dialogs.append((number, routes, response.to.tag or ""))
        target = f"sip:{GATEWAY}"
        self._phone([_message("ACK", target, number, routes, tag) for number, routes, tag in dialogs])
        self.wire.take(GATEWAY)
        self._phone([_message("BYE", target, number, routes, tag) for number, routes, tag in dialogs])
        byes = [_read(data) for data in self.wire.take(GATEWAY)]
        assert len(byes) == together
        self._gateway([respond(bye, 200, to_tag=None) for bye in byes])
        assert len(self.wire.take(PHONE)) == together
        self._timed(lambda: self.shell.core.handle_timeout(time.monotonic()))

    def _phone(self, messages: list[bytes]) -> None:
        self._deliver(PHONE, messages)

    def _gateway(self, messages: list[bytes]) -> None:
        self._deliver(GATEWAY, messages)

    def _deliver(self, remote: TransportAddress, messages: list[bytes]) -> None:
        flow = Flow("udp", LISTENER, EDGE, remote)
        batch: list[Incoming] = [(flow, data) for data in messages]
        self._timed(lambda: self.shell.deliver(batch))
        self._timed(lambda: self.relay.answer(self.shell))

    def _timed(self, work: Any) -> None:
        begun = time.process_time()
        if self.profile is not None:
            self.profile.enable()
        work()
        if self.profile is not None:
            self.profile.disable()
        self.seconds += time.process_time() - begun


def _message(method: str, uri: str, number: int, routes: str = "", tag: str = "", body: str = "") -> bytes:
    sequence = {"INVITE": 1, "ACK": 1, "BYE": 2}[method]
    head = HEAD.format(
        method=method, uri=uri, number=number, routes=routes, cseq=f"{sequence} {method}",
        to_tag=f";tag={tag}" if tag else "",
    )  # fmt: skip
    if body:
        head += "User-Agent: load\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nContent-Type: application/sdp\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _read(data: bytes) -> Request:
    message = parse_datagram_untrusted(data)
    assert isinstance(message, Request)
    return message


async def _nowhere(uri: str) -> list[tuple[str, tuple[str, int], str | None]]:
    return []


def _nothing(*_: object) -> None:
    """Takes what a running proxy would count, log or record."""


def main() -> None:
    """Print CPU per call for several sizes of batch; with --profile also where it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print the functions that take longest")
    parser.add_argument("--calls", type=int, default=4000, help="calls for each figure")
    arguments = parser.parse_args()
    gc.set_threshold(50_000, 20, 100)
    for together in (1, 10, 100):
        play = Play()
        for _ in range(300 // together + 1):
            play.calls(together)
        best = float("inf")
        for _ in range(5):
            play.seconds, rounds = 0.0, max(1, arguments.calls // 5 // together)
            for _ in range(rounds):
                play.calls(together)
            best = min(best, play.seconds / (rounds * together))
        print(f"{together:4} calls together: {best * 1e6:6.1f} µs per call")
    if arguments.profile:
        play.profile = cProfile.Profile()
        for _ in range(arguments.calls // 100):
            play.calls(100)
        pstats.Stats(play.profile).strip_dirs().sort_stats("tottime").print_stats(60)


if __name__ == "__main__":
    main()
