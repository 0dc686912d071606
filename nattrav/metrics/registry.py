"""Every metric once: name, kind, labels, help, buckets. Services count by these names and by no others.

Conventions: counters end in `_total`; base units only (`_seconds`, `_bytes`, `_ratio`); label sets are closed, so
nothing off the wire becomes a label.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """How a metric behaves over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One definition. `buckets` are upper bounds in ascending order, without +Inf; only histograms have them."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, labels: str, help: str) -> Metric:
    return Metric(name, Kind.COUNTER, tuple(labels.split()), help)


def _gauge(name: str, labels: str, help: str) -> Metric:
    return Metric(name, Kind.GAUGE, tuple(labels.split()), help)


def _histogram(name: str, labels: str, help: str, buckets: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, tuple(labels.split()), help, tuple(float(edge) for edge in buckets.split()))


PROCESS = (
    _gauge("nattrav_build_info", "version python datapath node", "Constant 1; who this instance is"),
    _gauge("nattrav_ready", "", "1 while new calls are taken: services serve, a relay answers and has room, no drain"),
    _gauge("nattrav_draining", "", "1 while no new calls are taken"),
    _gauge("nattrav_config_last_reload_successful", "", "1 if the last reload was accepted"),
    _gauge(
        "nattrav_config_last_reload_success_timestamp_seconds", "", "Unix time when a configuration was last accepted"
    ),
    _gauge("nattrav_worker_up", "role worker", "1 while the service or its data thread answers"),
    _gauge("nattrav_offload_refused", "role", "1 while a kernel path that is configured cannot be used"),
    _counter("nattrav_worker_restarts_total", "role", "Services started again after a crash"),
    _counter("nattrav_worker_cpu_seconds_total", "role worker", "CPU time of one service or data thread"),
    _gauge("nattrav_worker_resident_memory_bytes", "role", "Resident memory of one service"),
    _histogram(
        "nattrav_loop_lag_seconds",
        "role",
        "Delay between a due timer and its run",
        ".001 .005 .01 .025 .05 .1 .25 .5 1",
    ),
    _gauge("nattrav_queue_depth", "queue", "Items waiting in a bounded queue"),
    _counter("nattrav_queue_dropped_total", "queue", "Items refused by a full queue"),
    _gauge(
        "nattrav_tls_certificate_expiry_timestamp_seconds", "listener", "Unix time when the served certificate ends"
    ),
    _counter("nattrav_log_records_total", "level", "Log records written"),
)

STUN = (
    _counter("nattrav_stun_requests_total", "transport family method", "STUN requests decoded"),
    _counter("nattrav_stun_responses_total", "transport class code", "STUN responses sent; code 0 for success"),
    _counter("nattrav_stun_dropped_total", "reason", "Datagrams on STUN sockets that were not answered"),
    _counter("nattrav_stun_change_requests_total", "change", "CHANGE-REQUEST seen (RFC 5780)"),
    _counter("nattrav_stun_request_bytes_total", "", "Bytes of the STUN requests that were answered"),
    _counter(
        "nattrav_stun_response_bytes_total", "", "Bytes of the STUN answers; over the request bytes: amplification"
    ),
    _gauge("nattrav_stun_ratelimit_buckets", "", "Size of the STUN rate-limit table"),
    _gauge("nattrav_stun_offload_active", "", "1 while the kernel answers STUN clients that come back (XDP)"),
    _counter("nattrav_stun_offload_responses_total", "", "STUN responses the kernel sent, counted as responses too"),
    _gauge("nattrav_stun_nat_records", "", "Client addresses with a record of their NAT"),
    _gauge("nattrav_stun_nat_clients", "mapping filtering", "Client addresses by what is known of their NAT"),
    _gauge("nattrav_stun_ratelimit_buckets_used", "", "Entries in use in the STUN rate-limit table"),
)

