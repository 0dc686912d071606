"""Children that exist from the start with value 0, so that the first increment is seen and absence means something.

Only what a service really counts is listed: a zero that nobody would ever raise tells a lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from nattrav.metrics.samples import Samples

_TRANSPORTS = ("udp", "tcp")
_SIP_DROPS = ("scanner", "banned", "rate_limited", "stray_response", "forged_token", "no_route", "loop")
_AT_START: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "proxy": {
        "nattrav_sip_registrations": (_TRANSPORTS, ("yes", "no")),
        "nattrav_sip_keepalives_total": (("options",), ("ok", "timeout")),
        "nattrav_sip_malformed_total": (_TRANSPORTS, ("malformed",)),
        "nattrav_sip_dropped_total": (("udp",), _SIP_DROPS),
        "nattrav_sip_calls": (("early", "confirmed"),),
        "nattrav_sip_registration_events_total": (("added", "refreshed", "removed", "expired", "rejected"),),
        "nattrav_sip_auth_total": (("ok", "failed", "stale", "unknown_user"),),
        "nattrav_sip_banned_sources": (),
    },
    "relay": {
        "nattrav_relay_sessions": (("offered", "answered"),),
        "nattrav_relay_latch_events_total": (("learned", "relearned", "rejected"),),
    },
    "stun": {
        "nattrav_stun_request_bytes_total": (),
        "nattrav_stun_response_bytes_total": (),
        "nattrav_stun_dropped_total": (("malformed", "rate_limited", "not_stun"),),
    },
}


_HISTOGRAMS = {
    "proxy": (
        "nattrav_sip_post_dial_delay_seconds",
        "nattrav_sip_call_setup_seconds",
        "nattrav_sip_call_duration_seconds",
        "nattrav_sip_registration_delay_seconds",
    ),
    "relay": (
        "nattrav_relay_stream_mos",
        "nattrav_relay_stream_jitter_seconds",
        "nattrav_relay_stream_loss_ratio",
    ),
}
LOCAL = "local"
"""What the proxy calls the upstream of calls between its own phones."""

_RESULTS = ("200", "404", "408", "480", "486", "487", "503", "timeout")
_CAUSES = ("bye", "cancel", "rejected", "timeout", "session_timer", "media_timeout", "admin")


def make_present(samples: Samples, roles: Iterable[str], upstreams: Iterable[str] = ()) -> None:
    """Add the children that services of these roles have from the start, where they are not counted yet."""
    present = set(roles)
    for role in present:
        for name, values in _AT_START.get(role, {}).items():
            for labels in product(*values):
                samples.inc(name, *labels, by=0)
        for name in _HISTOGRAMS.get(role, ()):
            samples.observe(name, 0.0, times=0)
    for upstream in (LOCAL, *upstreams) if "proxy" in present else ():
        samples.inc("nattrav_sip_call_attempts_total", upstream, by=0)
        for code in _RESULTS:
            samples.inc("nattrav_sip_call_results_total", upstream, code, by=0)
        for cause in _CAUSES:
            samples.inc("nattrav_sip_calls_ended_total", upstream, cause, by=0)
