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
    rb"(.{0,400}?)5:flagsl(.{0,200}?)e5:statsd7:packetsi(\d+)e5:bytesi(\d+)e",
    re.DOTALL,
)
_STREAM_SOURCE = re.compile(rb"4:SSRCi(\d+)e")
_PARTY = b"d3:tag"
_NO_SOURCES = b"4:SSRCde"
_SOURCE = re.compile(
    rb":(\d{1,10})d5:bytesi\d+e7:packetsi(\d+)e((?:\d+:[A-Za-z ]+i-?\d+e)*)"
    rb"(?:11:average MOSd((?:\d+:[A-Za-z -]+i-?\d+e)+)e)?"
)
_LOST = re.compile(rb"15:cumulative lossi(\d+)e")
_MOS = re.compile(rb"3:MOSi(\d+)e")
_JITTER = re.compile(rb"6:jitteri(\d+)e")


def media_facts(reply: object, caller_tag: str) -> dict[str, Any] | None:
    """Give what was received in all and from each side, None without any.

    Each leg has where we sent to, the side (`from`), what came from there, and where the relay measured them its
    `loss` (ratio), `jitter` (seconds) and `mos`. `verdict` says who heard the other: both, caller_deaf, callee_deaf,
    none.
    """
    if not isinstance(reply, dict) or UNREAD not in reply:
        return None
    payload: bytes = reply[UNREAD]
    totals = _TOTALS.search(payload)
    if totals is None:
        return None
    parties = _parties(payload)
    sources = {} if _NO_SOURCES in payload else _sources(payload)
    legs = []
    for stream in _STREAM.finditer(payload):
        address, port, between, flags, packets, octets = stream.groups()
        if b"4:RTCP" in flags:
            continue
        leg: dict[str, Any] = {"sent_to": f"{address.decode()}:{int(port)}"}
        tag = next((tag for at, tag in reversed(parties) if at < stream.start()), None)
        if tag is not None:
            leg["from"] = "caller" if tag == caller_tag else "callee"
        leg |= {"packets": int(packets), "bytes": int(octets)}
        source = _STREAM_SOURCE.search(between) if sources else None
        if source is not None:
            leg |= sources.get(source[1], {})
        legs.append(leg)
    facts = {"packets": _number(_PACKETS, totals[1]), "bytes": _number(_BYTES, totals[1]), "legs": legs}
    sides = {leg.get("from") for leg in legs}
    if {"caller", "callee"} <= sides:
        facts["verdict"] = _verdict(legs)
    return facts


def _verdict(legs: list[dict[str, Any]]) -> str:
    spoke = {leg["from"] for leg in legs if leg["packets"]}
    if len(spoke) == 2:
        return "both"
    if not spoke:
        return "none"
    return "callee_deaf" if "callee" in spoke else "caller_deaf"


def _parties(payload: bytes) -> list[tuple[int, str]]:
    """Where each party's dictionary begins, and its tag; those of subscriptions have no key before them."""
    found = []
    at = payload.find(_PARTY)
    while at >= 0:
        length, _, rest = payload[at + len(_PARTY) : at + 300].partition(b":")
        tag = rest[: int(length)] if length.isdigit() else b""
        if tag and payload.endswith(b":" + tag, 0, at):
            found.append((at, tag.decode("latin-1")))
        at = payload.find(_PARTY, at + 1)
    return found


def _sources(payload: bytes) -> dict[bytes, dict[str, Any]]:
    """Measured quality by synchronization source."""
    found: dict[bytes, dict[str, Any]] = {}
    begin = payload.find(b"4:SSRCd")
    end = payload.find(b"4:tagsd", begin)
    for ssrc, packets, numbers, average in _SOURCE.findall(payload, begin, len(payload) if end < 0 else end):
        facts: dict[str, Any] = {}
        lost = _LOST.search(numbers)
        if lost is not None:
            expected = int(packets) + int(lost[1])
            facts["loss"] = round(int(lost[1]) / expected, 4) if expected else 0.0
        if average:
            facts["jitter"] = _number(_JITTER, average) / 1000
            facts["mos"] = _number(_MOS, average) / 10
        found[ssrc] = facts
    return found


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    found = pattern.search(text)
    return int(found[1]) if found is not None else 0
