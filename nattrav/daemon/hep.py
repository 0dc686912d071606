"""Sends copies of SIP messages to a collector; a full queue drops copies and counts them, it never slows SIP."""

from __future__ import annotations

import socket
from collections import deque
from pathlib import Path

import trio

from nattrav.config.hep import HepSection
from nattrav.control.hep.packet import Capture, MessageCopy, encode
from nattrav.daemon.runtime import StartRefused
from nattrav.metrics.samples import Samples
from nattrav.net import clock
from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow, Target

QUEUE = 10_000
BATCH = 200
INTERVAL = 0.02


class HepExporter:
    """One process's copies. `tap` is called for each message; `run` sends what has gathered."""

    def __init__(self, settings: HepSection, node: str, samples: Samples) -> None:
        target = TransportAddress.parse(settings.target)
        self._capture = Capture(settings.capture_id, node, read_key(settings.key_file))
        self._samples = samples
        self._waiting: deque[MessageCopy] = deque()
        self._socket = socket.socket(target.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(target)
        except OSError as error:
            self._socket.close()
            raise StartRefused(
                f"cannot send copies to [hep] target {target}: {error.strerror}; correct it or leave it empty"
            ) from None
        samples.inc("nattrav_hep_packets_total", "sip", by=0)
        samples.inc("nattrav_hep_dropped_total", by=0)
        samples.inc("nattrav_queue_dropped_total", "hep", by=0)
        samples.set("nattrav_queue_depth", 0, "hep")

    def tap(self, direction: str, way: Flow | Target, data: bytes) -> None:
        """Keep a copy of one message; `direction` is rx or tx."""
        if len(self._waiting) >= QUEUE:
            self._samples.inc("nattrav_hep_dropped_total")
            self._samples.inc("nattrav_queue_dropped_total", "hep")
            return
        local = way.local if isinstance(way, Flow) else _unknown(way.remote)
        ends = (way.remote, local) if direction == "rx" else (local, way.remote)
        self._waiting.append(MessageCopy(way.transport, *ends, clock.wall(), data))

    async def run(self) -> None:
        """Send until cancelled, and what is left then."""
        try:
            while True:
                self._send()
                await trio.sleep(INTERVAL)
        finally:
            self._send()
            self.close()

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()

    def _send(self) -> None:
        self._samples.set("nattrav_queue_depth", len(self._waiting), "hep")
        for _ in range(min(BATCH, len(self._waiting))):
            try:
                self._socket.send(encode(self._waiting.popleft(), self._capture))
            except OSError:
                self._samples.inc("nattrav_hep_dropped_total")
            else:
                self._samples.inc("nattrav_hep_packets_total", "sip")


def _unknown(remote: TransportAddress) -> TransportAddress:
    return TransportAddress("::" if ":" in remote.host else "0.0.0.0", 0)


def read_key(path: str) -> str:
    """Read the collector's key; StartRefused when the file cannot be read."""
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise StartRefused(f"cannot read [hep] key_file {path}: {error.strerror}; make it readable") from None
