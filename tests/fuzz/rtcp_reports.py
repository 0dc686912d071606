"""RTCP: any octets give reports that encode back to themselves, or MalformedMessage and nothing else."""

from __future__ import annotations

from relay.rtcp import Report, ReportBlock, consistent, encode, reports
from relay.rtp import MalformedMessage

_BLOCK = ReportBlock(7, 64, -3, 100, 160, 0x12345678, 65536)
SEEDS = [
    encode(Report(7, None, 0, 0, ())),
    encode(Report(7, 0x123456789ABCDEF0, 50, 8000, (_BLOCK,))) + bytes.fromhex("81ca0003000000070102616200000000"),
    encode(Report(9, None, 0, 0, (_BLOCK, _BLOCK))) + bytes.fromhex("81cb000100000009"),
]


def target(data: bytes) -> None:
    """Any octets give reports that encode back to themselves, or MalformedMessage and nothing else."""
    consistent(data, secured=True)
    sound = consistent(data)
    try:
        found = reports(data)
    except MalformedMessage:
        return
    assert not sound or data[0] >> 6 == 2
    for report in found:
        assert reports(encode(report)) == [report]
