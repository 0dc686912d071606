"""Control channel: ng requests."""

from nattrav_dashboards.panels import Board, Panel, Query

BOARD = Board(
    "control",
    "nattrav / Control channel",
    "The ng protocol between SIP proxies and the relay, and what goes to Homer.",
    [
        (
            "ng",
            [
                Panel(
                    "Requests",
                    "By command and result.",
                    [
                        Query(
                            "sum by (command, result) (rate(nattrav_control_requests_total{%s}[$__rate_interval]))",
                            "{{command}} {{result}}",
                        )
                    ],
                    "reqps",
                ),
                Panel(
                    "Time per request",
                    "99th percentile by command.",
                    [
                        Query(
                            "histogram_quantile(0.99, sum by (le, command) (rate(nattrav_control_request_duration_seconds_bucket{%s}[$__rate_interval])))",
                            "{{command}}",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Repeated cookies",
                    "Answered from the reply cache.",
                    [Query("sum(rate(nattrav_control_cookie_hits_total{%s}[$__rate_interval]))", "hits")],
                    "reqps",
                ),
            ],
        ),
        (
            "Sessions",
            [
                Panel(
                    "Opened",
                    "New relay sessions.",
                    [Query("sum(rate(nattrav_relay_sessions_opened_total{%s}[$__rate_interval]))", "opened")],
                    "ops",
                ),
                Panel(
                    "Closed",
                    "By reason.",
                    [
                        Query(
                            "sum by (reason) (rate(nattrav_relay_sessions_closed_total{%s}[$__rate_interval]))",
                            "{{reason}}",
                        )
                    ],
                    "ops",
                    stacked=True,
                ),
            ],
        ),
        (
            "Copies for Homer",
            [
                Panel(
                    "HEP packets",
                    "Copies of SIP messages sent to the collector.",
                    [Query("sum by (type) (rate(nattrav_hep_packets_total{%s}[$__rate_interval]))", "{{type}}")],
                    "pps",
                ),
                Panel(
                    "HEP dropped",
                    "Copies that a full queue, or the collector's host, refused.",
                    [Query("sum(rate(nattrav_hep_dropped_total{%s}[$__rate_interval]))", "dropped")],
                    "pps",
                ),
            ],
        ),
    ],
)
