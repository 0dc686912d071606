"""A unit that is restarted under calls keeps its sockets in the service manager's store: nothing is lost."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nattrav.control.ng import codec_bencode
from tests.daemon.service_manager import ServiceManager

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


SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


class Party:
    """One end of a call that a SIP server set up with ng."""

    def __init__(self, ssrc: int) -> None:
        self.sock = bound()
        self.sock.settimeout(30)
        self.ssrc = ssrc
        self.sequence = 0
        self.to = ("127.0.0.1", 9)

    def send(self, packets: int) -> None:
        for _ in range(packets):
            self.sequence += 1
            header = struct.pack("!BBHII", 0x80, 0, self.sequence, 160 * self.sequence, self.ssrc)
            self.sock.sendto(header + bytes(160), self.to)

    def hear(self, packets: int) -> list[int]:
        """Wait for so many packets and give their sequence numbers."""
        return [struct.unpack_from("!H", self.sock.recv(2048), 2)[0] for _ in range(packets)]


def ng(place: Path, command: str, sdp: str, **more: str) -> int:
    """Ask the relay, and give the port in its SDP."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")
        sock.settimeout(10)
        request = {"command": command, "sdp": sdp, "call-id": "kept", "from-tag": "a", **more}
        sock.sendto(f"{command} ".encode() + codec_bencode.encode(request), str(place / "run" / "relay-ng.sock"))
        found = re.search(rb"m=audio (\d+)", sock.recv(8192))
        assert found is not None
        return int(found[1])


@pytest.mark.slow
def test_a_call_loses_nothing_over_a_restart_of_the_unit(unit: Unit) -> None:
    unit.manager.start()
    alice, bob = Party(1), Party(2)
    with alice.sock, bob.sock, bound() as phone:
        ports = [party.sock.getsockname()[1] for party in (alice, bob)]
        bob.to = ("127.0.0.1", ng(unit.manager.place, "offer", SDP.format(port=ports[0])))
        answer = SDP.format(port=ports[1])
        alice.to = ("127.0.0.1", ng(unit.manager.place, "answer", answer, **{"to-tag": "b"}))
        alice.send(5)
        bob.send(5)
        assert (bob.hear(5), alice.hear(5)) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
        unit.manager.stop()
        # Two ports a leg and two legs, SIP over UDP and TCP, STUN over both.
        assert len(unit.manager.store) == 4 + 4
        alice.send(50)
        bob.send(50)
        unit.ask(phone)
        unit.manager.start()
        phone.settimeout(30)
        assert phone.recv(4096).startswith(b"SIP/2.0 200")
        assert (sorted(bob.hear(50)), sorted(alice.hear(50))) == (list(range(6, 56)), list(range(6, 56)))
        assert unit.manager.emptied.wait(10)


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
