"""Media quality: what people hear."""

from nattrav_dashboards.panels import Board, Panel, Query

BOARD = Board(
    "media",
    "nattrav / Media quality",
    "Loss, jitter and estimated MOS of the streams, one-way audio, latching.",
    [
        (
            "Distribution",
            [
                Panel(
                    "MOS",
                    "Estimate per stream and ten seconds (G.107).",
                    [Query("sum by (le) (increase(nattrav_relay_stream_mos_bucket{%s}[$__rate_interval]))", "{{le}}")],
                    kind="heatmap",
                ),
                Panel(
                    "Jitter",
                    "Interarrival jitter per stream and ten seconds.",
                    [
                        Query(
                            "sum by (le) (increase(nattrav_relay_stream_jitter_seconds_bucket{%s}[$__rate_interval]))",
                            "{{le}}",
                        )
                    ],
                    "s",
                    kind="heatmap",
                ),
                Panel(
                    "Loss",
                    "Loss per stream and ten seconds.",
                    [
                        Query(
                            "sum by (le) (increase(nattrav_relay_stream_loss_ratio_bucket{%s}[$__rate_interval]))",
                            "{{le}}",
                        )
                    ],
                    "percentunit",
                    kind="heatmap",
                ),
            ],
        ),
        (
            "Trouble",
            [
                Panel(
                    "One-way and silent calls",
                    "Answered sessions now, ten seconds' grace, hold excluded.",
                    [
                        Query("sum(nattrav_relay_sessions_one_way{%s})", "one way"),
                        Query("sum(nattrav_relay_sessions_no_media{%s})", "no media"),
                    ],
                ),
                Panel(
                    "Why a direction is silent",
                    "Directions of those sessions without media, by what the relay sees of them.",
                    [Query("sum by (reason) (nattrav_relay_silent_directions{%s})", "{{reason}}")],
                ),
                Panel(
                    "Closed in that state",
                    "Sessions that ended one-way or silent.",
                    [
                        Query(
                            "sum(rate(nattrav_relay_sessions_closed_one_way_total{%s}[$__rate_interval]))", "one way"
                        ),
                        Query(
                            "sum(rate(nattrav_relay_sessions_closed_no_media_total{%s}[$__rate_interval]))", "no media"
                        ),
                    ],
                    "ops",
                ),
                Panel(
                    "Poor streams",
                    "Share of stream intervals with MOS up to 3.5.",
                    [
                        Query(
                            'sum(rate(nattrav_relay_stream_mos_bucket{%s,le="3.5"}[$__rate_interval])) / sum(rate(nattrav_relay_stream_mos_count{%s}[$__rate_interval]))',
                            "MOS ≤ 3.5",
                        )
                    ],
                    "percentunit",
                    maximum=1,
                ),
                Panel(
                    "Round trip",
                    "From RTCP.",
                    [
                        Query(
                            "histogram_quantile(0.9, sum by (le) (rate(nattrav_relay_rtt_seconds_bucket{%s}[$__rate_interval])))",
                            "p90",
                        )
                    ],
                    "s",
                ),
            ],
        ),
        (
            "Sequence numbers and latching",
            [
                Panel(
                    "Lost",
                    "Packets missing by sequence number.",
                    [
                        Query(
                            'sum(rate(nattrav_relay_rtp_lost_packets_total{%s,pool=~"$pool"}[$__rate_interval])) / sum(rate(nattrav_relay_rtp_expected_packets_total{%s,pool=~"$pool"}[$__rate_interval]))',
                            "lost",
                        )
                    ],
                    "percentunit",
                ),
                Panel(
                    "Late and double",
                    "Reordered and duplicate packets.",
                    [
                        Query(
                            'sum(rate(nattrav_relay_rtp_reordered_packets_total{%s,pool=~"$pool"}[$__rate_interval]))',
                            "reordered",
                        ),
                        Query(
                            'sum(rate(nattrav_relay_rtp_duplicate_packets_total{%s,pool=~"$pool"}[$__rate_interval]))',
                            "duplicate",
                        ),
                    ],
                    "pps",
                ),
                Panel(
                    "Latch events",
                    "What learning did.",
                    [
                        Query(
                            "sum by (event) (rate(nattrav_relay_latch_events_total{%s}[$__rate_interval]))", "{{event}}"
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Refused sources",
                    "Packets from another source than the learned one.",
                    [
                        Query(
                            'sum(rate(nattrav_relay_dropped_packets_total{%s,reason="source_mismatch"}[$__rate_interval]))',
                            "source mismatch",
                        )
                    ],
                    "pps",
                ),
            ],
        ),
    ],
    pools=True,
)
