"""CPU per SIP message of the parser, the edits and the transactions: `python -m bench.sip_message`."""

from __future__ import annotations

import time
from collections.abc import Callable

from nattrav.net.address import TransportAddress
from nattrav.sip.branch import BranchMaker
from nattrav.sip.edit import Edit
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.transaction import ClientInvite, ServerInvite, client_key, server_key

NUMBER = 2000
SOURCE = TransportAddress("198.51.100.7", 41234)
SDP = (
    b"v=0\r\no=alice 53655765 2353687637 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\n"
)
HEAD = (
    "INVITE sip:bob@biloxi.example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK776asdhds%d;rport\r\nMax-Forwards: 70\r\n"
    "To: Bob <sip:bob@biloxi.example.com>\r\nFrom: Alice <sip:alice@atlanta.example.com>;tag=192830%d\r\n"
    "Call-ID: a84b4c76e66710-%d@10.0.0.5\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@10.0.0.5:5060>\r\n"
    "User-Agent: baresip v2.10 (x86_64/linux)\r\n"
    "Allow: INVITE,ACK,BYE,CANCEL,OPTIONS,NOTIFY,INFO,MESSAGE,UPDATE,REFER\r\n"
    "Supported: gruu,norefersub\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n"
)
INVITES = [(HEAD % (n, n, n, len(SDP))).encode() + SDP for n in range(NUMBER)]
VIA = "SIP/2.0/UDP 203.0.113.10:5060;branch={};rport"
RECORD_ROUTE = "<sip:AYAAK5wAAAAAB1zGM2QHoRLxZ9cDLhT1mWv8b@203.0.113.10;lr>"
_branches = BranchMaker(b"bench")


def parse(data: bytes) -> Request:
    message = parse_datagram_untrusted(data)
    assert isinstance(message, Request)
    return message


def forward(data: bytes) -> bytes:
    """What a proxy does to an INVITE, but for deciding where it goes."""
    message = parse(data)
    message.stamp(SOURCE)
    edit = Edit(message)
    edit.prepend("Via", VIA.format(_branches.new(_branches.loop_part(message))))
    edit.prepend("Record-Route", RECORD_ROUTE)
    edit.set("Max-Forwards", str((message.max_forwards or 70) - 1))
    edit.body(SDP)
    return edit.render()


RESPONSES = [
    respond(parse(forward(data)), 200, to_tag=f"t{n}", headers=[("Contact", "<sip:bob@192.0.2.4>")], body=SDP)
    for n, data in enumerate(INVITES)
]


def backward(data: bytes) -> bytes:
    """What a proxy does to a 200."""
    message = parse_datagram_untrusted(data)
    assert isinstance(message, Response)
    client_key(message)
    return Edit(message).remove_top("Via").body(SDP).render()


def transactions(data: bytes) -> None:
    """The two transactions of one INVITE that is answered; the message's own cost is in the other lines."""
    server = ServerInvite(("key", 1), 0.0, reliable=False)
    client = ClientInvite(("branch", "INVITE"), 0.0, reliable=False, message=data)
    server.respond(100, data, 0.0)
    client.receive(_TRYING, 0.1)
    client.receive(_RINGING, 0.2)
    server.respond(180, data, 0.2)
    client.receive(_OK, 0.3)
    server.respond(200, data, 0.3)


def _status(status: int) -> Response:
    message = parse_datagram_untrusted(respond(parse(INVITES[0]), status, to_tag="t"))
    assert isinstance(message, Response)
    return message


_TRYING, _RINGING, _OK = _status(100), _status(180), _status(200)

CASES: tuple[tuple[str, Callable[[bytes], object], list[bytes]], ...] = (
    ("parse and check an INVITE", parse_datagram_untrusted, INVITES),
    ("and its transaction key", lambda data: server_key(parse(data)), INVITES),
    ("forward an INVITE (parse, stamp, edit, render)", forward, INVITES),
    ("answer an INVITE with 100 (parse, render)", lambda data: respond(parse(data), 100, to_tag=None), INVITES),
    ("pass a 200 back (parse, edit, render)", backward, RESPONSES),
    ("both transactions of a call", transactions, INVITES),
)


def measure(case: Callable[[bytes], object], inputs: list[bytes], rounds: int = 7) -> float:
    """Microseconds of CPU per input, the best of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        for data in inputs:
            case(data)
        best = min(best, (time.process_time() - begun) / len(inputs))
    return best * 1e6


def main() -> None:
    """Print one line per case."""
    for name, case, inputs in CASES:
        print(f"{name:50} {measure(case, inputs):6.1f} µs")


if __name__ == "__main__":
    main()
