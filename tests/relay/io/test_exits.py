"""How packets of settled flows leave: what is asked for, and what is done where that is not possible."""

from __future__ import annotations

import pytest

from nattrav.net import packets
from relay.io.exits import choose_transmit
from relay.io.framing import Framing
from relay.io.pump import open_plane
from relay.io.twins import Twins


def test_without_the_right_to_send_frames_packets_leave_by_sockets_and_it_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packets, "refusal", lambda: "sending frames needs CAP_NET_RAW")
    plane = open_plane(1, transmit="frame", twins=4)
    assert (plane.transmit, plane.transmit_reason) == ("socket", "sending frames needs CAP_NET_RAW")
    plane.start()
    try:
        assert isinstance(plane._shards[0].exits, Twins)
        assert plane.framed() == 0
    finally:
        plane.stop()


def test_sockets_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "refusal", lambda: None)
    assert choose_transmit("socket") == ("socket", "asked for")
    assert open_plane(1).transmit == "socket"
    assert choose_transmit("frame") == ("frame", "asked for")


def test_frames_take_the_place_of_twins(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "refusal", lambda: None)
    plane = open_plane(2, backend, transmit="frame", twins=1000)
    plane.start()
    try:
        assert all(isinstance(shard.exits, Framing) for shard in plane._shards)
    finally:
        plane.stop()


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="socket, frame"):
        open_plane(1, transmit="wire")
