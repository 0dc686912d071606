"""A unit that is restarted under calls keeps its sockets in the service manager's store: nothing is lost."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.net.address import TransportAddress
from nattrav.selftest.io.run import Account, Report, selftest
from tests.daemon.service_manager import ServiceManager

CALLS = 3
SECONDS = 8.0
LOST_AT_MOST = 10
"""Frames of one direction: what the data thread had in its hands when it ended."""

OPTIONS = (
    "OPTIONS sip:127.0.0.1:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKstore{port};rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:a@test.example>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: store{port}\r\n"
    "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def bound(kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


class Unit:
    """A bundle under a service manager."""

    def __init__(self, place: Path) -> None:
        with bound() as sip, bound() as stun:
            self.sip, self.stun = sip.getsockname()[1], stun.getsockname()[1]
        (place / "n.toml").write_text(
            f'[node]\nstate_directory = "{place}/state"\n[admin]\nlisten = []\n[control]\nlisten = ["unix:auto"]\n'
            f'[sip]\nlisten = ["udp:127.0.0.1:{self.sip}", "tcp:127.0.0.1:{self.sip}"]\ndomains = ["test.example"]\n'
            f'[sip.registrar]\nauthentication = "none"\n[stun]\nlisten = ["127.0.0.1"]\nport = {self.stun}\n'
            '[relay]\ninterfaces = ["default/127.0.0.1"]\nports = "19300-19399"\n'
        )
        run = ["-m", "nattrav.cli", "--runtime-dir", str(place / "run"), "run", "--config", str(place / "n.toml")]
        self.manager = ServiceManager(place, run)

    def ask(self, phone: socket.socket) -> None:
        text = OPTIONS.format(sip=self.sip, port=phone.getsockname()[1])
        phone.sendto(text.encode(), ("127.0.0.1", self.sip))


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    unit = Unit(tmp_path)
    yield unit
    unit.manager.close()


def frames(report: Report) -> list[tuple[int, int]]:
    """Frames heard and sent, of each direction."""
    found = (re.match(r"(\d+) of (\d+) frames", step.detail) for step in report.steps)
    return [(int(one[1]), int(one[2])) for one in found if one is not None]


@pytest.mark.slow
async def test_calls_lose_nothing_over_a_restart_of_the_unit(unit: Unit) -> None:
    reports: list[Report] = []

    async def call(number: int) -> None:
        accounts = [Account(f"{name}{number}", None) for name in ("caller", "callee")]
        address = TransportAddress("127.0.0.1", unit.sip)
        reports.append(await selftest(address, "test.example", *accounts, seconds=SECONDS, tell=lambda step: None))

    await trio.to_thread.run_sync(unit.manager.start)
    async with trio.open_nursery() as nursery:
        for number in range(CALLS):
            nursery.start_soon(partial(call, number))
        await trio.sleep(3)
        await trio.to_thread.run_sync(unit.manager.stop)
        # Two ports a leg and two legs a call, SIP over UDP and TCP, STUN over both.
        assert len(unit.manager.store) == 4 * CALLS + 4
        with bound() as phone:
            phone.settimeout(10)
            unit.ask(phone)
            await trio.to_thread.run_sync(unit.manager.start)
            assert (await trio.to_thread.run_sync(phone.recv, 4096)).startswith(b"SIP/2.0 200")
    assert [step for report in reports for step in report.steps if not step.ok] == []
    assert all(sent - heard <= LOST_AT_MOST for report in reports for heard, sent in frames(report)), reports
    assert unit.manager.store == []
    assert len(reports) == CALLS


def test_sockets_of_socket_units_are_used_and_not_bound_again(unit: Unit) -> None:
    sip, sip_tcp, stun = bound(), bound(socket.SOCK_STREAM), bound()
    with sip, sip_tcp, stun, bound() as phone:
        sip_tcp.listen()
        file = unit.manager.place / "n.toml"
        text = file.read_text()
        text = text.replace(f"udp:127.0.0.1:{unit.sip}", f"udp:127.0.0.1:{sip.getsockname()[1]}")
        text = text.replace(f"tcp:127.0.0.1:{unit.sip}", f"tcp:127.0.0.1:{sip_tcp.getsockname()[1]}")
        file.write_text(text.replace(f"port = {unit.stun}", f"port = {stun.getsockname()[1]}\ntcp = false"))
        unit.sip = sip.getsockname()[1]
        unit.ask(phone)
        unit.manager.start([("sip", sip), ("sip", sip_tcp), ("stun", stun)])
        phone.settimeout(10)
        assert phone.recv(4096).startswith(b"SIP/2.0 200")
        phone.sendto(bytes.fromhex("000100002112a442") + b"activation-1", stun.getsockname())
        assert phone.recv(4096)[:2] == b"\x01\x01"
        with socket.create_connection(sip_tcp.getsockname(), timeout=10) as stream:
            stream.sendall(OPTIONS.format(sip=sip_tcp.getsockname()[1], port=1).replace("UDP", "TCP").encode())
            assert stream.recv(4096).startswith(b"SIP/2.0 200")
