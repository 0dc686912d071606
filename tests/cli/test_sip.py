"""`nattrav sip`: domains looked up and servers pinged, on loopback."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from nattrav.sip.zone import zone_lines

ZONE = Path(__file__).parent.parent.parent / "deploy" / "dns" / "example.com.zone"


def records() -> list[tuple[str, str, str]]:
    lines = [line for line in ZONE.read_text().splitlines() if not line.startswith(";")]
    found = []
    for line in lines:
        name, _, _, kind, data = line.split(None, 4)
        found.append((name, kind, data))
    return found


class Answering:
    """A UDP server in a thread."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            data, peer = self.sock.recvfrom(9999)
            if data == b"stop":
                return
            reply = self.answer(data, peer)
            if reply is not None:
                self.sock.sendto(reply, peer)

    def answer(self, data: bytes, peer: tuple[str, int]) -> bytes | None:
        raise NotImplementedError

    def stop(self) -> None:
        self.sock.sendto(b"stop", ("127.0.0.1", self.port))
        self.thread.join()
        self.sock.close()


class NameServer(Answering):
    def answer(self, data: bytes, peer: tuple[str, int]) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        reply = dns.message.make_response(query)
        for name, kind, text in records():
            if name == question.name.to_text() and dns.rdatatype.from_text(kind) == question.rdtype:
                if reply.answer:
                    reply.answer[0].update(dns.rrset.from_text(name, 3600, "IN", kind, text))
                else:
                    reply.answer.append(dns.rrset.from_text(name, 3600, "IN", kind, text))
        return reply.to_wire()


class Server(Answering):
    def answer(self, data: bytes, peer: tuple[str, int]) -> bytes:
        request = parse_datagram_untrusted(data)
        assert isinstance(request, Request)
        from nattrav.net.address import TransportAddress

        request.stamp(TransportAddress(*peer))
        return respond(request, 200, to_tag="t", headers=[("Server", "test\x1b[31m")])


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.stop()


def test_the_shipped_zone_is_what_the_command_prints_for_its_domain() -> None:
    lines = zone_lines("example.com", "sip.example.com", ["203.0.113.10", "2001:db8::10"], ["udp", "tcp", "tls"])
    assert [(line.name, line.type, line.data) for line in lines] == records()
    assert [str(line) for line in lines] == [line for line in ZONE.read_text().splitlines() if line[0] != ";"]


def test_a_complete_domain_shows_its_next_hops_and_lacks_nothing(
    name_server: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["--json", "sip", "dns", "example.com", "--nameserver", f"127.0.0.1:{name_server.port}"])
    report = json.loads(capsys.readouterr().out)
    assert code == exit_codes.OK
    assert report["missing"] == []
    assert [(hop["transport"], hop["address"]) for hop in report["hops"]][::2] == [
        ("tls", "203.0.113.10:5061"),
        ("tcp", "203.0.113.10:5060"),
        ("udp", "203.0.113.10:5060"),
    ]
    assert report["hops"][0]["certificate"] == "example.com"
    assert {row["type"] for row in report["records"]} == {"NAPTR", "SRV", "A", "AAAA"}


def test_an_empty_domain_gets_the_lines_to_add(name_server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sip", "dns", "other.example", "--nameserver", f"127.0.0.1:{name_server.port}", "--address", "192.0.2.1"]
    assert run(words) == exit_codes.NOT_FOUND
    shown = capsys.readouterr().out
    assert "Zone lines to add" in shown
    service = r"^_sip\._udp\.other\.example\. +3600 IN SRV +10 50 5060 sip\.other\.example\.$"
    assert re.search(service, shown, re.MULTILINE)
    assert re.search(r"^sip\.other\.example\. +3600 IN A +192\.0\.2\.1$", shown, re.MULTILINE)


def test_ping_tells_status_time_and_the_address_we_were_seen_as(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    try:
        assert run(["--json", "sip", "ping", f"sip:127.0.0.1:{server.port}", "--count", "2"]) == exit_codes.OK
    finally:
        server.stop()
    rows = json.loads(capsys.readouterr().out)["items"]
    assert [row["status"] for row in rows] == [200, 200]
    assert rows[0]["seen_as"].startswith("127.0.0.1:")
    assert 0 < rows[0]["ms"] < 2000


def test_a_silent_host_is_a_time_out(capsys: pytest.CaptureFixture[str]) -> None:
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    words = ["sip", "ping", f"127.0.0.1:{silent.getsockname()[1]}", "--count", "1", "--timeout", "0.3"]
    assert run(words) == exit_codes.TIMEOUT
    silent.close()
    assert "no answer" in capsys.readouterr().out


def test_ping_over_tcp_tells_a_refused_connection(capsys: pytest.CaptureFixture[str]) -> None:
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    assert run(["sip", "ping", f"sip:127.0.0.1:{port};transport=tcp", "--count", "1"]) == exit_codes.TIMEOUT
    assert "refused" in capsys.readouterr().out


def test_a_uri_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sip", "ping", "sip:[::1"]) == exit_codes.USAGE
    assert "not a SIP URI" in capsys.readouterr().err


def test_dns_of_what_is_no_uri_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sip", "dns", "http://example.com"]) == exit_codes.USAGE
    assert "http" in capsys.readouterr().err


def test_ping_of_a_transport_nobody_has_finds_no_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sip", "ping", "sip:127.0.0.1;transport=sctp"]) == exit_codes.NOT_FOUND
