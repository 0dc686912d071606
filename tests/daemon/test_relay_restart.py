"""`kill -9` of a relay process during calls: media flows again without signalling."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nattrav.control.ng.codec_bencode import decode, encode

CALLS = 200
CONTROL = ("127.0.0.1", 14110)
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n"


@contextlib.contextmanager
def relay_process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "nattrav.cli", "relay", "serve", "--runtime-dir", str(directory)]
    command += ["--interface", "public/127.0.0.1", "--listen-ng", f"{CONTROL[0]}:{CONTROL[1]}"]
    command += ["--port-min", "28000", "--port-max", "29599", "--threads", "1"]
    environment = os.environ | {"NATTRAV_STATE_DIR": str(directory)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(sock: socket.socket, number: int, **arguments: Any) -> dict[bytes, Any]:
    request = b"r%d " % number + encode({name.replace("_", "-"): value for name, value in arguments.items()})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            sock.send(request)
        if select.select([sock], [], [], 0.1)[0]:
            with contextlib.suppress(ConnectionRefusedError):
                reply = decode(sock.recv(65536).partition(b" ")[2])
                assert isinstance(reply, dict)
                return reply
    raise AssertionError("the relay does not answer")


def port_of(reply: dict[bytes, Any]) -> int:
    assert reply[b"result"] == b"ok", reply
    return int(next(line for line in reply[b"sdp"].split(b"\r\n") if line.startswith(b"m=")).split()[1])


def packet(sequence: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 0, sequence, sequence * 160, 7) + bytes(160)


def heard(phones: list[socket.socket]) -> set[int]:
    """Indices of phones with something to read; all of it is read."""
    ready = set(select.select(phones, [], [], 0.02)[0])
    found = {index for index, phone in enumerate(phones) if phone in ready}
    for phone in ready:
        with contextlib.suppress(BlockingIOError):
            while True:
                phone.recv(2048)
    return found


def everyone_hears(callers: list[socket.socket], callees: list[socket.socket], ports: list[tuple[int, int]]) -> float:
    """Send both ways until everybody has heard something; give the seconds it took."""
    started = time.monotonic()
    silent_callers, silent_callees = set(range(CALLS)), set(range(CALLS))
    sequence = int(started * 50) & 0x7FFF
    while silent_callers or silent_callees:
        assert time.monotonic() - started < 20, (len(silent_callers), len(silent_callees))
        sequence += 1
        for index, (for_callee, for_caller) in enumerate(ports):
            with contextlib.suppress(ConnectionRefusedError):
                callers[index].sendto(packet(sequence), ("127.0.0.1", for_caller))
            with contextlib.suppress(ConnectionRefusedError):
                callees[index].sendto(packet(sequence), ("127.0.0.1", for_callee))
        silent_callers -= heard(callers)
        silent_callees -= heard(callees)
        time.sleep(0.02)
    return time.monotonic() - started


def test_media_flows_again_after_kill_9_without_any_signalling(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        phones = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2 * CALLS)]
        for phone in phones:
            phone.bind(("127.0.0.1", 0))
            phone.setblocking(False)
        callers, callees = phones[:CALLS], phones[CALLS:]
        control = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        control.connect(CONTROL)
        ports = []
        with relay_process(tmp_path) as process:
            for index in range(CALLS):
                call: dict[str, Any] = {"call_id": f"call-{index}", "from_tag": "a"}
                sdp = SDP % callers[index].getsockname()[1]
                offered = ask(control, 2 * index, command="offer", sdp=sdp, **call)
                sdp = SDP % callees[index].getsockname()[1]
                answered = ask(control, 2 * index + 1, command="answer", sdp=sdp, to_tag="b", **call)
                ports.append((port_of(offered), port_of(answered)))
            everyone_hears(callers, callees, ports)
            time.sleep(1.5)
            process.send_signal(signal.SIGKILL)
            process.wait()
        heard(phones)
        with relay_process(tmp_path):
            gap = everyone_hears(callers, callees, ports)
            print(f"media of {CALLS} calls back after {gap:.2f} s")
            report = ask(control, 100000, command="query", call_id="call-7")
            assert report[b"totals"][b"RTP"][b"packets"] >= 4
            time.sleep(0.3)
            heard(phones)
            stranger = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for for_callee, for_caller in ports[:20]:
                stranger.sendto(packet(1), ("127.0.0.1", for_callee))
                stranger.sendto(packet(1), ("127.0.0.1", for_caller))
            time.sleep(0.2)
            assert heard(callers) | heard(callees) == set()
        # Python and its libraries alone take most of it on a busy machine.
        assert gap < 6.0


def test_a_drain_ends_the_process_after_the_last_session(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        control.connect(CONTROL)
        process = stack.enter_context(relay_process(tmp_path))
        ask(control, 1, command="offer", call_id="last", from_tag="a", sdp=SDP % 9000)
        drain = [sys.executable, "-m", "nattrav.cli", "relay", "drain", "--exit", "--runtime-dir", str(tmp_path)]
        subprocess.run(drain, check=True, stdout=subprocess.DEVNULL)
        refused = ask(control, 2, command="offer", call_id="new", from_tag="a", sdp=SDP % 9000)
        assert refused[b"error-reason"] == b"Parallel session limit reached"
        time.sleep(1.5)
        assert process.poll() is None
        ask(control, 3, command="delete", call_id="last")
        assert process.wait(timeout=10) == 0


def test_too_few_open_files_for_the_port_range_refuse_the_start_with_the_remedy(tmp_path: Path) -> None:
    serve = (
        "ulimit -Sn 600; ulimit -Hn 600; exec {} -m nattrav.cli relay serve --interface x/127.0.0.1 --runtime-dir {}"
    )
    refused = subprocess.run(
        ["sh", "-c", serve.format(sys.executable, tmp_path)],
        env=os.environ | {"NATTRAV_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert refused.returncode == 1
    assert "10000 media ports need as many open files" in refused.stderr
    assert "LimitNOFILE=" in refused.stderr
    assert "Traceback" not in refused.stderr
