"""A reload under calls: new settings of every service count at once, no process is restarted, no call is lost."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.net.address import TransportAddress
from nattrav.selftest.io.run import Account, Report, selftest
from tests.free_port import free_port

NATTRAV = [sys.executable, "-m", "nattrav.cli"]
BEFORE = """
[node]
state_directory = "{place}/state"
[admin]
listen = ["127.0.0.1:0"]
[control]
listen = ["unix:auto"]
[stun]
listen = ["127.0.0.1"]
port = {stun}
tcp = false
[sip]
listen = ["udp:127.0.0.1:{sip}"]
domains = ["test.example"]
[sip.registrar]
authentication = "none"
[relay]
interfaces = ["default/127.0.0.1"]
ports = "19100-19139"
"""
AFTER = """
hooks = "{place}/hooks.py"
[sip.limits]
calls_per_user = 3
[[upstream]]
name = "gateway"
target = "127.0.0.1:9"
probe = false
[log]
level = "debug"
[hep]
target = "127.0.0.1:{hep}"
"""


class Edge:
    """A bundle in a directory of its own, and the commands an operator types."""

    def __init__(self, place: Path, hep: int) -> None:
        self.place = place
        self.hep = hep
        self.sip, self.stun = free_port(), free_port()
        self.file = place / "nattrav.toml"
        self.text = BEFORE.format(place=place, sip=self.sip, stun=self.stun)
        self.file.write_text(self.text)
        self._run = [*NATTRAV, "--runtime-dir", str(place / "run")]
        with (place / "log").open("ab") as log:
            self.process = subprocess.Popen([*self._run, "run", "--config", str(self.file)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while subprocess.run([*self._run, "status", "--check"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, (place / "log").read_text()

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new)
        self.file.write_text(self.text)

    def type(self, *words: str, code: int = 0) -> Any:
        done = subprocess.run([*self._run, *words, "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr + (self.place / "log").read_text()
        return json.loads(done.stdout) if done.stdout else done.stderr

    def pids(self) -> dict[str, int]:
        return {one["role"]: one["pid"] for one in self.type("status")["services"]}

    def admin(self) -> str:
        (one,) = [one["address"] for one in self.type("status")["listening"] if one["role"] == "supervisor"]
        return str(one)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0


def answered(address: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}/metrics", headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def software_of(port: int) -> bool:
    """Whether the STUN server says its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(bytes.fromhex("000100002112a442") + b"reload-test1", ("127.0.0.1", port))
        return b"edge five" in sock.recv(2048)


def change_everything(edge: Edge) -> None:
    """What an operator does while calls are up, and what he sees."""
    admin, pids = edge.admin(), edge.pids()
    assert answered(admin) == 200
    (edge.place / "token").write_text("a-long-random-word\n")
    (edge.place / "hooks.py").write_text("def on_register(request:\n")
    edge.change("19100-19139", "19200-19239")
    edge.change(
        'domains = ["test.example"]', 'domains = ["test.example"]' + AFTER.format(place=edge.place, hep=edge.hep)
    )
    edge.change("tcp = false", 'tcp = false\nsoftware = "edge five"\nsource_rate = 0')
    edge.change("127.0.0.1:0", '127.0.0.1:0"]\ntoken_file = "' + str(edge.place / "token") + '"\n#"')
    refused = edge.type("config", "reload", code=1)
    assert "hooks.py" in refused
    assert "nothing was changed" in refused
    assert answered(admin) == 200
    (edge.place / "hooks.py").write_text("def on_register(request):\n    return None\n")
    told = edge.type("config", "reload", "--dry-run")
    assert {one["effect"] for one in told["changes"]} == {"at once"}
    assert edge.type("upstreams", "list")["items"] == []
    edge.type("config", "reload")
    assert edge.pids() == pids
    assert answered(admin) == 401
    assert answered(admin, "a-long-random-word") == 200
    assert software_of(edge.stun)
    assert [one["name"] for one in edge.type("upstreams", "list")["items"]] == ["gateway"]
    assert [(one["low"], one["high"]) for one in edge.type("ports", "pools")["items"]] == [(19200, 19239)]


@pytest.mark.slow
async def test_everything_that_can_be_is_taken_over_and_every_call_goes_on(tmp_path: Path) -> None:
    reports: list[Report] = []
    collector = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    collector.bind(("127.0.0.1", 0))
    edge = await trio.to_thread.run_sync(Edge, tmp_path, collector.getsockname()[1])

    async def call(number: int, seconds: float) -> None:
        accounts = [Account(f"{name}{number}", None) for name in ("caller", "callee")]
        address = TransportAddress("127.0.0.1", edge.sip)
        reports.append(await selftest(address, "test.example", *accounts, seconds=seconds, tell=lambda step: None))

    try:
        with collector:
            collector.settimeout(30)
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(partial(call, number, 9.0))
                await trio.sleep(2)
                await trio.to_thread.run_sync(change_everything, edge)
                nursery.start_soon(partial(call, 9, 1.0))
            assert collector.recv(65536).startswith(b"HEP3")
    finally:
        await trio.to_thread.run_sync(edge.stop)
    failed = [f"{step.name} ({step.detail})" for report in reports for step in report.steps if not step.ok]
    assert len(reports) == 5
    assert not failed, (failed, (tmp_path / "log").read_text())
