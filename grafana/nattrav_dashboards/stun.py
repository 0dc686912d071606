"""STUN: requests, answers, abuse."""

from nattrav_dashboards.panels import Board, Panel, Query

BOARD = Board(
    "stun",
    "nattrav / STUN",
    "Binding requests answered and refused, and what an attacker could gain.",
    [
        (
            "Traffic",
            [
                Panel(
                    "Requests",
                    "By transport and family.",
                    [
                        Query(
                            "sum by (transport, family) (rate(nattrav_stun_requests_total{%s}[$__rate_interval]))",
                            "{{transport}} IPv{{family}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Responses",
                    "By class and code.",
                    [
                        Query(
                            "sum by (class, code) (rate(nattrav_stun_responses_total{%s}[$__rate_interval]))",
                            "{{class}} {{code}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Clients by NAT",
                    "Client addresses by what is known of their NAT's mapping and filtering (RFC 4787).",
                    [Query("sum by (mapping, filtering) (nattrav_stun_nat_clients{%s})", "{{mapping}}, {{filtering}}")],
                    stacked=True,
                ),
                Panel(
                    "Answers by the kernel",
                    "Responses that an XDP program sent, out of all.",
                    [
                        Query("sum(rate(nattrav_stun_offload_responses_total{%s}[$__rate_interval]))", "kernel"),
                        Query("sum(rate(nattrav_stun_responses_total{%s}[$__rate_interval]))", "all"),
                    ],
                    "reqps",
                ),
                Panel(
                    "Behaviour tests",
                    "CHANGE-REQUEST seen (RFC 5780).",
                    [
                        Query(
                            "sum by (change) (rate(nattrav_stun_change_requests_total{%s}[$__rate_interval]))",
                            "{{change}}",
                        )
                    ],
                    "reqps",
                ),
            ],
        ),
        (
            "Abuse",
            [
                Panel(
                    "Not answered",
                    "By reason.",
                    [Query("sum by (reason) (rate(nattrav_stun_dropped_total{%s}[$__rate_interval]))", "{{reason}}")],
                    "reqps",
                ),
                Panel(
                    "Amplification",
                    "Bytes out over bytes in.",
                    [
                        Query(
                            "sum(rate(nattrav_stun_response_bytes_total{%s}[$__rate_interval])) / sum(rate(nattrav_stun_request_bytes_total{%s}[$__rate_interval]))",
                            "ratio",
                        )
                    ],
                ),
                Panel(
                    "Limiter table",
                    "Occupancy.",
                    [
                        Query(
                            "sum(nattrav_stun_ratelimit_buckets_used{%s}) / sum(nattrav_stun_ratelimit_buckets{%s})",
                            "used",
                        )
                    ],
                    "percentunit",
                    maximum=1,
                ),
            ],
        ),
    ],
)
