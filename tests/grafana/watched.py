"""The real bundle with calls through it, watched by a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from nattrav.control.socket.io.client import Unreachable, ask
from nattrav.sip.grammar import KNOWN_METHODS

ROOT = Path(__file__).parents[2]
SIP, STUN, UPSTREAM, PROMETHEUS, HEP = 19410, 19420, 19430, 19440, 19450

CONFIGURATION = f"""
[node]
state_directory = "{{directory}}/state"
[admin]
listen = ["127.0.0.1:0"]
[stun]
listen = ["127.0.0.1"]
port = {STUN}
[sip]
listen = ["udp:127.0.0.1:{SIP}", "tcp:127.0.0.1:{SIP}"]
[sip.registrar]
authentication = "none"
[sip.keepalive]
interval = "1s"
[relay]
interfaces = ["default/127.0.0.1"]
ports = "19500-19899"
[control]
listen = ["unix:auto"]
[hep]
target = "127.0.0.1:{HEP}"
[[upstream]]
name = "gateway"
target = "127.0.0.1:{UPSTREAM}"
prefixes = ["9"]
"""


class Watched:
    """A bundle, a phone that refuses calls as its upstream, and a Prometheus that scrapes every second."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "nattrav.toml").write_text(CONFIGURATION.replace("{directory}", str(directory)))
        self.runtime = directory / "run"
        self.log = (directory / "bundle.log").open("w+")
        self._children = [
            subprocess.Popen(
                [*self.nattrav, "run", "--config", str(directory / "nattrav.toml")],
                cwd=ROOT, stdout=self.log, stderr=self.log,
            )
        ]  # fmt: skip
        self._children.append(subprocess.Popen([sys.executable, ROOT / "tests/grafana/upstream.py", str(UPSTREAM)]))
        try:
            self._admin = self._wait_ready()
            self._start_prometheus()
        except BaseException:
            self.end()
            raise

    @property
    def nattrav(self) -> list[str]:
        return [sys.executable, "-m", "nattrav.cli", "--runtime-dir", str(self.runtime)]

    def _wait_ready(self) -> str:
        for _ in range(300):
            with contextlib.suppress(Unreachable):
                status: dict[str, Any] = trio.run(ask, self.runtime / "supervisor.sock", "status", {})
                if status["ready"]:
                    admin = [row["address"] for row in status["listening"] if row["transport"] == "http"]
                    return str(admin[0])
            assert self._children[0].poll() is None, (self.directory / "bundle.log").read_text()
            time.sleep(0.1)
        raise AssertionError("the bundle is not ready")

    def _start_prometheus(self) -> None:
        settings = yaml.safe_load((ROOT / "grafana/prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["rule_files"] = [str(self.directory / "*.rules.yml")]
        for path in (ROOT / "grafana/rules").glob("*.yml"):
            rules = yaml.safe_load(path.read_text())
            for group in rules["groups"]:
                # A group with an interval of its own begins within that interval, which is longer than this test.
                group.pop("interval", None)
            (self.directory / f"{path.stem}.rules.yml").write_text(yaml.safe_dump(rules))
        settings["scrape_configs"][0]["static_configs"][0]["targets"] = [self._admin]
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self._children.append(
            subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.directory}/prometheus.yml",
                    f"--storage.tsdb.path={self.directory}/tsdb",
                    f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
                    "--log.level=warn",
                ]
            )
        )
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PROMETHEUS}/-/ready"):
                return
            time.sleep(0.05)
        raise AssertionError("Prometheus is not ready")

    def api(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{PROMETHEUS}/api/v1/{path}?{query}") as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return result

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://{self._admin}/metrics") as answer:
            return str(answer.read().decode())

    def call(self, name: str, seconds: float) -> subprocess.Popen[bytes]:
        """Two built-in phones register, talk and hang up."""
        who = ["--caller", f"{name}-a", "--callee", f"{name}-b", "--seconds", str(seconds)]
        command = [*self.nattrav, "selftest", "--server", f"127.0.0.1:{SIP}", *who]
        call = subprocess.Popen(command, cwd=ROOT, stdout=self.log)
        self._children.append(call)
        return call

    def traffic(self) -> None:
        """Registrations, STUN, refused calls, retransmissions and garbage: something for every panel."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            for number in range(6):
                invite = _request("INVITE", "sip:9123@127.0.0.1", port, f"refused{number}")
                sock.sendto(invite, ("127.0.0.1", SIP))
                sock.sendto(invite, ("127.0.0.1", SIP))
                sock.sendto(_request("OPTIONS", f"sip:127.0.0.1:{SIP}", port, f"o{number}"), ("127.0.0.1", SIP))
                stray = f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:{SIP};branch=z9hG4bKstray{number}\r\n"
                rest = "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: stray\r\nCSeq: 1 BYE\r\n\r\n"
                sock.sendto((stray + rest).encode(), ("127.0.0.1", SIP))
                sock.sendto(b"INVITE garbage\r\n\r\n", ("127.0.0.1", SIP))
                sock.sendto(bytes.fromhex("000100002112a442") + bytes(12), ("127.0.0.1", STUN))
                change = bytes.fromhex("000100082112a442") + bytes(12) + bytes.fromhex("0003000400000006")
                sock.sendto(change, ("127.0.0.1", STUN))
                sock.sendto(b"\xff" * 40, ("127.0.0.1", STUN))

    def scan(self) -> None:
        """Send a stray response with each method and code, and each method as a request."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            for method in (*sorted(KNOWN_METHODS), "FOO", "BAR"):
                for code in range(100, 700, 3):
                    head = f"SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP 127.0.0.1:{SIP};branch=z9hG4bKscan{code}\r\n"
                    rest = "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: s\r\n"
                    sock.sendto(f"{head}{rest}CSeq: 1 {method}\r\n\r\n".encode(), ("127.0.0.1", SIP))
                port = sock.getsockname()[1]
                sock.sendto(_request(method, f"sip:127.0.0.1:{SIP}", port, f"scan{method}"), ("127.0.0.1", SIP))
                time.sleep(0.02)

    def intrude(self) -> None:
        """Send what is no media to every media port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for port in range(19500, 19900):
                with contextlib.suppress(ConnectionRefusedError):
                    sock.sendto(b"not media", ("127.0.0.1", port))

    def end(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.log.close()


def _request(method: str, uri: str, port: int, call_id: str) -> bytes:
    return (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{call_id};rport\r\n"
        f"From: <sip:watch@127.0.0.1>;tag={call_id}\r\nTo: <{uri}>\r\nCall-ID: {call_id}@watched\r\n"
        f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContact: <sip:watch@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    """Start everything, run calls for as long as the 10 s intervals of media quality need, and end it."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus: apt install prometheus")
    edge = Watched(directory)
    try:
        first = edge.call("first", 26)
        assert edge.call("short", 1).wait(30) == 0
        for _ in range(20):
            edge.traffic()
            edge.intrude()
            time.sleep(1)
        with_data = edge.call("second", 8)
        assert first.wait(30) == 0, (directory / "bundle.log").read_text()
        time.sleep(2.5)
        yield edge
        assert with_data.wait(30) == 0
    finally:
        edge.end()
