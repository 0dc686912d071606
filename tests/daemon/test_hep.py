from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import trio

from nattrav.config.hep import HepSection
from nattrav.daemon.hep import QUEUE, HepExporter
from nattrav.daemon.runtime import StartRefused
from nattrav.metrics.samples import Samples
from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow, Target

FLOW = Flow("udp", 1, TransportAddress("192.0.2.1", 5060), TransportAddress("198.51.100.7", 40001))
INVITE = (
    b"INVITE sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:40001;branch=z9hG4bKa\r\n"
    b"From: <sip:alice@192.0.2.1>;tag=1\r\nTo: <sip:bob@192.0.2.1>\r\nCall-ID: copied@here\r\nCSeq: 1 INVITE\r\n"
    b"Max-Forwards: 70\r\nContact: <sip:alice@198.51.100.7:40001>\r\nContent-Length: 0\r\n\r\n"
)


def collector() -> tuple[socket.socket, HepSection]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2)
    return sock, HepSection(target=f"127.0.0.1:{sock.getsockname()[1]}")


async def test_both_directions_are_copied_with_their_ends() -> None:
    sock, settings = collector()
    samples = Samples()
    exporter = HepExporter(settings, "edge-1", samples)
    exporter.tap("rx", FLOW, INVITE)
    exporter.tap("tx", Target("udp", FLOW.remote), INVITE)
    with trio.move_on_after(0.1):
        await exporter.run()
    first, second = sock.recv(65535), sock.recv(65535)
    assert socket.inet_aton("198.51.100.7") in first
    assert first.endswith(INVITE)
    assert second.endswith(INVITE)
    assert samples.value("nattrav_hep_packets_total", "sip") == 2
    sock.close()


async def test_a_full_queue_drops_and_counts_instead_of_growing() -> None:
    sock, settings = collector()
    samples = Samples()
    exporter = HepExporter(settings, "edge-1", samples)
    for _ in range(QUEUE + 7):
        exporter.tap("rx", FLOW, INVITE)
    assert samples.value("nattrav_hep_dropped_total") == 7
    sock.close()
    with trio.move_on_after(0.05):
        await exporter.run()


def test_a_missing_key_file_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="key_file"):
        HepExporter(HepSection(target="127.0.0.1:9", key_file=str(tmp_path / "none")), "n", Samples())


@pytest.mark.interop
async def test_sngrep_understands_the_copies(tmp_path: Path) -> None:
    sngrep, script = shutil.which("sngrep"), shutil.which("script")
    if sngrep is None or script is None:
        pytest.skip("needs sngrep: apt install sngrep")
    sock, settings = collector()
    port = sock.getsockname()[1]
    sock.close()
    capture = tmp_path / "out.pcap"
    process = subprocess.Popen(  # noqa: ASYNC220
        [script, "-qc", f"{sngrep} -N -q -L udp:127.0.0.1:{port} -O {capture}", "/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not (capture.exists() and b"copied@here" in capture.read_bytes()):
            exporter = HepExporter(settings, "edge-1", Samples())
            exporter.tap("rx", FLOW, INVITE)
            with trio.move_on_after(0.2):
                await exporter.run()
    finally:
        process.terminate()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
    assert b"copied@here" in capture.read_bytes()
