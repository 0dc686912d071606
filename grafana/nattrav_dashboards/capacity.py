"""Capacity: ports, packets, processors."""

from nattrav_dashboards.panels import Board, Panel, Query

BOARD = Board(
    "capacity",
    "nattrav / Capacity",
    "How much room is left: ports, packets per second, cores, memory.",
    [
        (
            "Ports",
            [
                Panel(
                    "Ports used",
                    "Per pool, resting ports included.",
                    [
                        Query(
                            '(nattrav_relay_ports_used{%s,pool=~"$pool"} + nattrav_relay_ports_quarantined{%s,pool=~"$pool"}) / nattrav_relay_ports{%s,pool=~"$pool"}',
                            "{{pool}}",
                        )
                    ],
                    "percentunit",
                    kind="bargauge",
                    maximum=1,
                    thresholds=((None, "green"), (0.85, "orange"), (0.95, "red")),
                ),
                Panel(
                    "Ports",
                    "Used and resting.",
                    [
                        Query('sum by (pool) (nattrav_relay_ports_used{%s,pool=~"$pool"})', "used {{pool}}"),
                        Query('sum by (pool) (nattrav_relay_ports_quarantined{%s,pool=~"$pool"})', "resting {{pool}}"),
                    ],
                ),
                Panel(
                    "Time until full",
                    "At the growth of the last hour, at most thirty days.",
                    [
                        Query(
                            'clamp_max((nattrav_relay_ports{%s,pool=~"$pool"} - nattrav_relay_ports_used{%s,pool=~"$pool"}) / clamp_min(deriv(nattrav_relay_ports_used{%s,pool=~"$pool"}[1h]), 0.000001), 2592000)',
                            "{{pool}}",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Allocations",
                    "By result.",
                    [
                        Query(
                            'sum by (pool, result) (rate(nattrav_relay_port_allocations_total{%s,pool=~"$pool"}[$__rate_interval]))',
                            "{{pool}} {{result}}",
                        )
                    ],
                    "ops",
                ),
            ],
        ),
        (
            "Traffic",
            [
                Panel(
                    "Packets",
                    "By data path.",
                    [
                        Query(
                            "sum by (direction, datapath) (rate(nattrav_relay_packets_total{%s}[$__rate_interval]))",
                            "{{direction}} {{datapath}}",
                        )
                    ],
                    "pps",
                ),
                Panel(
                    "Bits",
                    "UDP payload.",
                    [
                        Query(
                            "8 * sum by (direction, datapath) (rate(nattrav_relay_bytes_total{%s}[$__rate_interval]))",
                            "{{direction}} {{datapath}}",
                        )
                    ],
                    "bps",
                ),
                Panel(
                    "Packets per batch",
                    "How well system calls are shared.",
                    [
                        Query(
                            'sum(rate(nattrav_relay_packets_total{%s,direction="rx"}[$__rate_interval])) / sum(rate(nattrav_relay_recv_batches_total{%s}[$__rate_interval]))',
                            "received",
                        )
                    ],
                ),
                Panel(
                    "Time in hand",
                    "Batches of media in user space, from the receive call until they are sent.",
                    [
                        Query(
                            f"histogram_quantile({q}, sum by (le) (rate(nattrav_relay_forward_latency_seconds_bucket{{%s}}[$__rate_interval])))",
                            f"p{round(q * 100)}",
                        )
                        for q in (0.5, 0.99)
                    ],
                    "s",
                ),
                Panel(
                    "Kernel overflow",
                    "Datagrams lost for want of receive buffer.",
                    [Query("sum(rate(nattrav_relay_socket_overflow_packets_total{%s}[$__rate_interval]))", "lost")],
                    "pps",
                ),
            ],
        ),
        (
            "Processes",
            [
                Panel(
                    "CPU per worker",
                    "Cores used.",
                    [
                        Query(
                            "sum by (role, worker) (rate(nattrav_worker_cpu_seconds_total{%s}[$__rate_interval]))",
                            "{{role}} {{worker}}",
                        )
                    ],
                ),
                Panel(
                    "Memory",
                    "Resident, per service.",
                    [Query("sum by (role) (nattrav_worker_resident_memory_bytes{%s})", "{{role}}")],
                    "bytes",
                ),
                Panel(
                    "Loop lag",
                    "99th percentile of timer delay.",
                    [
                        Query(
                            "histogram_quantile(0.99, sum by (le, role) (rate(nattrav_loop_lag_seconds_bucket{%s}[$__rate_interval])))",
                            "{{role}}",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Queues",
                    "Waiting in bounded queues, and refused by full ones.",
                    [
                        Query("sum by (queue) (nattrav_queue_depth{%s})", "{{queue}} waiting"),
                        Query(
                            "sum by (queue) (rate(nattrav_queue_dropped_total{%s}[$__rate_interval]))",
                            "{{queue}} refused per second",
                        ),
                    ],
                ),
                Panel(
                    "Sessions",
                    "By state.",
                    [Query("sum by (state) (nattrav_relay_sessions{%s})", "{{state}}")],
                    stacked=True,
                ),
            ],
        ),
        (
            "Media in the kernel",
            [
                Panel(
                    "Offloaded flows",
                    "Flows whose RTP the kernel forwards now (XDP).",
                    [Query("sum(nattrav_relay_offloaded_flows{%s})", "flows")],
                ),
                Panel(
                    "Share of packets by datapath",
                    "Received packets, by who forwards them.",
                    [
                        Query(
                            'sum by (datapath) (rate(nattrav_relay_packets_total{%s,direction="rx"}[$__rate_interval])) / ignoring (datapath) group_left () sum(rate(nattrav_relay_packets_total{%s,direction="rx"}[$__rate_interval]))',
                            "{{datapath}}",
                        )
                    ],
                    "percentunit",
                    maximum=1,
                ),
                Panel(
                    "Offload events",
                    "Flows moved into and out of the kernel, taken over after a restart, and without room there.",
                    [
                        Query(
                            "sum by (event) (rate(nattrav_relay_offload_events_total{%s}[$__rate_interval]))",
                            "{{event}}",
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Left to the sockets",
                    "Packets of offloaded flows that the kernel did not forward, by reason.",
                    [
                        Query(
                            "sum by (reason) (rate(nattrav_relay_offload_left_packets_total{%s}[$__rate_interval]))",
                            "{{reason}}",
                        )
                    ],
                    "pps",
                ),
            ],
        ),
    ],
    pools=True,
)
