"""What a relay's reply to `delete` says of a call's media, for its record.

The reply is several kilobytes of statistics, asked for at the end of every call. It is not decoded: the few numbers a
record holds are found by their keys, which costs a tenth. Bencode's keys are unambiguous where they stand.
"""

from __future__ import annotations

import re
from typing import Any

from nattrav.control.ng.client import UNREAD

_TOTALS = re.compile(rb"6:totalsd.*?3:RTPd(.*?)e(?:4:RTCPd|e)", re.DOTALL)
_PACKETS = re.compile(rb"7:packetsi(\d+)e")
_BYTES = re.compile(rb"5:bytesi(\d+)e")
_STREAM = re.compile(
    rb"8:endpointd6:family4:IPv[46]7:address\d+:([0-9a-fA-F.:]+?)4:porti(\d+)ee"
    rb".{0,400}?5:flagsl(.{0,200}?)e5:statsd7:packetsi(\d+)e5:bytesi(\d+)e",
    re.DOTALL,
)


def media_facts(reply: object) -> dict[str, Any] | None:
    """Give packets and octets received in all, and per RTP leg where we sent to and what came; None without any."""
    if not isinstance(reply, dict) or UNREAD not in reply:
        return None
    payload: bytes = reply[UNREAD]
    totals = _TOTALS.search(payload)
    if totals is None:
        return None
    legs = [
        {"sent_to": f"{address.decode()}:{int(port)}", "packets": int(packets), "bytes": int(octets)}
        for address, port, flags, packets, octets in _STREAM.findall(payload)
        if b"4:RTCP" not in flags
    ]
    return {"packets": _number(_PACKETS, totals[1]), "bytes": _number(_BYTES, totals[1]), "legs": legs}


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    found = pattern.search(text)
    return int(found[1]) if found is not None else 0
