from __future__ import annotations

import pytest

from nattrav.cli.status import duration, media_path, stun_path


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.9, "8s"), (723, "12m 3s"), (7500, "2h 5m"), (273_600, "3d 4h"), (0, "0s")]
)
def test_durations_read_like_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


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
    relay = {"backend": "io_uring", "backend_reason": "this kernel allows it", "offload": offload}
    assert media_path(relay) == words


def test_stun_of_the_kernel_is_told_in_one_line() -> None:
    told = stun_path({"state": "xdp", "why": "eth0 native", "answered": 12})
    assert told == "STUN by XDP (eth0 native), 12 answers"
    refused = stun_path({"state": "unavailable", "why": "no libbpf", "answered": 0})
    assert refused == "STUN by user space; not by XDP: no libbpf"
