"""Copies the relay's counters into metrics when somebody asks, and watches its load."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nattrav.daemon.relay_kernel import XDP, KernelPath
from nattrav.metrics.samples import Export, Samples
from relay.diagnosis import Cause
from relay.effects import CloseReason
from relay.engine import Engine
from relay.io.pump import DataPlane
from relay.legs import Condition
from relay.plane import DropReason, FlowEventKind
from relay.quality import StreamQuality

DATAPATH = "userspace"
_MEDIA = ("audio", "video", "image")
_EVENTS = {
    FlowEventKind.LEARNED: "learned",
    FlowEventKind.LATCHED: "learned",
    FlowEventKind.RELEARNED: "relearned",
    FlowEventKind.REJECTED: "rejected",
}


_RTCP_TYPES = {"sr": 200, "rr": 201, "sdes": 202, "bye": 203, "app": 204, "rtpfb": 205, "psfb": 206, "xr": 207}


@dataclass(slots=True)
class _Reading:
    at: float
    packets: int
    bytes: int


class RelayMetrics:
    """Maps engine and data plane to the names of the registry."""

    def __init__(self, engine: Engine, plane: DataPlane, samples: Samples, kernel_path: KernelPath) -> None:
        self._engine = engine
        self._plane = plane
        self._kernel_path = kernel_path
        self._samples = samples
        self._last: _Reading | None = None
        for reason in CloseReason:
            samples.set("nattrav_relay_sessions_closed_total", 0, reason.value)
        samples.set("nattrav_control_cookie_hits_total", 0)
        for drop in DropReason:
            samples.set("nattrav_relay_dropped_packets_total", 0, drop.value)
        self.follow()

    def follow(self) -> None:
        """The engine has other pools: begin to count for those that are new."""
        for pool in self._engine.interfaces.pools:
            for figure in ("expected", "lost", "reordered", "duplicate"):
                self._samples.inc(f"nattrav_relay_rtp_{figure}_packets_total", pool.name, by=0)

    def note_load(self, now: float) -> None:
        """Tell the limits how many packets and bytes per second come in."""
        sums = self._engine.sums()
        if self._last is not None and now > self._last.at:
            span = now - self._last.at
            self._engine.limits.note_load(
                (sums.packets_in - self._last.packets) / span, (sums.bytes_in - self._last.bytes) / span
            )
        self._last = _Reading(now, sums.packets_in, sums.bytes_in)

    def note_quality(self, qualities: list[StreamQuality]) -> None:
        """Count streams' last intervals into the histograms."""
        for quality in qualities:
            if quality.mos is not None:
                self._samples.observe("nattrav_relay_stream_mos", quality.mos)
            self._samples.observe("nattrav_relay_stream_jitter_seconds", quality.jitter)
            self._samples.observe("nattrav_relay_stream_loss_ratio", quality.loss)
            if quality.round_trip:
                self._samples.observe("nattrav_relay_rtt_seconds", quality.round_trip)

    def collect(self, now: float) -> None:
        """Bring every relay metric up to date."""
        samples = self._samples
        engine = self._engine
        statistics = engine.statistics(now)
        samples.set("nattrav_relay_sessions", statistics.offered, "offered")
        samples.set("nattrav_relay_sessions", statistics.answered, "answered")
        samples.set("nattrav_relay_sessions", 0, "foreign")
        samples.set("nattrav_relay_sessions_opened_total", statistics.opened)
        for reason, count in statistics.closed.items():
            samples.set("nattrav_relay_sessions_closed_total", count, reason.value)
        samples.set("nattrav_relay_sessions_closed_total", statistics.rejected, CloseReason.REJECTED.value)
        samples.set("nattrav_relay_sessions_closed_one_way_total", statistics.closed_one_way)
        samples.set("nattrav_relay_sessions_closed_no_media_total", statistics.closed_no_media)
        findings = engine.survey.findings(engine.sessions)
        samples.set("nattrav_relay_sessions_one_way", findings.conditions.get(Condition.ONE_WAY, 0))
        samples.set("nattrav_relay_sessions_no_media", findings.conditions.get(Condition.NO_MEDIA, 0))
        for cause in Cause:
            samples.set("nattrav_relay_silent_directions", findings.causes.get(cause, 0), cause.value)
        self._pools()
        self._traffic()
        self._streams()

    def note_events(self, waiting: int, lost: int) -> None:
        """Tell how many events wait for those who listen to them, and how many were lost to slow ones."""
        self._samples.set("nattrav_queue_depth", waiting, "relay_events")
        self._samples.set("nattrav_queue_dropped_total", lost, "relay_events")

    def export(self) -> Export:
        """Everything this process counts, as the `metrics` verb gives it."""
        return self._samples.export()

    def _pools(self) -> None:
        samples = self._samples
        by_name: dict[str, Counter[str]] = {}
        for pool in self._engine.interfaces.pools:
            counts = by_name.setdefault(pool.name, Counter())
            counts["total"] += pool.total
            counts["used"] += pool.used
            counts["quarantined"] += pool.quarantined
            counts["ok"] += pool.allocated
            counts["exhausted"] += pool.exhausted
            counts["bind_error"] += pool.bind_errors
        for name, counts in by_name.items():
            samples.set("nattrav_relay_ports", counts["total"], name)
            samples.set("nattrav_relay_ports_used", counts["used"], name)
            samples.set("nattrav_relay_ports_quarantined", counts["quarantined"], name)
            for result in ("ok", "exhausted", "bind_error"):
                samples.set("nattrav_relay_port_allocations_total", counts[result], name, result)

    def _traffic(self) -> None:
        samples = self._samples
        sums = self._engine.sums()
        # Every packet that the kernel took it has sent, so these two are as large either way.
        packets, octets = self._kernel_path.collect(samples)
        self._raise("nattrav_relay_packets_total", sums.packets_in - packets, "rx", DATAPATH)
        self._raise("nattrav_relay_packets_total", sums.packets_out - packets, "tx", DATAPATH)
        self._raise("nattrav_relay_bytes_total", sums.bytes_in - octets, "rx", DATAPATH)
        self._raise("nattrav_relay_bytes_total", sums.bytes_out - octets, "tx", DATAPATH)
        for direction in ("rx", "tx"):
            self._raise("nattrav_relay_packets_total", packets, direction, XDP)
            self._raise("nattrav_relay_bytes_total", octets, direction, XDP)
        for reason, count in sums.drops.items():
            self._raise("nattrav_relay_dropped_packets_total", count, reason.value)
        for pool, rtp in self._engine.streams.rtp_by_pool().items():
            self._raise("nattrav_relay_rtp_expected_packets_total", rtp.expected, pool)
            self._raise("nattrav_relay_rtp_lost_packets_total", rtp.lost, pool)
            self._raise("nattrav_relay_rtp_reordered_packets_total", rtp.reordered, pool)
            self._raise("nattrav_relay_rtp_duplicate_packets_total", rtp.duplicates, pool)
        batches, _, _ = self._plane.totals()
        samples.set("nattrav_relay_recv_batches_total", batches)
        activity = self._plane.activity()
        samples.set("nattrav_relay_send_batches_total", activity.departed)
        samples.set("nattrav_relay_receive_starved_total", activity.exhausted)
        samples.set("nattrav_relay_receive_rearmed_total", activity.rearmed)
        samples.set_buckets(
            "nattrav_relay_forward_latency_seconds", [float(n) for n in activity.handling], activity.handled
        )
        for direction, counts in zip(("rx", "tx"), activity.rtcp, strict=True):
            known = 0
            for word, number in _RTCP_TYPES.items():
                samples.set("nattrav_relay_rtcp_packets_total", int(counts[number]), direction, word)
                known += int(counts[number])
            samples.set("nattrav_relay_rtcp_packets_total", int(counts.sum()) - known, direction, "other")
        samples.set("nattrav_relay_socket_overflow_packets_total", self._plane.overflows())
        events: Counter[str] = Counter()
        for kind, count in self._engine.streams.events_seen.items():
            events[_EVENTS[kind]] += count
        for event in ("learned", "relearned", "rejected"):
            samples.set("nattrav_relay_latch_events_total", events[event], event)
        samples.set("nattrav_relay_datapath_available", 1, DATAPATH)
        samples.set("nattrav_relay_framed_flows", self._plane.framed())

    def _raise(self, name: str, value: float, *labels: str) -> None:
        # A flow that is just being closed may be seen twice; a counter that went back would look like a restart.
        self._samples.set(name, max(value, self._samples.value(name, *labels)), *labels)

    def _streams(self) -> None:
        counts: dict[str, Counter[str]] = {DATAPATH: Counter(), XDP: Counter()}
        carried = self._plane.offloaded_flows()
        for session in self._engine.sessions.values():
            by_kernel = {
                leg.index
                for leg in session.legs()
                if carried and leg.ports is not None and leg.ports.rtp.flow in carried
            }
            for index in range(max(len(party.legs) for party in session.parties)):
                media = session.media(index)
                counts[XDP if index in by_kernel else DATAPATH][media if media in _MEDIA else "other"] += 1
        for datapath, found in counts.items():
            for name in (*_MEDIA, "other"):
                self._samples.set("nattrav_relay_streams", found[name], datapath, name)
