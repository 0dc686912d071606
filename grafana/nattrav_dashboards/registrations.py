"""Registrations: bindings, NAT share, keepalive, abuse."""

from nattrav_dashboards.panels import Board, Panel, Query

BOARD = Board(
    "registrations",
    "nattrav / Registrations and NAT",
    "Who is registered, behind which kind of NAT, and whether keepalives reach them.",
    [
        (
            "Bindings",
            [
                Panel(
                    "Bindings",
                    "By transport and whether behind a NAT.",
                    [Query("sum by (transport, nat) (nattrav_sip_registrations{%s})", "{{transport}} nat={{nat}}")],
                    stacked=True,
                ),
                Panel(
                    "Events",
                    "What happened to bindings.",
                    [
                        Query(
                            "sum by (event) (rate(nattrav_sip_registration_events_total{%s}[$__rate_interval]))",
                            "{{event}}",
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Change in ten minutes",
                    "Bindings gained or lost; a step down is an outage of an access network.",
                    [Query("sum(delta(nattrav_sip_registrations{%s}[10m]))", "bindings")],
                ),
                Panel(
                    "REGISTER until 2xx",
                    "RFC 6076 registration request delay.",
                    [
                        Query(
                            "histogram_quantile(0.9, sum by (le) (rate(nattrav_sip_registration_delay_seconds_bucket{%s}[$__rate_interval])))",
                            "p90",
                        )
                    ],
                    "s",
                ),
            ],
        ),
        (
            "NAT",
            [
                Panel(
                    "NAT tests",
                    "Which test said: behind a NAT.",
                    [Query("sum by (test) (rate(nattrav_sip_nat_detections_total{%s}[$__rate_interval]))", "{{test}}")],
                    "ops",
                ),
                Panel(
                    "Keepalives",
                    "By method and result.",
                    [
                        Query(
                            "sum by (method, result) (rate(nattrav_sip_keepalives_total{%s}[$__rate_interval]))",
                            "{{method}} {{result}}",
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Flows and connections",
                    "Held open.",
                    [
                        Query("sum by (transport) (nattrav_sip_flows{%s})", "flows {{transport}}"),
                        Query("sum by (transport) (nattrav_sip_connections{%s})", "connections {{transport}}"),
                    ],
                ),
            ],
        ),
        (
            "Abuse",
            [
                Panel(
                    "REGISTER received",
                    "Beside an hour ago: several times as many is a storm.",
                    [
                        Query(
                            'sum(rate(nattrav_sip_requests_total{%s,direction="rx",method="REGISTER"}[$__rate_interval]))',
                            "now",
                        ),
                        Query(
                            'sum(rate(nattrav_sip_requests_total{%s,direction="rx",method="REGISTER"}[$__rate_interval] offset 1h))',
                            "an hour ago",
                        ),
                    ],
                    "reqps",
                ),
                Panel(
                    "Digest checks",
                    "By result.",
                    [Query("sum by (result) (rate(nattrav_sip_auth_total{%s}[$__rate_interval]))", "{{result}}")],
                    "ops",
                ),
                Panel(
                    "Rate limited",
                    "Messages refused by a limiter.",
                    [Query("sum by (scope) (rate(nattrav_sip_rate_limited_total{%s}[$__rate_interval]))", "{{scope}}")],
                    "ops",
                ),
                Panel("Banned sources", "Banned now.", [Query("sum(nattrav_sip_banned_sources{%s})", "banned")]),
            ],
        ),
    ],
)
