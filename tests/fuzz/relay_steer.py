"""Steering: whatever arrives is either passed on to the other party or counted with a reason, and learning stays sound.

The input is cut into datagrams; each begins with two octets that choose its flow and its source.
"""

from __future__ import annotations

import numpy as np

from nattrav.net.address import TransportAddress, to_sockaddr
from nattrav.net.frames import Frames
from relay.crossbar import Crossbar
from relay.flows import FlowTable
from relay.plane import Content, DropReason, FlowSettings
from relay.rtp import encode_header
from relay.steer import Steer

_PARTIES = [TransportAddress("198.51.100.1", 4000), TransportAddress("198.51.100.2", 5000)]
_STRANGERS = [TransportAddress("198.51.100.1", 4444), TransportAddress("203.0.113.9", 4000)]
_SOURCES = [to_sockaddr(address) for address in _PARTIES + _STRANGERS]
_ACCEPTED = {DropReason.NO_PEER, DropReason.ON_HOLD, DropReason.BLOCKED, DropReason.NAT_WAIT, DropReason.LOOP}
_ROOM = 64

SEEDS = [
    b"\0\0" + encode_header(0, 1, 160, 7) + b"\x80\x80" * 4 + b"|" + b"\1\1" + encode_header(0, 2, 320, 9),
    b"\0\3" + encode_header(0, 9, 0, 1) + b"|" + b"\0\0" + bytes.fromhex("80c8000600000007") + bytes(20),
]


def target(data: bytes) -> None:
    """Whatever arrives is passed on to the other party or counted with a reason, and learning stays sound."""
    table, frames = FlowTable(8), Frames(_ROOM)
    crossbar = Crossbar(table)
    steer = Steer(table, frames, crossbar)
    content = list(Content)[data[0] % 4] if data else Content.RTP
    settings = [FlowSettings(content, advertised=party, public=True) for party in _PARTIES]
    for side in (0, 1):
        slot = table.take()
        crossbar.open(slot, TransportAddress("192.0.2.10", 40000 + 2 * side), settings[side], slot, 0.0)
    for side in (0, 1):
        both = {"egress": 1 - side, "egress_rtcp": 1 - side}
        ready = FlowSettings(content, advertised=_PARTIES[side], public=True, **both)
        crossbar.set(side, ready, 0.0, relearn=False)
    arrived = 0
    now = 1.0
    for group in range(0, len(pieces := data.split(b"|")), _ROOM):
        batch = pieces[group : group + _ROOM]
        slots, lengths = [], []
        for frame, piece in enumerate(batch):
            choice, payload = piece[:2].ljust(2, b"\0"), piece[2:1500]
            slots.append(choice[0] % 2)
            lengths.append(len(payload))
            frames.put(frame, payload, _SOURCES[choice[1] % 4])
        departures = steer.steer(np.array(slots), np.arange(len(batch)), np.array(lengths, np.int32), now)
        arrived += len(batch)
        for route, frame in zip(departures.routes.tolist(), departures.frames.tolist(), strict=True):
            assert route >> 1 == slots[frame]
            assert table.egress[route] == 1 - slots[frame]
        now += 0.5
        crossbar.handle_timeout(now)
    steer.settle(now)
    counted = 0
    for side in (0, 1):
        figures = table.figures(side, crossbar.learned(side), crossbar.reported(side))
        counted += figures.packets_in
        counted += sum(count for reason, count in figures.drops.items() if reason not in _ACCEPTED)
        assert figures.rtp.received <= figures.packets_in
        if figures.learned.latched:
            assert figures.learned.source is not None
            assert not table.flags[side] & 8
    assert counted == arrived
