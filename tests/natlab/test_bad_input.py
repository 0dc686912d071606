"""While a call is up, every port gets garbage: nothing falls over, nothing is logged as a fault, the call goes on."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.natlab import edges
from tests.natlab.calls import TALK_SECONDS, CallRecord, finish
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, BUNDLE_SECOND, Host, Laboratory
from tests.natlab.namespaces import within
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

ATTACKER = "198.51.100.66"
SIP, STUN, NG, ADMIN = (BUNDLE, 5060), (BUNDLE, 3478), ("127.0.0.1", 2223), ("127.0.0.1", 8080)

EXPECTED = {str(status).encode() for status in (
    100, 180, 200, 400, 401, 403, 404, 405, 407, 413, 415, 416, 420, 481, 482, 483, 486, 487, 488, 503, 505, 513,
)}  # fmt: skip
SDP_WITHOUT_MEDIA = b"v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\n"


def invite(body: bytes, *, length: int | None = None, branch: str = "1", extra: str = "") -> bytes:
    """An INVITE to the gateway from an unknown phone."""
    return (
        f"INVITE sip:{NUMBER}@{BUNDLE} SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bKbad{branch};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:mallory@{BUNDLE}>;tag=bad{branch}\r\nTo: <sip:{NUMBER}@{BUNDLE}>\r\n"
        f"Call-ID: bad-{branch}\r\nCSeq: 1 INVITE\r\nContact: <sip:mallory@10.9.9.9>\r\n{extra}"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


def bad_sip() -> list[bytes]:
    """Broken and hostile messages."""
    whole = invite(SDP_WITHOUT_MEDIA + b"m=audio 4000 RTP/AVP 0\r\n", branch="cut")
    cuts = [whole[:size] for size in range(1, len(whole) - 40, 37)]
    return [
        *cuts,
        invite(SDP_WITHOUT_MEDIA, branch="nomedia"),
        invite(b"v=0\r\n", length=5000, branch="long"),
        invite(b"v=0\r\nm=audio 1 RTP/AVP 0\r\n", length=4, branch="short"),
        invite(b"v=0\r\n", length=-1, branch="negative"),
        invite(b"\xff" * 200, branch="binary"),
        invite(b"v=0\r\nm=audio 99999999999999 RTP/AVP 0\r\nc=IN IP4 999.1.1.1\r\n", branch="port"),
        invite(SDP_WITHOUT_MEDIA, branch="fat", extra="X-Fat: " + "A" * 40000 + "\r\n"),
        invite(SDP_WITHOUT_MEDIA, branch="many", extra="Via: SIP/2.0/UDP 10.0.0.1\r\n" * 900),
        invite(SDP_WITHOUT_MEDIA, branch="route", extra="Route: <sip:127.0.0.1:2223;lr>\r\n"),
        invite(SDP_WITHOUT_MEDIA, branch="nul", extra="Subject: \0\0\x1b[31m\r\n"),
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKstray\r\nCSeq: 1 INVITE\r\n\r\n",
        b"SIP/2.0 200\r\n\r\n",
        b"\r\n\r\n",
        b"",
        b"\0" * 1400,
        b"ACK sip:x SIP/2.0\r\n\r\n",
        b"CANCEL sip:9000@203.0.113.1 SIP/2.0\r\nCall-ID: none\r\nCSeq: 1 CANCEL\r\nMax-Forwards: 1\r\n\r\n",
        b"BYE sip:9000@203.0.113.1 SIP/2.0\r\nCall-ID: none\r\nCSeq: 99999999999999999999 BYE\r\n\r\n",
        b"REGISTER sip:203.0.113.1 SIP/2.0\r\nContact: *\r\nExpires: -7\r\nCSeq: 1 REGISTER\r\nCall-ID: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]


def bad_stun() -> list[bytes]:
    header = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)
    return [
        header[:11],
        b"\0\1\xff\xff" + header[4:],
        b"\0\1\0\4" + header[4:] + b"\0\3\xff\xff",
        b"\0\1\0\x08" + header[4:] + b"\x80\x28\0\4\0\0\0\0",
        b"\1\1" + header[2:],
        b"\0\3" + header[2:],
        b"\0\1\0\x0c" + header[4:] + b"\0\6\0\7aaaaaaa\0",
    ]


def bad_ng() -> list[bytes]:
    commands = [
        b"d7:command5:offere",
        b"d7:command5:offer7:call-id1:x8:from-tag1:ye",
        b"d7:command5:offer7:call-id1:x8:from-tag1:y3:sdp5:v=0\r\ne",
        b"d7:command7:unknowne",
        b"d7:command6:deletee",
        b"d7:command6:delete7:call-id7:nothinge",
        b"d7:commandi5ee",
        b"le",
        b"d",
        b"d7:command99999999:x",
        b"i" + b"9" * 5000 + b"e",
        b"l" * 3000,
        b"d" * 3000,
        b'{"command":"offer"}',
        b'{"command":',
        b"[" * 3000,
        b"\xff\xfe\0",
    ]
    return [f"c{number} ".encode() + command for number, command in enumerate(commands)] + [b"", b" ", b"cookie", b"c "]


def noise(seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(source.choice((1, 3, 12, 20, 28, 60, 172, 400, 1400))) for _ in range(200)]


def throw(host: Host, where: tuple[str, int], datagrams: list[bytes]) -> list[bytes]:
    """Send from the host and return what came back within 0.3 s."""
    sender = within(host.namespace.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    replies = []
    with sender:
        sender.settimeout(0.3)
        for datagram in datagrams:
            sender.sendto(datagram, where)
        try:
            while len(replies) < 5000:
                replies.append(sender.recv(65536))
        except (TimeoutError, ConnectionRefusedError):
            pass
    return replies


def pour(host: Host, where: tuple[str, int], data: bytes) -> bytes:
    """Open a TCP connection, send, and return what came back within 0.5 s."""
    sender = within(host.namespace.name, lambda: socket.create_connection(where, 2.0))
    answer = b""
    with sender:
        sender.settimeout(0.5)
        try:
            sender.sendall(data)
            while piece := sender.recv(65536):
                answer += piece
        except OSError:
            return answer
    return answer


@dataclass
class Storm:
    """What came of it."""

    record: CallRecord
    replies: dict[str, list[bytes]]
    processes_before: dict[str, int]
    processes_after: dict[str, int]
    attacker_heard: list[str]
    log: str
    metrics: str
    sessions: list[dict[str, object]]


@pytest.fixture(scope="module")
def storm(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Storm]:
    """One call behind a symmetric NAT, with garbage on SIP, STUN, ng, admin and the call's own media ports."""
    attacker = laboratory.host("attacker", ATTACKER)
    own = laboratory.bundle
    household = laboratory.subscriber("alice", Kind.SYMMETRIC)
    edge = edges.NattravEdge(laboratory, ("alice",))
    with Town(laboratory, edge, capture) as town:
        alice, gateway = town.phone("alice", household.phone), town.gateway
        before = edge.children()
        mark, begin = capture.mark(), time.monotonic()
        alice.dial(NUMBER)
        alice.wait_established(since=begin)
        gateway.wait_established(since=begin)
        time.sleep(0.5)
        replies = {
            "sip": throw(attacker, SIP, [*bad_sip(), *noise(1)]),
            "stun": throw(attacker, STUN, [*bad_stun(), *noise(2)]),
            "stun second": throw(attacker, (BUNDLE_SECOND, 3478), [*bad_stun(), *noise(3)]),
            "ng": throw(own, NG, [*bad_ng(), *noise(4)]),
            "sip tcp": [pour(attacker, SIP, one) for one in (*bad_sip()[-14:], *noise(5)[:5])],
            "admin": [pour(own, ADMIN, one) for one in (b"\0\1\2", b"GET " + b"/" * 70000, b"POST /metrics\r\n\r\n")],
        }
        heard = capture.mark()
        for _, port in [media for one in capture.sip(mark) for media in one.message.media if media[0] == BUNDLE]:
            for target in (port, port + 1):
                throw(attacker, (BUNDLE, target), noise(target)[:40] + [b"\x80\0" + bytes(170)] * 20)
        time.sleep(TALK_SECONDS)
        sessions = json.loads(edge.ask("sessions", "list", "--json"))["items"]
        metrics = own.namespace.execute(
            "python3", "-c",
            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/metrics').read().decode())",
        )  # fmt: skip
        to_attacker = [str(packet) for packet in capture.rtp(heard) if packet.destination[0] == ATTACKER]
        record = finish(alice, gateway, capture, mark, begin, seconds=TALK_SECONDS)
        yield Storm(record, replies, before, edge.children(), to_attacker, edge.log(), metrics, sessions)


