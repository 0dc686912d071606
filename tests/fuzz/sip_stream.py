from __future__ import annotations

from nattrav.sip.framer import PING, StreamFramer
from nattrav.sip.transport.keepalive import kind_of


def target(data: bytes) -> None:
    """A stream gives the same frames and the same fault however it is cut, and never buffers more than its limit."""
    kind_of(data)
    whole = StreamFramer(limit=4096)
    frames = whole.feed(data)
    cut = StreamFramer(limit=4096)
    size = 1 + len(data) % 7
    pieces: list[bytes] = []
    for start in range(0, len(data), size):
        pieces += cut.feed(data[start : start + size])
    assert pieces == frames
    assert (cut.fault is None) == (whole.fault is None)
    assert cut.partial == whole.partial
    assert all(frame == PING or len(frame) <= 4096 for frame in frames)
