"""Adding up flow counters: over a restart, over the flows of a leg, over a session's life."""

from __future__ import annotations

from relay.plane import DropReason, FlowFigures, RtpFigures


def add_drops(first: dict[DropReason, int], second: dict[DropReason, int]) -> dict[DropReason, int]:
    """Sum drops by reason."""
    if not first:
        return second
    return {reason: first.get(reason, 0) + second.get(reason, 0) for reason in first | second}


def add_figures(earlier: FlowFigures, later: FlowFigures) -> FlowFigures:
    """Sum two spans of one flow; what is a state rather than a count is taken from the later one."""
    return FlowFigures(
        packets_in=earlier.packets_in + later.packets_in,
        bytes_in=earlier.bytes_in + later.bytes_in,
        packets_out=earlier.packets_out + later.packets_out,
        bytes_out=earlier.bytes_out + later.bytes_out,
        rtcp_in=earlier.rtcp_in + later.rtcp_in,
        first_in=earlier.first_in or later.first_in,
        last_in=max(earlier.last_in, later.last_in),
        last_accepted=max(earlier.last_accepted, later.last_accepted),
        drops=add_drops(earlier.drops, later.drops),
        learned=later.learned,
        rtp=add_rtp(earlier.rtp, later.rtp),
        reported=later.reported,
        mark=later.mark,
    )


def add_rtp(earlier: RtpFigures, later: RtpFigures) -> RtpFigures:
    """Sum two spans of one received RTP stream."""
    if not later.received:
        return earlier
    return RtpFigures(
        ssrc=later.ssrc,
        payload_type=later.payload_type,
        expected=earlier.expected + later.expected,
        received=earlier.received + later.received,
        lost=earlier.lost + later.lost,
        reordered=earlier.reordered + later.reordered,
        duplicates=earlier.duplicates + later.duplicates,
        jitter=later.jitter,
        highest_sequence=later.highest_sequence,
        timestamp=later.timestamp,
    )