def test_both_still_hear_each_other(storm: Storm) -> None:
    assert storm.record.verdict == "both", f"{storm.record.caller} {storm.record.callee}\n{storm.record.ladder}"


def test_no_process_was_replaced(storm: Storm) -> None:
    assert set(storm.processes_before) == {"stun", "relay", "proxy"}
    assert storm.processes_after == storm.processes_before


def test_nothing_is_logged_as_a_fault(storm: Storm) -> None:
    assert "Traceback" not in storm.log
    faults = [line for line in storm.log.splitlines() if re.search(r'"level": "(error|critical)"', line)]
    assert faults == []


def test_no_media_went_to_a_stranger(storm: Storm) -> None:
    assert storm.attacker_heard == []


def test_only_the_call_holds_ports(storm: Storm) -> None:
    holders = [session["call_id"] for session in storm.sessions if session["ports"]]
    assert holders == [storm.record.seen[0].message.call_id]


def test_broken_requests_are_answered_as_the_rfc_says_or_not_at_all(storm: Storm) -> None:
    statuses = {reply.split(b" ", 2)[1] for reply in storm.replies["sip"] if reply.startswith(b"SIP/2.0 ")}
    assert statuses <= EXPECTED, statuses - EXPECTED
    assert b"400" in statuses


def test_every_ng_command_with_a_cookie_is_answered_with_an_error(storm: Storm) -> None:
    answered = {reply.split(b" ", 1)[0]: reply.split(b" ", 1)[1] for reply in storm.replies["ng"] if b" " in reply}
    for number in (0, 1, 3, 4, 5, 6):
        reply = answered[f"c{number}".encode()]
        assert b"error" in reply or b"warning" in reply, reply


def test_stun_errors_are_answered_and_are_not_larger_than_the_rfc_needs(storm: Storm) -> None:
    assert all(len(reply) <= 200 for reply in storm.replies["stun"])
    assert all(reply[:2] in (b"\1\1", b"\1\x11") for reply in storm.replies["stun"])


@pytest.mark.parametrize("role", ["sip", "stun", "relay"])
def test_what_was_dropped_is_counted_with_its_reason(storm: Storm, role: str) -> None:
    counted = [
        line
        for line in storm.metrics.splitlines()
        if re.match(rf"nattrav_{role}\w*(drop|malformed|reject|error)\w*\{{", line)
        and not line.endswith((" 0", " 0.0"))
    ]
    assert counted, [line for line in storm.metrics.splitlines() if line.startswith(f"nattrav_{role}")][:60]
