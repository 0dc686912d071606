"""Place a call between two user agents and keep what everybody heard and what was on the wire."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.natlab.baresip import Baresip
from tests.natlab.capture import Address, Capture, Packet, Seen
from tests.tones import RATE, Heard, examine, from_mu_law, verdict

TALK_SECONDS = 2.6


@dataclass(frozen=True)
class CallRecord:
    """One finished call. Messages and packets are as they crossed the public Internet."""

    verdict: str
    caller: Heard
    callee: Heard
    seen: list[Seen]
    packets: list[Packet]

    def first(
        self, what: str | int, method: str = "INVITE", *, source: str | None = None, to: str | None = None
    ) -> Seen:
        """The first request of that method or response of that status between two addresses."""
        for one in self.seen:
            matches = one.message.is_request(what) if isinstance(what, str) else one.message.is_response(what, method)
            if matches and source in (None, one.packet.source[0]) and to in (None, one.packet.destination[0]):
                return one
        raise AssertionError(f"no {what} {method} from {source or 'anywhere'} to {to or 'anywhere'} in:\n{self.ladder}")

    def all(self, *, source: str | None = None, to: str | None = None) -> list[Seen]:
        return [
            one
            for one in self.seen
            if source in (None, one.packet.source[0]) and to in (None, one.packet.destination[0])
        ]

    def rtp_flows(self) -> Counter[tuple[Address, Address]]:
        """Packets per (source, destination)."""
        return Counter((packet.source, packet.destination) for packet in self.packets if packet.is_rtp)

    @property
    def ladder(self) -> str:
        return "\n".join(map(str, self.seen))


def heard_on_wire(packets: Iterable[Packet], *, far: float, own: float) -> Heard:
    """Examine the G.711 µ-law in RTP packets, in order of arrival: what came, whatever a program made of it."""
    payloads = [packet.payload for packet in packets if packet.is_rtp and packet.payload[1] & 0x7F == 0]
    bodies = [payload[12 + 4 * (payload[0] & 15) :] for payload in payloads]
    return examine(from_mu_law(b"".join(bodies)).astype(float), RATE, far=far, own=own)


def place(
    caller: Baresip,
    callee: Baresip,
    target: str,
    capture: Capture,
    *,
    seconds: float = TALK_SECONDS,
    callee_hangs_up: bool = False,
) -> CallRecord:
    """Dial, talk, hang up; the callee answers by itself. Raises LaboratoryFault when no call comes about."""
    mark, begin = capture.mark(), time.monotonic()
    caller.dial(target)
    caller.wait_established(since=begin)
    callee.wait_established(since=begin)
    time.sleep(seconds)
    return finish(caller, callee, capture, mark, begin, seconds=seconds, callee_hangs_up=callee_hangs_up)


def finish(
    caller: Baresip,
    callee: Baresip,
    capture: Capture,
    mark: int,
    begin: float,
    *,
    seconds: float,
    callee_hangs_up: bool = False,
) -> CallRecord:
    """End a call that began at `begin` (monotonic) and sum it up; `mark` is the capture's place at that time."""
    (callee if callee_hangs_up else caller).hang_up()
    for side in (caller, callee):
        if side is not (callee if callee_hangs_up else caller):
            side.wait("CALL_CLOSED", since=begin)
    time.sleep(0.3)
    by_caller, by_callee = caller.heard(callee.frequency), callee.heard(caller.frequency)
    return CallRecord(
        verdict(by_caller, by_callee, expected_seconds=seconds),
        by_caller,
        by_callee,
        capture.sip(mark),
        capture.packets(mark),
    )
