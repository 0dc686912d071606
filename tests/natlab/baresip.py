"""Baresip as phone or gateway, driven over its control port; it sends a tone and records what it hears."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.natlab.laboratory import Host
from tests.natlab.namespaces import LaboratoryFault, Program, within
from tests.tones import Heard, examine, read_wave, tone, write_wave

_CONTROL_PORT = 4444
_TONE_SECONDS = 150.0
_MODULES = Path("/usr/lib/baresip/modules")
_REGISTERED = re.compile(r" 200 OK \(.*\) \[\d+ binding")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Event:
    """What the program announced: CALL_ESTABLISHED, CALL_CLOSED, REGISTER_OK, …"""

    moment: float
    kind: str
    text: str
    data: dict[str, Any]


@dataclass
class Baresip:
    """One user agent in a host's namespace. `registrar` None makes a gateway that registers nowhere.

    `frequency` is the tone it sends. `answer` is `auto` or `manual`. `server` is where it sends what it dials.
    """

    host: Host
    user: str
    server: str
    directory: Path
    frequency: float
    register: bool = True
    password: str = "pw"
    transport: str = "udp"
    answer: str = "auto"
    address: str | None = None
    port: int = 5060
    account_extra: str = ""
    config_extra: str = ""
    codecs: str = "pcmu"
    modules: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)

    def __enter__(self) -> Baresip:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_files()
        self._changed = threading.Condition()
        self._replies: dict[str, dict[str, Any]] = {}
        self.program: Program = self.host.namespace.start(
            "baresip", "-f", self.directory, "-s", name=f"baresip-{self.user}", directory=self.directory
        )
        self.program.wait_for("baresip is ready", 15.0)
        self._socket = within(self.host.namespace.name, self._connect)
        self._reader = threading.Thread(target=self._read, name=f"baresip {self.user}", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._socket.close()
        self.program.stop()

    def command(self, name: str, parameters: str = "") -> str:
        """Send a command and return what it printed; raises LaboratoryFault when it is refused."""
        token = uuid.uuid4().hex
        text = json.dumps({"command": name, "params": parameters, "token": token})
        self._socket.sendall(f"{len(text)}:{text},".encode())
        with self._changed:
            if not self._changed.wait_for(lambda: token in self._replies, 10.0):
                raise LaboratoryFault(f"{self.user}: no reply to {name}\n{self.program.output()[-2000:]}")
            reply = self._replies.pop(token)
        if not reply.get("ok"):
            raise LaboratoryFault(f"{self.user}: {name} {parameters}: {reply.get('data')}")
        return _ANSI.sub("", str(reply.get("data", "")))

    def wait(self, *kinds: str, seconds: float = 10.0, since: float = 0.0) -> Event:
        """Wait for an event of one of the kinds that came after `since` (monotonic seconds)."""

        def found() -> Event | None:
            return next((event for event in self.events if event.kind in kinds and event.moment >= since), None)

        with self._changed:
            event = self._changed.wait_for(found, seconds)
        if event is None:
            said = [f"{event.kind} {event.text}" for event in self.events]
            raise LaboratoryFault(
                f"{self.user}: no {kinds} in {seconds} s; events {said}\n{self.program.output()[-2500:]}"
            )
        return event

    def wait_registered(self, seconds: float = 10.0) -> None:
        """Wait for the first registration; it may be over before the control port is joined, so the output is read."""
        deadline = time.monotonic() + seconds
        while not _REGISTERED.search(output := self.program.output()):
            refused = next((event for event in self.events if event.kind == "REGISTER_FAIL"), None)
            if refused is not None or time.monotonic() > deadline:
                reason = refused.text if refused else f"nothing in {seconds} s"
                raise LaboratoryFault(f"{self.user}: registration failed: {reason}\n{output[-2500:]}")
            time.sleep(0.02)

    def dial(self, target: str) -> None:
        """Call a user of the server, or a whole URI."""
        self.command("dial", target if target.startswith("sip") else f"sip:{target}@{self.server}")

    def accept(self) -> None:
        self.command("accept")

    def hang_up(self) -> None:
        self.command("hangup")

    def hold(self) -> None:
        self.command("hold")

    def resume(self) -> None:
        self.command("resume")

    def wait_established(self, seconds: float = 10.0, since: float = 0.0) -> None:
        event = self.wait("CALL_ESTABLISHED", "CALL_CLOSED", seconds=seconds, since=since)
        if event.kind != "CALL_ESTABLISHED":
            raise LaboratoryFault(f"{self.user}: call ended: {event.text}\n{self.program.output()[-2500:]}")

    def recordings(self) -> list[Path]:
        """What was heard, one file a call (and one after each media restart), oldest first."""
        return sorted(self.directory.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime_ns)

    def heard(self, far: float) -> Heard:
        """Examine the latest recording for the far side's tone."""
        files = self.recordings()
        if not files:
            return Heard(0.0, 0.0, 0, None)
        samples, rate = read_wave(files[-1])
        return examine(samples, rate, far=far, own=self.frequency)

    def _write_files(self) -> None:
        here = self.directory.resolve()
        wave = write_wave(here / "tone8k.wav", tone(self.frequency, _TONE_SECONDS))
        address = self.address or self.host.address
        sip_listen = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        modules = ("g711.so", "sndfile.so", "aufile.so", *self.modules)
        (here / "config").write_text(
            f"""sip_listen            {sip_listen}
net_interface         e0
module_path           {_MODULES}
audio_source          aufile,{wave}
audio_player          aufile,{here}/played.wav
rtp_ports             31000-31100
rtp_stats             yes
snd_path              {here}
{"".join(f"module                {name}{chr(10)}" for name in modules)}module_tmp            uuid.so
module_tmp            account.so
module_app            menu.so
module_app            ctrl_tcp.so
ctrl_tcp_listen       127.0.0.1:{_CONTROL_PORT}
{self.config_extra}
"""
        )
        interval = 60 if self.register else 0
        (here / "accounts").write_text(
            f"<sip:{self.user}@{self.server};transport={self.transport}>;auth_user={self.user};auth_pass={self.password};"
            f"regint={interval};answermode={self.answer};audio_codecs={self.codecs};"
            f'outbound="sip:{self.server};transport={self.transport}"{self.account_extra}\n'
        )
        (here / "contacts").write_text("")

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 5.0
        while True:
            try:
                return socket.create_connection(("127.0.0.1", _CONTROL_PORT), timeout=None)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                piece = self._socket.recv(65536)
            except OSError:
                return
            if not piece:
                return
            pending += piece
            while (cut := _netstring(pending)) is not None:
                text, pending = cut
                self._take(json.loads(text.decode("utf-8", "replace"), strict=False))

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if message.get("event"):
                kind, text = str(message.get("type")), str(message.get("param", ""))
                self.events.append(Event(time.monotonic(), kind, text, message))
            elif "token" in message:
                self._replies[str(message["token"])] = message
            self._changed.notify_all()


def _netstring(data: bytes) -> tuple[bytes, bytes] | None:
    """Split `LENGTH:TEXT,` from the front; None when it is not all here."""
    size, colon, rest = data.partition(b":")
    if not colon or len(rest) < int(size) + 1:
        return None
    return rest[: int(size)], rest[int(size) + 1 :]
