"""A bundle whose relay and STUN both have the kernel do their work, on one interface: kills, restarts, ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from nattrav.control.ng.codec_bencode import decode, encode
from nattrav.control.socket.io.client import ask
from nattrav.net.bpf.dispatcher import OBJECT as DISPATCHER
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Mode
from stun.message import BINDING, MessageClass
from stun.message import encode as encode_stun
from tests.daemon.service_manager import ServiceManager
from tests.natlab.namespaces import execute, missing, within
from tests.net.bpf.objects import ROOT, need_bpf
from tests.relay.offload.wires import NEAR, PARTIES, RELAY, Wire, wire

CONFIG = f"""
[node]
services = ["relay", "stun"]
state_directory = "STATE"
[relay]
interfaces = ["public/{RELAY}"]
ports = "46000-46099"
offload = "xdp"
learning_window = 0.3
threads = 1
[stun]
listen = ["{RELAY}"]
offload = "xdp"
[control]
listen = ["udp:127.0.0.1:2223"]
[admin]
listen = ["127.0.0.1:16080"]
"""
INTERVAL = 0.02
SO_TIMESTAMPNS = 35
SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"


class Bundle:
    """`nattrav run` in a wire's near namespace, where this thread is."""

    def __init__(self, directory: Path, manager: ServiceManager | None = None) -> None:
        """With a `manager` that runs one relay alone instead."""
        self.directory = directory
        self.manager = manager
        self.process: subprocess.Popen[bytes] | None = None
        if manager is None:
            path = directory / "nattrav.toml"
            path.write_text(CONFIG.replace("STATE", f"{directory}/state"))
            command = [sys.executable, "-m", "nattrav.cli", "run", "-c", str(path), "--runtime-dir", str(directory)]
            with (directory / "log").open("wb") as log:
                self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log)
        else:
            manager.start()
        self.ng = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.ng.connect(("127.0.0.1", 2223))
        self.ng.settimeout(5)
        self.until(lambda: all(self.status(role) for role in ("relay", "stun")[: 2 if manager is None else 1]))

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process is None or self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def said(self) -> str:
        return (self.directory / "log").read_text()[-4000:]

    def ask(self, role: str, verb: str) -> Any:
        return trio.run(lambda: ask(self.directory / f"{role}.sock", verb, {}, limit=3))

    def status(self, role: str) -> dict[str, Any]:
        try:
            told = self.ask(role, "status")
        except Exception:
            return {}
        return told if told["ready"] else {}

    def offloaded(self) -> int:
        return int(self.status("relay").get("offload", {}).get("flows", -1))

    def request(self, **arguments: str) -> dict[bytes, Any]:
        self.ng.send(
            b"%d " % time.monotonic_ns() + encode({name.replace("_", "-"): v for name, v in arguments.items()})
        )
        reply = decode(self.ng.recv(65536).partition(b" ")[2])
        assert isinstance(reply, dict)
        assert reply[b"result"] == b"ok", reply
        return reply

    def port(self, **arguments: str) -> int:
        sdp = self.request(call_id="a call", **arguments)[b"sdp"]
        return int(next(line for line in sdp.split(b"\r\n") if line.startswith(b"m=")).split()[1])

    def kill(self, role: str) -> None:
        """Kill a service, and wait until its next process serves."""
        pid = self.status(role)["pid"]
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: self.status(role).get("pid", pid) != pid)

    def close(self) -> None:
        self.ng.close()
        if self.manager is not None:
            self.manager.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)