SIP = (
    _counter("nattrav_sip_requests_total", "direction method transport", "SIP requests received or sent"),
    _counter(
        "nattrav_sip_responses_total",
        "direction method code",
        "SIP responses received or sent; every code of INVITE and REGISTER, common ones of others",
    ),
    _counter(
        "nattrav_sip_dropped_total", "transport reason", "SIP messages that caused neither a forward nor an answer"
    ),
    _counter("nattrav_sip_malformed_total", "transport reason", "SIP messages the parser refused"),
    _counter("nattrav_sip_retransmissions_total", "direction kind", "SIP retransmissions seen or sent"),
    _gauge("nattrav_sip_transactions", "kind type", "Live SIP transactions"),
    _histogram(
        "nattrav_sip_transaction_duration_seconds",
        "method",
        "SIP request until its final response",
        ".005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 16 32",
    ),
    _gauge("nattrav_sip_calls", "state", "Calls now"),
    _counter("nattrav_sip_call_attempts_total", "upstream", "Initial INVITEs (no To tag), each counted once"),
    _counter(
        "nattrav_sip_call_results_total", "upstream code", "Final outcome of each call attempt: status code or timeout"
    ),
    _counter("nattrav_sip_calls_ended_total", "upstream cause", "Why calls ended"),
    _histogram("nattrav_sip_post_dial_delay_seconds", "", "INVITE until the first 18x", ".1 .25 .5 1 2 4 6 8 12 20 32"),
    _histogram("nattrav_sip_call_setup_seconds", "", "INVITE until 2xx", ".25 .5 1 2 4 8 12 20 32 60 120 180"),
    _histogram(
        "nattrav_sip_call_duration_seconds",
        "",
        "2xx until the end of the call",
        "1 5 15 30 60 120 300 600 1800 3600 7200",
    ),
    _gauge("nattrav_sip_registrations", "transport nat", "Bindings now"),
    _counter("nattrav_sip_registration_events_total", "event", "What happened to bindings"),
    _histogram(
        "nattrav_sip_registration_delay_seconds",
        "",
        "REGISTER until 2xx (RFC 6076 registration request delay)",
        ".01 .025 .05 .1 .25 .5 1 2 4 8 16 32",
    ),
    _counter("nattrav_sip_nat_detections_total", "test", 'Which test said "behind a NAT"'),
    _counter("nattrav_sip_alg_signs_total", "sign", "Addresses that showed a sign of a SIP ALG for the first time"),
    _counter("nattrav_sip_keepalives_total", "method result", "Keepalives and their answers"),
    _gauge("nattrav_sip_flows", "transport", "Flows held open (RFC 5626)"),
    _gauge("nattrav_sip_connections", "transport", "Open stream connections"),
    _gauge("nattrav_sip_upstream_up", "upstream", "1 while the upstream answers OPTIONS"),
    _gauge("nattrav_sip_upstream_rtt_seconds", "upstream", "Last round trip of OPTIONS to the upstream"),
    _counter("nattrav_sip_auth_total", "result", "Digest checks"),
    _counter("nattrav_sip_rate_limited_total", "scope", "SIP messages refused by a limiter"),
    _gauge("nattrav_sip_banned_sources", "", "Sources banned now"),
)

