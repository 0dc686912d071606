"""SIP: attempts, answers, delays, upstreams."""

from nattrav_dashboards.panels import Board, Panel, Query

ATTEMPTS = 'nattrav_sip_call_results_total{%s,upstream=~"$upstream",code!~"3..|401|402|407"}'
RESULTS = 'nattrav_sip_call_results_total{%s,upstream=~"$upstream",code=~"{codes}"}'
ENDED = 'nattrav_sip_calls_ended_total{%s,upstream=~"$upstream",cause="bye"}'


def _ratio(title: str, description: str, counter: str) -> Panel:
    """A ratio of RFC 6076 over half an hour, beside the one of a week ago."""
    return Panel(
        title,
        description,
        [
            Query(f"sum(rate({counter}[30m])) / sum(rate({ATTEMPTS}[30m]))", "now"),
            Query(f"sum(rate({counter}[30m] offset 1w)) / sum(rate({ATTEMPTS}[30m] offset 1w))", "a week ago"),
        ],
        "percentunit",
        maximum=1,
    )


def _quantiles(metric: str, by: str = "") -> list[Query]:
    return [
        Query(
            f"histogram_quantile({q}, sum by (le{by}) (rate({metric}_bucket{{%s}}[$__rate_interval])))",
            f"p{round(q * 100)}",
        )
        for q in (0.5, 0.9, 0.99)
    ]


BOARD = Board(
    "sip",
    "nattrav / SIP",
    "Call attempts and how they end, delays, transactions and upstreams (ratios after RFC 6076).",
    [
        (
            "Ratios after RFC 6076, challenges and redirects left out",
            [
                _ratio("Session establishment", "Attempts that were answered.", RESULTS.replace("{codes}", "2..")),
                _ratio(
                    "Session establishment effectiveness",
                    "Attempts that reached a person's answer, busy or decline.",
                    RESULTS.replace("{codes}", "2..|480|486|600|603"),
                ),
                _ratio(
                    "Ineffective attempts",
                    "Attempts that a server or a time-out ended.",
                    RESULTS.replace("{codes}", "408|500|503|504|timeout"),
                ),
                _ratio("Session completion", "Attempts that ended with BYE.", ENDED),
            ],
        ),
        (
            "Calls",
            [
                Panel(
                    "Answered by upstream",
                    "Share of the last half hour's attempts; one bad trunk hides in the sum.",
                    [
                        Query(
                            f"sum by (upstream) (rate({RESULTS.replace('{codes}', '2..')}[30m])) / sum by (upstream) (rate({ATTEMPTS}[30m]))",
                            "{{upstream}}",
                        )
                    ],
                    "percentunit",
                    kind="bargauge",
                    maximum=1,
                ),
                Panel(
                    "Results by code",
                    "Final outcome of attempts.",
                    [
                        Query(
                            'sum by (code) (rate(nattrav_sip_call_results_total{%s,upstream=~"$upstream"}[$__rate_interval]))',
                            "{{code}}",
                        )
                    ],
                    "cps",
                    stacked=True,
                ),
                Panel(
                    "Calls ended by cause",
                    "Why calls ended.",
                    [
                        Query(
                            'sum by (cause) (rate(nattrav_sip_calls_ended_total{%s,upstream=~"$upstream"}[$__rate_interval]))',
                            "{{cause}}",
                        )
                    ],
                    "cps",
                    stacked=True,
                ),
            ],
        ),
        (
            "Delays",
            [
                Panel(
                    "Post-dial delay",
                    "INVITE until the first 18x.",
                    _quantiles("nattrav_sip_post_dial_delay_seconds"),
                    "s",
                ),
                Panel(
                    "Call set-up",
                    "INVITE until 2xx, ringing included.",
                    _quantiles("nattrav_sip_call_setup_seconds"),
                    "s",
                ),
                Panel("Call duration", "2xx until the end.", _quantiles("nattrav_sip_call_duration_seconds"), "s"),
            ],
        ),
        (
            "Messages",
            [
                Panel(
                    "Requests",
                    "Requests per second by method.",
                    [
                        Query(
                            "sum by (direction, method) (rate(nattrav_sip_requests_total{%s}[$__rate_interval]))",
                            "{{direction}} {{method}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Responses",
                    "Responses per second by code.",
                    [
                        Query(
                            "sum by (direction, code) (rate(nattrav_sip_responses_total{%s}[$__rate_interval]))",
                            "{{direction}} {{code}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Retransmissions",
                    "Seen and sent.",
                    [
                        Query(
                            "sum by (direction, kind) (rate(nattrav_sip_retransmissions_total{%s}[$__rate_interval]))",
                            "{{direction}} {{kind}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Refused and dropped",
                    "Malformed messages and silent drops by reason.",
                    [
                        Query(
                            "sum by (reason) (rate(nattrav_sip_malformed_total{%s}[$__rate_interval]))",
                            "malformed {{reason}}",
                        ),
                        Query(
                            "sum by (reason) (rate(nattrav_sip_dropped_total{%s}[$__rate_interval]))",
                            "dropped {{reason}}",
                        ),
                    ],
                    "reqps",
                ),
            ],
        ),
        (
            "Upstreams",
            [
                Panel(
                    "Upstream state",
                    "1 while it answers OPTIONS.",
                    [Query('nattrav_sip_upstream_up{%s,upstream=~"$upstream"}', "{{upstream}}")],
                    maximum=1,
                ),
                Panel(
                    "Round trip",
                    "Last OPTIONS.",
                    [Query('nattrav_sip_upstream_rtt_seconds{%s,upstream=~"$upstream"}', "{{upstream}}")],
                    "s",
                ),
                Panel(
                    "Transactions",
                    "Live transactions.",
                    [Query("sum by (kind, type) (nattrav_sip_transactions{%s})", "{{kind}} {{type}}")],
                ),
                Panel(
                    "Transaction time",
                    "Request until final response, 99th percentile by method.",
                    [
                        Query(
                            "histogram_quantile(0.99, sum by (le, method) (rate(nattrav_sip_transaction_duration_seconds_bucket{%s}[$__rate_interval])))",
                            "{{method}}",
                        )
                    ],
                    "s",
                ),
            ],
        ),
    ],
    upstreams=True,
)