class Phone:
    """A party on the other end of the wire that notes when it heard which packet."""

    def __init__(self, place: Wire, host: str, ssrc: int) -> None:
        def opened() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((host, 0))
            return sock

        self.sock = within(place.there, opened)
        self.sock.settimeout(0.2)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.host, self.number = self.sock.getsockname()
        self.ssrc = ssrc
        self.sent = 0
        self.sent_at: list[float] = []
        self.heard: list[tuple[float, int]] = []

    @property
    def sdp(self) -> str:
        return SDP.format(self.host, self.number)

    def send(self, port: int) -> None:
        self.sock.sendto(rtp(self.sent, self.ssrc), (RELAY, port))
        self.sent += 1
        self.sent_at.append(time.time())

    def listen(self, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                payload, ((_, _, stamp),), _, _ = self.sock.recvmsg(2048, 64)
                seconds, nanoseconds = struct.unpack("=qq", stamp)
                self.heard.append((seconds + nanoseconds / 1e9, int.from_bytes(payload[2:4], "big")))


def pause(speaker: Phone, listener: Phone) -> float:
    """Longest silence that the listener heard, less the longest that the speaker made (a busy machine's)."""
    silences = (
        max(after - before for before, after in itertools.pairwise(times))
        for times in ([at for at, _ in listener.heard], speaker.sent_at)
    )
    return next(silences) - next(silences)


def rtp(sequence: int, ssrc: int) -> bytes:
    header = b"\x80\x00" + sequence.to_bytes(2, "big") + (sequence * 160).to_bytes(4, "big") + ssrc.to_bytes(4, "big")
    return header + bytes(160)


class Call:
    """Two phones that talk without a pause until `end`."""

    def __init__(self, bundle: Bundle, place: Wire) -> None:
        self.phones = Phone(place, PARTIES[0], 7), Phone(place, PARTIES[1], 9)
        caller, callee = self.phones
        self.bundle = bundle
        for_callee = bundle.port(command="offer", from_tag="a", sdp=caller.sdp)
        for_caller = bundle.port(command="answer", from_tag="a", to_tag="b", sdp=callee.sdp)
        self.ports = for_caller, for_callee
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=phone.listen, args=(self.ended,)) for phone in self.phones]
        self.threads.append(threading.Thread(target=self._talk))
        for thread in self.threads:
            thread.start()

    def _talk(self) -> None:
        due = time.monotonic()
        while not self.ended.is_set():
            for phone, port in zip(self.phones, self.ports, strict=True):
                phone.send(port)
            due += INTERVAL
            time.sleep(max(0.0, due - time.monotonic()))

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        for phone in self.phones:
            phone.sock.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Wire]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        yield made


