from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from nattrav.cli import exit_codes
from nattrav.cli.app import run
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.server import Server
from tests.relay.planes import engine
from tests.sdp.samples import PHONE, sdp


@pytest.fixture
def relay() -> Iterator[str]:
    """An ng server on loopback that answers until the test ends."""
    server = Server(Handler(engine()), allow=[ip_network("127.0.0.0/8")])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            data, peer = sock.recvfrom(65536)
            if data == b"stop":
                return
            reply = server.receive(data, peer[0], 0.0, 0.0).reply
            if reply is not None:
                sock.sendto(reply, peer)

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"udp:127.0.0.1:{sock.getsockname()[1]}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopper:
        stopper.sendto(b"stop", sock.getsockname())
    thread.join()
    sock.close()


def test_a_relay_is_pinged(relay: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["control", "ping", "--to", relay, "--json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out)["result"] == "pong"


def test_a_request_is_sent_and_its_sdp_printed(relay: str, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"command": "offer", "call-id": "c", "from-tag": "a", "sdp": sdp(*PHONE).decode()}
    assert run(["control", "send", json.dumps(request), "--to", relay]) == exit_codes.OK
    assert "c=IN IP4 203.0.113.5\n" in capsys.readouterr().out


def test_an_error_reply_fails_the_command(relay: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["control", "send", '{"command": "offer"}', "--to", relay]) == exit_codes.FAILED
    assert "No SDP body in message" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["send", "nonsense"], ["send", "[]"], ["ping", "--to", "host"], ["ping", "--to", "tcp:127.0.0.1:1"]]
)
def test_what_cannot_be_sent_is_a_usage_error(words: list[str]) -> None:
    assert run(["control", *words]) == exit_codes.USAGE


def test_without_a_relay_the_places_tried_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["control", "ping", "--runtime-dir", str(tmp_path)]) == exit_codes.UNREACHABLE
    assert f"{tmp_path}/relay-ng.sock" in capsys.readouterr().err


def test_a_silent_relay_is_a_time_out(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"udp:127.0.0.1:{silent.getsockname()[1]}"
        assert run(["control", "ping", "--to", address]) == exit_codes.TIMEOUT
    assert "no answer" in capsys.readouterr().err