RELAY = (
    _gauge("nattrav_relay_sessions", "state", "Relay sessions now; foreign means owned by a peer node"),
    _counter("nattrav_relay_sessions_opened_total", "", "Relay sessions opened"),
    _counter("nattrav_relay_sessions_closed_total", "reason", "Relay sessions ended, and why"),
    _gauge("nattrav_relay_sessions_one_way", "", "Answered sessions with media in one direction only, now"),
    _gauge("nattrav_relay_sessions_no_media", "", "Answered sessions without any media, now"),
    _gauge("nattrav_relay_silent_directions", "reason", "Directions of those sessions without media now, and why"),
    _counter(
        "nattrav_relay_sessions_closed_one_way_total", "", "Sessions that closed with media in one direction only"
    ),
    _counter("nattrav_relay_sessions_closed_no_media_total", "", "Sessions that closed without any media"),
    _gauge("nattrav_relay_streams", "datapath media", "Media streams now"),
    _counter("nattrav_relay_packets_total", "direction datapath", "RTP and RTCP datagrams"),
    _counter("nattrav_relay_bytes_total", "direction datapath", "UDP payload bytes of RTP and RTCP datagrams"),
    _counter("nattrav_relay_dropped_packets_total", "reason", "Datagrams not passed on"),
    _counter("nattrav_relay_rtcp_packets_total", "direction type", "RTCP datagrams by the type of their first packet"),
    _gauge("nattrav_relay_ports", "pool", "Ports the pool owns"),
    _gauge("nattrav_relay_ports_used", "pool", "Ports bound to a leg"),
    _gauge("nattrav_relay_ports_quarantined", "pool", "Ports resting before they are used again"),
    _counter("nattrav_relay_port_allocations_total", "pool result", "Attempts to take a pair of ports"),
    _counter("nattrav_relay_latch_events_total", "event", "What the latches did"),
    _counter(
        "nattrav_relay_rtp_expected_packets_total", "pool", "RTP packets expected by sequence number (RFC 3550 A.3)"
    ),
    _counter("nattrav_relay_rtp_lost_packets_total", "pool", "RTP packets expected and not received"),
    _counter("nattrav_relay_rtp_reordered_packets_total", "pool", "RTP packets that came late"),
    _counter("nattrav_relay_rtp_duplicate_packets_total", "pool", "RTP packets that came twice"),
    _histogram(
        "nattrav_relay_stream_mos",
        "",
        "Estimated MOS per stream and 10 s (ITU-T G.107 E-model from loss and jitter; an estimate)",
        "1 2 2.5 3 3.25 3.5 3.75 4 4.1 4.2 4.3 4.4 4.5",
    ),
    _histogram(
        "nattrav_relay_stream_jitter_seconds",
        "",
        "Interarrival jitter per stream and 10 s",
        ".001 .002 .005 .01 .02 .03 .05 .075 .1 .2 .5",
    ),
    _histogram(
        "nattrav_relay_stream_loss_ratio",
        "",
        "Share of packets lost per stream and 10 s",
        "0 .001 .003 .005 .01 .02 .05 .1 .4 1",
    ),
    _histogram(
        "nattrav_relay_rtt_seconds", "", "Round trip from RTCP LSR and DLSR", ".005 .01 .02 .05 .1 .15 .2 .3 .5 1 2"
    ),
    _histogram(
        "nattrav_relay_forward_latency_seconds",
        "",
        "Batches of media in hand: from the receive call's return until they are sent",
        ".00005 .0001 .00025 .0005 .001 .0025 .005 .01 .05 .1",
    ),
    _counter("nattrav_relay_recv_batches_total", "", "Receive calls that returned datagrams"),
    _counter("nattrav_relay_send_batches_total", "", "Batches of which something was sent"),
    _counter("nattrav_relay_receive_starved_total", "", "Times the kernel found no buffer for a datagram (io_uring)"),
    _counter("nattrav_relay_receive_rearmed_total", "", "Times receiving on a socket had to be asked for again"),
    _counter(
        "nattrav_relay_socket_overflow_packets_total",
        "",
        "Datagrams the kernel dropped for want of buffer",
    ),
    _gauge("nattrav_relay_datapath_available", "datapath", "1 if this kernel accepted the datapath at start"),
    _gauge("nattrav_relay_framed_flows", "", "Flows to whose parties packets leave as whole frames now"),
    _counter(
        "nattrav_relay_offload_events_total",
        "datapath event",
        "Flows moved into and out of the kernel, taken over, or too many",
    ),
    _gauge("nattrav_relay_offloaded_flows", "", "Flows whose RTP the kernel forwards now"),
    _counter(
        "nattrav_relay_offload_left_packets_total",
        "reason",
        "Datagrams of offloaded flows that the kernel left to their sockets",
    ),
)

CONTROL = (
    _counter("nattrav_control_requests_total", "transport command result", "ng requests"),
    _histogram(
        "nattrav_control_request_duration_seconds",
        "command",
        "ng request until its reply",
        ".0005 .001 .0025 .005 .01 .025 .05 .1 .25 1",
    ),
    _counter("nattrav_control_cookie_hits_total", "", "Repeated ng cookies answered from the reply cache"),
)

HEP = (
    _counter("nattrav_hep_packets_total", "type", "HEP packets sent"),
    _counter("nattrav_hep_dropped_total", "", "HEP packets dropped by the full queue"),
)

SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Process": PROCESS,
    "STUN": STUN,
    "SIP": SIP,
    "Relay": RELAY,
    "Control channel": CONTROL,
    "HEP": HEP,
}

METRICS: dict[str, Metric] = {metric.name: metric for section in SECTIONS.values() for metric in section}
