"""Call flows that real phones seldom show on demand, played by SIPp on both sides of the bundle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges
from tests.natlab.capture import Capture, Seen
from tests.natlab.laboratory import BUNDLE, GATEWAY, Host, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.sipp import OFFER, Sipp, ack, answer_bye, await_request, bye, expect, invite, pause, respond

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(scope="module")
def phone(laboratory: Laboratory, user_agents: None) -> Iterator[Host]:
    """A host behind a symmetric NAT, with the bundle up; the gateway's host is free for SIPp."""
    if shutil.which("sipp") is None:
        pytest.skip("needs sipp: apt install sip-tester")
    household = laboratory.subscriber("sipps", Kind.SYMMETRIC)
    with edges.NattravEdge(laboratory):
        yield household.phone


def play(
    laboratory: Laboratory, capture: Capture, phone: Host, name: str, caller: list[str], gateway: list[str]
) -> list[Seen]:
    """Run one call; returns the messages in order. Raises when either side saw something it did not expect."""
    mark = capture.mark()
    directory = laboratory.directory / "sipp"
    far = Sipp(laboratory.gateway, f"{name}-gateway", directory).start(*gateway)
    near = Sipp(phone, f"{name}-caller", directory).start(*caller, target=f"{BUNDLE}:5060")
    Sipp.finish(near)
    Sipp.finish(far)
    time.sleep(0.2)
    return capture.sip(mark)


def sent(seen: list[Seen], what: str | int, *, to: str, method: str = "INVITE") -> list[Seen]:
    """What the bundle sent there."""
    return [
        one
        for one in seen
        if one.packet.source[0] == BUNDLE
        and one.packet.destination[0] == to
        and (one.message.is_request(what) if isinstance(what, str) else one.message.is_response(what, method))
    ]


RINGS_AND_ANSWERS = [
    await_request("INVITE"),
    respond("180 Ringing"),
    respond("200 OK", OFFER, attributes='retrans="500"'),
    await_request("ACK"),
    answer_bye(),
]
ANSWERED = [expect(100, optional=True), expect(180, optional=True), expect(200, routes=True)]


def public(laboratory: Laboratory) -> str:
    return laboratory.subscribers["sipps"].public


def test_a_plain_call_goes_through(laboratory: Laboratory, capture: Capture, phone: Host) -> None:
    seen = play(laboratory, capture, phone, "plain",
                [invite(), *ANSWERED, ack(), pause(200), bye(), expect(200)], RINGS_AND_ANSWERS)  # fmt: skip
    assert len(sent(seen, "INVITE", to=GATEWAY)) == 1
    assert len(sent(seen, "BYE", to=GATEWAY)) == 1


def test_an_invite_to_a_deaf_gateway_is_repeated_word_for_word(
    laboratory: Laboratory, capture: Capture, phone: Host
) -> None:
    gateway = [await_request("INVITE"), pause(1800), *RINGS_AND_ANSWERS[1:]]
    # SIPp takes the repetitions for retransmissions of the same request and stays silent.
    seen = play(laboratory, capture, phone, "deaf",
                [invite(), *ANSWERED, ack(), pause(200), bye(), expect(200)], gateway)  # fmt: skip
    copies = sent(seen, "INVITE", to=GATEWAY)
    assert len(copies) >= 2, "timer A did not fire"
    assert len({one.packet.payload for one in copies}) == 1
    assert len(sent(seen, 100, to=public(laboratory))) >= 1


def test_a_200_whose_ack_was_lost_is_repeated_with_the_same_media_address(
    laboratory: Laboratory, capture: Capture, phone: Host
) -> None:
    caller = [invite(), *ANSWERED, pause(1300), ack(), pause(200), bye(), expect(200)]
    seen = play(laboratory, capture, phone, "lost-ack", caller, RINGS_AND_ANSWERS)
    copies = sent(seen, 200, to=public(laboratory))
    assert len(copies) >= 2
    assert len({tuple(one.message.media) for one in copies}) == 1
    assert len({one.packet.destination for one in copies}) == 1


def test_an_offer_in_the_200_and_its_answer_in_the_ack_are_both_anchored(
    laboratory: Laboratory, capture: Capture, phone: Host
) -> None:
    caller = [invite(body=""), *ANSWERED, ack(OFFER), pause(200), bye(), expect(200)]
    seen = play(laboratory, capture, phone, "late-offer", caller, RINGS_AND_ANSWERS)
    offered = sent(seen, 200, to=public(laboratory))[0]
    answered = sent(seen, "ACK", to=GATEWAY)[0]
    assert {address for address, _ in offered.message.media} == {BUNDLE}
    assert {address for address, _ in answered.message.media} == {BUNDLE}
    assert offered.message.media != answered.message.media


def test_a_redirection_is_passed_on_to_the_phone(laboratory: Laboratory, capture: Capture, phone: Host) -> None:
    gateway = [
        await_request("INVITE"),
        respond("302 Moved Temporarily", fields=f"Contact: <sip:9001@{GATEWAY}>\n"),
        await_request("ACK"),
    ]
    refused = [invite(), expect(100, optional=True), expect(302), ack_of_failure()]
    seen = play(laboratory, capture, phone, "moved", refused, gateway)
    moved = sent(seen, 302, to=public(laboratory))[0]
    assert moved.message.first("contact") == f"<sip:9001@{GATEWAY}>"


def ack_of_failure() -> str:
    """The ACK of a final response other than 2xx goes in the INVITE's transaction (RFC 3261 §17.1.1.3)."""
    return (
        "<send><![CDATA[\nACK sip:9000@[remote_ip] SIP/2.0\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n"
        "CSeq: 1 ACK\nMax-Forwards: 70\nContent-Length: 0\n\n]]></send>"
    )
