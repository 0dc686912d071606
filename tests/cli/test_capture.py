"""`nattrav trace --pcap` and `--hep`: read back by tshark, and by the eye."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from nattrav.cli.app import run
from nattrav.cli.capture import pcap_head, pcap_packet
from nattrav.net.address import TransportAddress
from tests.proxy.test_proxy_daemon import Party, running

from .test_trace import options

MESSAGE = b"OPTIONS sip:x@192.0.2.1 SIP/2.0\r\nCall-ID: odd\r\nContent-Length: 0\r\n\r\n"
PAIRS = [
    (TransportAddress("192.0.2.1", 5060), TransportAddress("203.0.113.7", 31020)),
    (TransportAddress("2001:db8::1", 5061), TransportAddress("2001:db8::7", 40000)),
]


def test_a_packet_has_the_addresses_ports_and_time_it_was_given() -> None:
    packet = pcap_packet(1_700_000_000.25, *PAIRS[0], MESSAGE)
    assert struct.unpack("<IIII", packet[:16])[:2] == (1_700_000_000, 250_000)
    assert packet[16 + 12 : 16 + 20] == socket.inet_aton("192.0.2.1") + socket.inet_aton("203.0.113.7")
    assert struct.unpack("!HH", packet[36:40]) == (5060, 31020)
    assert packet.endswith(MESSAGE)


@pytest.mark.interop
def test_tshark_reads_messages_of_both_families_with_right_checksums(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("needs tshark: apt install tshark")
    file = tmp_path / "c.pcap"
    file.write_bytes(pcap_head() + b"".join(pcap_packet(1.5, *pair, MESSAGE) for pair in PAIRS))
    fields = [word for name in ("sip.Method", "udp.checksum.status", "udp.dstport") for word in ("-e", name)]
    checks = ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    ended = subprocess.run(
        [tshark, "-r", str(file), *checks, "-T", "fields", *fields], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == ["OPTIONS\t1\t31020", "OPTIONS\t1\t40000"]


async def test_a_trace_is_written_to_a_file_only_the_operator_reads(tmp_path: Path) -> None:
    file = tmp_path / "t.pcap"
    async with running(tmp_path) as proxy:
        phone = await Party().bind()
        words = ["trace", "wanted", "--count", "2", "--pcap", str(file), "--runtime-dir", str(tmp_path)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, partial(run, words))
            await trio.sleep(0.3)
            await options(proxy, phone, "bob", "wanted")
    octets = file.read_bytes()
    assert octets.startswith(pcap_head())
    assert b"OPTIONS sip:" in octets
    assert b"SIP/2.0 200 OK" in octets
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_trace_is_sent_to_a_collector(tmp_path: Path) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        await collector.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{collector.getsockname()[1]}"
        async with running(tmp_path) as proxy:
            phone = await Party().bind()
            words = ["trace", "--aor", "bob", "--count", "1", "--hep", target, "--runtime-dir", str(tmp_path)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, partial(run, words))
                await trio.sleep(0.3)
                await options(proxy, phone, "bob", "wanted")
            with trio.fail_after(5):
                copy = await collector.recv(65536)
    assert copy.startswith(b"HEP3")
    assert b"OPTIONS sip:" in copy


@pytest.mark.parametrize(
    "words",
    [
        ["trace", "--hep", "nowhere:99999"],
        ["trace", "--pcap", "/nonexistent/x.pcap"],
        ["trace", "--pcap", "x", "--hep", "192.0.2.1:9060"],
        ["trace", "alice", "--from", "192.0.2.1"],
        ["trace", "--from", "alice"],
    ],
)
def test_a_wrong_target_is_a_usage_error(words: list[str]) -> None:
    assert run(words) == 2
