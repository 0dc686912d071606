from __future__ import annotations

import pytest

from nattrav.cli.status import duration, media_path, stun_path


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.9, "8s"), (723, "12m 3s"), (7500, "2h 5m"), (273_600, "3d 4h"), (0, "0s")]
)
def test_durations_read_like_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


RELAY = {
    "backend": "io_uring",
    "backend_reason": "this kernel allows it",
    "transmit": "socket",
    "transmit_reason": "asked for",
    "offload": {"state": "off", "why": ""},
}


@pytest.mark.parametrize(
    ("offload", "words"),
    [
        ({"state": "off", "why": ""}, "media by io_uring (this kernel allows it)"),
        (
            {"state": "unavailable", "why": "no libbpf"},
            "media by io_uring (this kernel allows it); not by XDP: no libbpf",
        ),
        (
            {"state": "xdp", "why": "eth0 native", "flows": 12},
            "media by io_uring (this kernel allows it); 12 flows by XDP (eth0 native)",
        ),
    ],
)
def test_the_way_of_media_is_told_in_one_line(offload: dict[str, object], words: str) -> None:
    assert media_path({**RELAY, "offload": offload}) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transmit": "frame", "framed": 7}, "; 7 flows leave as frames"),
        (
            {"transmit_reason": "sending frames needs CAP_NET_RAW"},
            "; none leaves as frames: sending frames needs CAP_NET_RAW",
        ),
    ],
)
def test_status_says_how_media_leaves_where_frames_were_asked_for(changes: dict[str, object], words: str) -> None:
    assert media_path({**RELAY, **changes}) == "media by io_uring (this kernel allows it)" + words


def test_stun_of_the_kernel_is_told_in_one_line() -> None:
    told = stun_path({"state": "xdp", "why": "eth0 native", "answered": 12})
    assert told == "STUN by XDP (eth0 native), 12 answers"
    refused = stun_path({"state": "unavailable", "why": "no libbpf", "answered": 0})
    assert refused == "STUN by user space; not by XDP: no libbpf"
