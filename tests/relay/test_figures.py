"""Counters of two spans together: counts are added, states are the later one's."""

from __future__ import annotations

from relay.figures import add_figures
from relay.plane import DropReason, FlowFigures, KernelMark, ReportFigures

MARK = KernelMark(1, 2, 3, 4, 5, 6, 7, 8)


def test_counts_are_added_and_states_are_the_later_ones() -> None:
    report = ReportFigures(0.25, 3, 0.001, 0.08, 5.0)
    earlier = FlowFigures(packets_in=3, first_in=1.0, last_in=2.0, drops={DropReason.BLOCKED: 1})
    later = FlowFigures(
        packets_in=4, first_in=3.0, last_in=4.0, drops={DropReason.BLOCKED: 2}, reported=report, mark=MARK
    )
    total = add_figures(earlier, later)
    assert (total.packets_in, total.first_in, total.last_in) == (7, 1.0, 4.0)
    assert total.drops == {DropReason.BLOCKED: 3}
    assert total.reported == report
    assert total.offloaded
    assert total.mark == MARK
