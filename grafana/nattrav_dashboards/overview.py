"""Overview: what the engine room looks at first."""

from nattrav_dashboards.panels import Board, Panel, Query

RED_BELOW_ONE = ((None, "red"), (1, "green"))
RED_ABOVE_ZERO = ((None, "green"), (1, "orange"), (5, "red"))
PORTS = ((None, "green"), (0.85, "orange"), (0.95, "red"))

BOARD = Board(
    "overview",
    "nattrav / Overview",
    "Is it up, how many calls, can people hear each other, is there room.",
    [
        (
            "Now",
            [
                Panel(
                    "Up", "Scrape targets that answer.", [Query("sum(up{%s})")], kind="stat", thresholds=RED_BELOW_ONE
                ),
                Panel(
                    "Ready",
                    "Instances that take new calls.",
                    [Query("sum(nattrav_ready{%s})")],
                    kind="stat",
                    thresholds=RED_BELOW_ONE,
                ),
                Panel("Calls", "Early and confirmed calls.", [Query("sum(nattrav_sip_calls{%s})")], kind="stat"),
                Panel("Registrations", "Bindings now.", [Query("sum(nattrav_sip_registrations{%s})")], kind="stat"),
                Panel(
                    "One-way calls",
                    "Answered sessions with media in one direction only.",
                    [Query("sum(nattrav_relay_sessions_one_way{%s})")],
                    kind="stat",
                    thresholds=RED_ABOVE_ZERO,
                ),
                Panel(
                    "Ports in use",
                    "Share of relay ports used or resting, worst pool.",
                    [
                        Query(
                            "max((nattrav_relay_ports_used{%s} + nattrav_relay_ports_quarantined{%s}) / nattrav_relay_ports{%s})"
                        )
                    ],
                    "percentunit",
                    kind="stat",
                    thresholds=PORTS,
                ),
            ],
        ),
        (
            "Calls",
            [
                Panel(
                    "Calls by state",
                    "Early: ringing. Confirmed: answered.",
                    [Query("sum by (state) (nattrav_sip_calls{%s})", "{{state}}")],
                    stacked=True,
                ),
                Panel(
                    "Call attempts",
                    "New INVITEs per second by upstream.",
                    [
                        Query(
                            "sum by (upstream) (rate(nattrav_sip_call_attempts_total{%s}[$__rate_interval]))",
                            "{{upstream}}",
                        )
                    ],
                    "cps",
                ),
                Panel(
                    "Answered and effective",
                    "Shares of the last half hour's attempts (RFC 6076): answered; answered, busy or declined.",
                    [
                        Query(
                            f'sum(rate(nattrav_sip_call_results_total{{%s,code=~"{codes}"}}[30m])) / sum(rate(nattrav_sip_call_results_total{{%s,code!~"3..|401|402|407"}}[30m]))',
                            name,
                        )
                        for name, codes in (("answered", "2.."), ("effective", "2..|480|486|600|603"))
                    ],
                    "percentunit",
                    maximum=1,
                ),
                Panel(
                    "Results",
                    "Final outcome of attempts by status code.",
                    [Query("sum by (code) (rate(nattrav_sip_call_results_total{%s}[$__rate_interval]))", "{{code}}")],
                    "cps",
                    stacked=True,
                ),
            ],
        ),
        (
            "Media",
            [
                Panel(
                    "Packets relayed",
                    "RTP and RTCP datagrams per second by data path.",
                    [
                        Query(
                            "sum by (direction, datapath) (rate(nattrav_relay_packets_total{%s}[$__rate_interval]))",
                            "{{direction}} {{datapath}}",
                        )
                    ],
                    "pps",
                ),
                Panel(
                    "Bits relayed",
                    "UDP payload per second.",
                    [
                        Query(
                            "8 * sum by (direction) (rate(nattrav_relay_bytes_total{%s}[$__rate_interval]))",
                            "{{direction}}",
                        )
                    ],
                    "bps",
                ),
                Panel(
                    "MOS, worst tenth",
                    "A tenth of the streams is below this estimate (G.107).",
                    [
                        Query(
                            "histogram_quantile(0.1, sum by (le) (rate(nattrav_relay_stream_mos_bucket{%s}[$__rate_interval])))",
                            "p10",
                        )
                    ],
                    maximum=5,
                ),
                Panel(
                    "Drops",
                    "Media datagrams not passed on, by reason.",
                    [
                        Query(
                            "sum by (reason) (rate(nattrav_relay_dropped_packets_total{%s}[$__rate_interval])) > 0",
                            "{{reason}}",
                        )
                    ],
                    "pps",
                    stacked=True,
                ),
            ],
        ),
        (
            "Health",
            [
                Panel(
                    "Alerts firing",
                    "Alerts of nattrav that fire now.",
                    [
                        Query(
                            'sum by (alertname, severity) (ALERTS{alertname=~"Nattrav.*",alertstate="firing"}) or vector(0)',
                            "{{alertname}}",
                        )
                    ],
                    kind="table",
                ),
                Panel(
                    "Services",
                    "1 while the service answers.",
                    [Query("min by (role) (nattrav_worker_up{%s})", "{{role}}")],
                    maximum=1,
                ),
                Panel(
                    "CPU by service",
                    "Cores used.",
                    [Query("sum by (role) (rate(nattrav_worker_cpu_seconds_total{%s}[$__rate_interval]))", "{{role}}")],
                    "short",
                    stacked=True,
                ),
            ],
        ),
    ],
)
