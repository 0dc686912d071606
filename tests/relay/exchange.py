"""Flows on a table without sockets, for tests of steering: packets go in by the batch, what would be sent comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nattrav.net.address import TransportAddress, from_sockaddr, to_sockaddr
from nattrav.net.frames import Frames
from relay.crossbar import Crossbar
from relay.flows import FlowTable
from relay.plane import Content, DropReason, FlowFigures, FlowSettings
from relay.rtp import encode_header
from relay.steer import Steer

Packet = tuple[int, bytes, TransportAddress]


def rtp(sequence: int = 1, ssrc: int = 7, payload_type: int = 0, size: int = 160) -> bytes:
    return encode_header(payload_type, sequence, sequence * 160, ssrc) + bytes(size)


def at(text: str) -> TransportAddress:
    return TransportAddress.parse(text)


class Exchange:
    """A data thread's inside. Flow numbers are slots, `now` is moved by hand."""

    def __init__(self, capacity: int = 64) -> None:
        self.table = FlowTable(capacity)
        self.frames = Frames(2048)
        self.crossbar = Crossbar(self.table)
        self.steer = Steer(self.table, self.frames, self.crossbar)
        self.now = 1000.0

    def open(self, local: str, settings: FlowSettings) -> int:
        slot = self.table.take()
        self.crossbar.open(slot, TransportAddress.parse(local), settings, slot, self.now)
        return slot

    def set(self, slot: int, settings: FlowSettings, *, relearn: bool = False) -> None:
        self.crossbar.set(slot, settings, self.now, relearn=relearn)

    def change(self, slot: int, *, relearn: bool = False, **changes: object) -> None:
        self.set(slot, replace(self.crossbar.flows[slot].settings, **changes), relearn=relearn)

    def pair(
        self,
        first: str,
        second: str,
        content: Content = Content.RTP,
        locals_: tuple[str, str] = ("192.0.2.10:40000", "192.0.2.10:40002"),
        **more: object,
    ) -> tuple[int, int]:
        """Two flows that feed each other; each party's SDP address is given."""
        a = self.open(locals_[0], FlowSettings(content, advertised=TransportAddress.parse(first), public=True, **more))
        b = self.open(locals_[1], FlowSettings(content, advertised=TransportAddress.parse(second), public=True, **more))
        self.change(a, egress=b, egress_rtcp=b)
        self.change(b, egress=a, egress_rtcp=a)
        return a, b

    def batch(self, *packets: Packet) -> list[tuple[int, TransportAddress, bytes]]:
        """Steer one batch; give (egress flow, destination, payload) of what is sent, in order."""
        for frame, (_, payload, source) in enumerate(packets):
            self.frames.put(frame, payload, to_sockaddr(source))
        departures = self.steer.steer(
            np.array([slot for slot, _, _ in packets], np.intp),
            np.arange(len(packets)),
            np.array([len(payload) for _, payload, _ in packets], np.int32),
            self.now,
        )
        sent = []
        for route, frame, length in zip(*(column.tolist() for column in departures), strict=True):
            egress = int(self.table.egress[route])
            row = self.table.routes[route]
            twin = self.crossbar.flows[egress].exit
            if twin is not None and row["fd"] == twin.file:
                assert row["addr2"] == row["addr_len"] == 0
                sent.append((egress, twin.peer, self.frames.payload(frame, length)))
                continue
            assert row["fd"] == egress
            assert row["addr2"] == self.table.targets[egress].ctypes.data
            target = self.table.targets[egress, : row["addr_len"]].tobytes()
            sent.append((egress, from_sockaddr(target), self.frames.payload(frame, length)))
        return sent

    def one(self, slot: int, payload: bytes, source: str) -> str | None:
        """Steer one packet; give where it went, as text."""
        sent = self.batch((slot, payload, TransportAddress.parse(source)))
        return str(sent[0][1]) if sent else None

    def figures(self, slot: int) -> FlowFigures:
        self.steer.settle(self.now)
        return self.table.figures(slot, self.crossbar.learned(slot), self.crossbar.reported(slot))

    def drops(self, slot: int) -> dict[DropReason, int]:
        return self.figures(slot).drops
