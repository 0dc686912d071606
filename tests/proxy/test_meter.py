from __future__ import annotations

from collections import Counter

from nattrav.proxy.meter import MessageMeter, code_label, method_label
from nattrav.sip.grammar import KNOWN_METHODS


def counted(*messages: bytes) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()

    def count(name: str, *labels: str, by: float = 1) -> None:
        counts[(name.removeprefix("nattrav_sip_").removesuffix("_total"), *labels)] += int(by)

    meter = MessageMeter()
    for message in messages:
        meter.message("rx", "udp", message)
    meter.hand_over(count)
    meter.hand_over(count)
    return counts


def test_requests_are_counted_by_method_and_unknown_ones_as_other() -> None:
    assert counted(
        b"INVITE sip:a@b SIP/2.0\r\n", b"INVITE sip:c@d SIP/2.0\r\n", b"SCAN sip:x SIP/2.0\r\n", b"junk"
    ) == {
        ("requests", "rx", "INVITE", "udp"): 2,
        ("requests", "rx", "OTHER", "udp"): 2,
    }


def test_responses_are_counted_by_code_and_by_the_method_of_their_cseq() -> None:
    assert counted(
        b"SIP/2.0 200 OK\r\nVia: x\r\nCSeq: 1 BYE\r\n\r\n",
        b"SIP/2.0 299 Odd\r\nCSeq: 1 NEW\r\n\r\n",
        b"SIP/2.0 404 x",
        b"SIP/2.0 404 x\nCSeq:",
    ) == {
        ("responses", "rx", "BYE", "200"): 1,
        ("responses", "rx", "OTHER", "other"): 1,
        ("responses", "rx", "OTHER", "404"): 2,
    }


def test_a_scanner_with_every_method_and_code_makes_few_series() -> None:
    methods = [*KNOWN_METHODS, "FOO", "BAR"]
    messages = [
        f"SIP/2.0 {code} x\r\nCSeq: 1 {method}\r\n\r\n".encode() for method in methods for code in range(100, 700)
    ]
    found = counted(*messages, *(f"{method} sip:a SIP/2.0\r\n".encode() for method in methods))
    assert len(found) < 350
    assert sum(found.values()) == len(messages) + len(methods)
    assert found[("responses", "rx", "INVITE", "486")] == found[("responses", "rx", "REGISTER", "423")] == 1
    assert ("responses", "rx", "OPTIONS", "486") not in found


def test_keepalives_are_no_messages() -> None:
    assert not counted(b"\r\n\r\n", b"\0\0\0\0", b"")


def test_outcomes_have_closed_labels() -> None:
    assert code_label(486, "rejected") == "486"
    assert code_label(0, "timeout") == "timeout"
    assert code_label(408, "timeout") == "timeout"
    assert code_label(299, "rejected") == "other"
    assert method_label("REGISTER") == "REGISTER"
    assert method_label("X'; DROP") == "OTHER"