@pytest.fixture
def bundle(place: Wire, tmp_path: Path) -> Iterator[Bundle]:
    made = Bundle(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def call(bundle: Bundle, place: Wire) -> Iterator[Call]:
    made = Call(bundle, place)
    try:
        bundle.until(lambda: bundle.offloaded() == 2)
        yield made
    finally:
        made.end()


STRAY = 2
"""Packets that may be on their way to user space when the relay dies; one was seen, on a busy host."""


def attached() -> list[int]:
    """Numbers of the XDP programs on the near interface."""
    (link,) = json.loads(execute("ip", "-j", "link", "show", NEAR))
    return [link["xdp"]["prog"]["id"]] if "xdp" in link else []


def binding(place: Wire, count: int) -> int:
    """Ask for a binding so many times from one port; how many answers came."""

    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((PARTIES[0], 0))
        sock.settimeout(0.5)
        return sock

    answers = 0
    with within(place.there, opened) as sock:
        for number in range(count):
            sock.sendto(encode_stun(BINDING, MessageClass.REQUEST, number.to_bytes(12, "big"), ()), (RELAY, 3478))
            with contextlib.suppress(TimeoutError):
                answers += len(sock.recv(2048)) > 20
    return answers


def by_kernel(bundle: Bundle) -> int:
    """STUN answers that the kernel gave."""
    return int(bundle.ask("stun", "stun.stats")["offload"]["answered"])


def test_calls_go_on_in_the_kernel_while_the_relay_is_killed_and_comes_back(bundle: Bundle, call: Call) -> None:
    programs = attached()
    for _ in range(2):
        # What is younger than the last look at the snapshot is not known to the next process.
        time.sleep(0.5)
        bundle.kill("relay")
        bundle.until(lambda: bundle.offloaded() == 2)
    assert attached() == programs
    call.end()
    caller, callee = call.phones
    for phone, other in ((caller, callee), (callee, caller)):
        assert pause(other, phone) < 0.1
        # The first few may come before the other end has latched.
        heard = [sequence for _, sequence in phone.heard]
        assert heard == sorted(set(heard))
        assert heard[0] < 5
        assert other.sent - heard[0] - len(heard) <= STRAY
    events = execute("curl", "-s", "http://127.0.0.1:16080/metrics")
    assert 'nattrav_relay_offload_events_total{datapath="xdp",event="adopted"} 2' in events
    assert [one["path"] for one in streams(bundle)] == ["xdp", "xdp"]
    told = streams(bundle)
    for one, phone, other in zip(told, call.phones, reversed(call.phones), strict=True):
        assert 0 <= phone.sent - one["packets_in"] <= STRAY
        assert 0 <= other.sent - one["packets_out"] <= STRAY
        assert one["lost"] == phone.sent - one["packets_in"]


def test_an_ended_call_is_in_the_kernel_no_more_though_another_relay_put_it_there(bundle: Bundle, call: Call) -> None:
    time.sleep(0.5)
    bundle.kill("relay")
    bundle.until(lambda: bundle.offloaded() == 2)
    bundle.request(command="delete", call_id="a call", from_tag="a")
    bundle.until(lambda: bundle.offloaded() == 0)
    before = [len(phone.heard) for phone in call.phones]
    time.sleep(0.2)
    assert [len(phone.heard) for phone in call.phones] == before


def test_calls_that_ended_unseen_are_taken_out_of_the_kernel(bundle: Bundle, call: Call) -> None:
    # As when a disk loses the snapshot: nobody knows the call any more. A relay at work would write it again.
    pid = bundle.status("relay")["pid"]
    os.kill(pid, signal.SIGSTOP)
    for path in (bundle.directory / "state" / "relay").rglob("*"):
        path.write_bytes(b"")
    os.kill(pid, signal.SIGKILL)
    bundle.until(lambda: "sessions that are gone" in bundle.said())
    before = [len(phone.heard) for phone in call.phones]
    time.sleep(0.2)
    assert [len(phone.heard) for phone in call.phones] == before


def test_a_restart_that_was_asked_for_goes_unnoticed_likewise(bundle: Bundle, call: Call) -> None:
    pid = bundle.status("relay")["pid"]
    os.kill(pid, signal.SIGTERM)
    bundle.until(lambda: bundle.status("relay").get("pid", pid) != pid)
    bundle.until(lambda: bundle.offloaded() == 2)
    call.end()
    assert pause(*call.phones) < 0.1
    assert pause(*reversed(call.phones)) < 0.1
    assert [one["packets_in"] for one in streams(bundle)] == [phone.sent for phone in call.phones]


def test_relay_and_stun_share_the_interface_and_neither_minds_the_others_death(
    bundle: Bundle, call: Call, place: Wire
) -> None:
    programs = attached()
    assert len(programs) == 1
    assert binding(place, 20) == 20
    assert by_kernel(bundle) >= 15
    for role in ("stun", "relay"):
        time.sleep(0.5)
        bundle.kill(role)
        bundle.until(lambda: bundle.offloaded() == 2)
        assert binding(place, 20) == 20
        assert by_kernel(bundle) >= 15
    assert attached() == programs
    call.end()
    assert pause(*call.phones) < 0.1
    assert pause(*reversed(call.phones)) < 0.1


def test_after_the_end_nothing_is_left_in_the_kernel(place: Wire, tmp_path: Path) -> None:
    before = loaded()
    bundle = Bundle(tmp_path)
    here = loaded() - before
    assert {name for _, name in here} >= {"dispatch", "relay", "stun", "slots", "flows", "clients"}
    bundle.close()
    deadline = time.monotonic() + 5
    while loaded() & here:
        assert time.monotonic() < deadline, loaded() & here
        time.sleep(0.05)
    assert attached() == []


def test_a_foreign_program_on_the_interface_is_named_with_the_remedy(place: Wire, tmp_path: Path) -> None:
    with BpfObject(DISPATCHER.read_bytes()) as foreign:
        foreign.load()
        attachment = foreign.program("dispatch").attach(NEAR, Mode.GENERIC)
        try:
            command = [sys.executable, "-m", "nattrav.cli", "relay", "serve", "--runtime-dir", str(tmp_path)]
            command += ["--interface", f"public/{RELAY}", "--listen-ng", "unix:auto", "--offload", "xdp"]
            environment = os.environ | {"NATTRAV_STATE_DIR": str(tmp_path)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
        finally:
            attachment.close()
    assert done.returncode == 1
    assert "near0: it has an XDP program already" in done.stderr
    assert "take that one off, or name other interfaces in offload_interfaces" in done.stderr


def test_a_relay_alone_is_taken_up_again_from_the_service_managers_store(place: Wire, tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text(CONFIG.replace("STATE", f"{tmp_path}/state"))
    serve = ["-m", "nattrav.cli", "--runtime-dir", str(tmp_path), "relay", "serve", "-c", str(tmp_path / "n.toml")]
    manager = ServiceManager(tmp_path, serve)
    bundle = Bundle(tmp_path, manager=manager)
    call = Call(bundle, place)
    try:
        bundle.until(lambda: bundle.offloaded() == 2)
        time.sleep(0.5)
        manager.kill()
        manager.start()
        bundle.until(lambda: bundle.offloaded() == 2)
        call.end()
        assert pause(*call.phones) < 0.1
        assert [one["packets_in"] for one in streams(bundle)] == [phone.sent for phone in call.phones]
    finally:
        call.end()
        bundle.close()
    assert attached() == []


def loaded() -> set[tuple[int, str]]:
    """Programs and maps in the kernel."""
    found = (json.loads(execute("bpftool", "-j", kind, "show")) for kind in ("prog", "map"))
    return {(one["id"], one.get("name", "")) for some in found for one in some}


def streams(bundle: Bundle) -> list[dict[str, Any]]:
    """The RTP of both parties, as the relay tells it."""
    told = trio.run(lambda: ask(bundle.directory / "relay.sock", "sessions.show", {"call_id": "a call"}, limit=3))
    return [party["legs"][0]["components"][0] for party in told["parties"]]
