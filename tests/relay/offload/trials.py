"""The relay's program with a flow of each family on a wire, for trials of single frames (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import numpy as np

from nattrav.net.address import TransportAddress
from nattrav.net.bpf.programs import Action, Trial
from relay.offload import layout
from relay.offload.io.loader import XdpFlows
from relay.offload.layout import ROW, Way
from relay.rtp import encode_header
from tests.relay.offload.wires import NEAR, PARTIES, PARTIES6, RELAY, RELAY6, Frame, Seen, Wire, read

LOCAL, SOURCE = TransportAddress(RELAY, 30000), TransportAddress(RELAY, 30002)
ALICE, BOB = TransportAddress(PARTIES[0], 4000), TransportAddress(PARTIES[1], 5000)
LOCAL6, SOURCE6 = TransportAddress(RELAY6, 30000), TransportAddress(RELAY6, 30002)
ALICE6, BOB6 = TransportAddress(PARTIES6[0], 4000), TransportAddress(PARTIES6[1], 5000)
RTP = encode_header(8, 100, 16000, 7) + bytes(range(160))
WAY = Way(LOCAL, ALICE, SOURCE, BOB, size_limit=1400, rate_limit=100000, tos=0xB8)
WAY6 = Way(LOCAL6, ALICE6, SOURCE6, BOB6, size_limit=1400, rate_limit=100000, tos=0xB8)


class Bench:
    """The program with its two flows, and a frame to try."""

    def __init__(self, wire: Wire, kernel: XdpFlows) -> None:
        self.wire = wire
        self.kernel = kernel
        self.rows = kernel.rows
        self.frame = Frame(wire, ALICE, LOCAL, RTP)
        self.frame6 = Frame(wire, ALICE6, LOCAL6, RTP)

    def reset(self, **changes: int) -> None:
        fresh = np.zeros((), ROW)
        fresh["tick"] = 125000 * 1024
        for name, value in changes.items():
            fresh[name] = value
        self.rows[:2] = fresh
        for way, row in ((WAY, 0), (WAY6, 1)):
            assert self.kernel.put(layout.key(way.local), layout.flow(way, row))

    def run(self, frame: Frame | bytes) -> Trial:
        octets = frame if isinstance(frame, bytes) else frame.octets()
        return self.kernel.program.try_frame(octets, interface=NEAR)

    def left(self, frame: Frame | bytes) -> str | None:
        """Try a frame that must be left alone; give the reason that was counted."""
        before = self.kernel.left()
        octets = frame if isinstance(frame, bytes) else frame.octets()
        trial = self.run(octets)
        assert trial.action == Action.PASS
        assert trial.frame == octets
        assert not self.rows["packets"][:2].any()
        after = self.kernel.left()
        return next((reason for reason in after if after[reason] != before[reason]), None)

    def sent(self, frame: Frame) -> Seen:
        """Try a frame that must be sent on; give what leaves."""
        trial = self.run(frame)
        assert trial.action == Action.TX
        return read(trial.frame)
