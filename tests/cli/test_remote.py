"""`--url`: the same commands against the admin listener of another host, and what they say when that fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from nattrav.cli.app import run

POOL = {
    "interface": "default", "address": "192.0.2.1", "low": 30000, "high": 30001, "total": 2,
    "used": 0, "quarantined": 0, "free": 2, "aside": 0, "allocated": 0, "exhausted": 0, "bind_errors": 0,
}  # fmt: skip


class Listener(BaseHTTPRequestHandler):
    """An admin listener that knows one list."""

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if self.headers.get("Authorization") != "Bearer a-long-random-word":
            self._say(401, {})
        elif place.path == "/api/v1/services/relay/ports.pools":
            self._say(200, {"result": [POOL]})
        elif place.path == "/api/v1/services/relay/sessions.show":
            (args,) = parse_qs(place.query)["args"]
            wanted = json.loads(args)["call_id"]
            self._say(404, {"error": {"code": "not_found", "message": f"no session {wanted}"}})
        elif place.path == "/api/v1/services/proxy/trace":
            self._stream([{"item": {"line": f"OPTIONS {number}", "text": ""}} for number in (1, 2)], {"end": True})
        elif place.path == "/api/v1/services/proxy/registrations.watch":
            self._stream([], {"error": {"code": "busy", "message": "8 streams are followed already"}})
        elif place.path == "/api/v1/services/relay/events":
            self._stream([{"item": {"call_id": "x"}}])
        else:
            self._say(403, {"error": {"code": "refused", "message": "log in on the host"}})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def _stream(self, *parts: Any) -> None:
        self.send_response(200)
        self.end_headers()
        for line in [one for part in parts for one in (part if isinstance(part, list) else [part])]:
            self.wfile.write(b"\n" + json.dumps(line).encode() + b"\n")

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def options(tmp_path: Path) -> Iterator[list[str]]:
    (tmp_path / "token").write_text("a-long-random-word\n")
    server = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ["--url", f"http://127.0.0.1:{server.server_port}", "--token-file", str(tmp_path / "token")]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_list_of_another_host_is_shown_as_that_of_this_one(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ports", "pools", "-o", "csv", "--fields", "address,low", *options]) == 0
    assert capsys.readouterr().out == "address,low\n192.0.2.1,30000\n"


def test_refusals_have_the_exit_codes_of_a_local_daemon(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sessions", "show", "gone", *options]) == 4
    assert "no session gone" in capsys.readouterr().err
    assert run(["drain", *options]) == 5
    assert "log in on the host" in capsys.readouterr().err
    assert run(["relay", "top", *options]) == 5
    assert run(["ports", "pools", *options[:2]]) == 5
    assert "--token-file" in capsys.readouterr().err


def test_streams_are_followed_from_afar(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", "--for", "5", "-o", "jsonl", *options]) == 0
    assert [json.loads(line)["line"] for line in capsys.readouterr().out.splitlines()] == ["OPTIONS 1", "OPTIONS 2"]
    assert run(["registrations", "watch", *options]) == 1
    assert "8 streams are followed already" in capsys.readouterr().err
    assert run(["sessions", "watch", "-o", "jsonl", *options]) == 3
    assert "hung up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("http://127.0.0.1:1", 3, "cannot be reached"),
        ("ftp://192.0.2.1", 2, "write http://HOST:PORT"),
        ("file:///etc/passwd", 2, "write http://HOST:PORT"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_one_line(
    url: str, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ports", "pools", "--url", url]) == code
    assert told in capsys.readouterr().err


def test_a_token_file_that_cannot_be_read_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ports", "pools", "--url", "http://127.0.0.1:1", "--token-file", "/nonexistent"]) == 2
    assert "--token-file /nonexistent: No such file" in capsys.readouterr().err
