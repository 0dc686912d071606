"""Call flows that real phones seldom show on demand, played by SIPp on every side of the bundle."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nattrav.metrics.samples import Export
from tests.natlab.capture import Capture, Seen
from tests.natlab.edges import NattravEdge
from tests.natlab.laboratory import BUNDLE, GATEWAY, Host, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.sipp import play
from tests.natlab.wire import SipMessage

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]

BOTH_WAYS = "went through the relay"


@dataclass
class Stage:
    """A caller behind a symmetric NAT, two phones behind NATs, the gateway's host, and the bundle between them."""

    laboratory: Laboratory
    capture: Capture
    edge: NattravEdge

    def __post_init__(self) -> None:
        self.caller = self.laboratory.subscriber("callers", Kind.SYMMETRIC).phone
        self.first = self.laboratory.subscriber("firsts", Kind.SYMMETRIC).phone
        self.second = self.laboratory.subscriber("seconds", Kind.PORT_RESTRICTED).phone
        self.directory = self.laboratory.directory / "sipp"

    def public(self, name: str) -> str:
        return self.laboratory.subscribers[name].public

    def register(self, host: Host, user: str, q: str) -> None:
        play(host, "registering", self.directory, target=f"{BUNDLE}:5060", service=user, q=q).finish()

    def call(
        self,
        caller: str,
        callees: dict[str, str],
        *,
        to: str = "9000",
        keys: dict[str, str] | None = None,
    ) -> Outcome:
        """Play one call; callees are scenarios by host. Raises when a side saw what it did not expect."""
        hosts = {"gateway": self.laboratory.gateway, "first": self.first, "second": self.second}
        before, mark = self.edge.metrics(), self.capture.mark()
        players = [play(hosts[name], scenario, self.directory, **(keys or {})) for name, scenario in callees.items()]
        play(self.caller, caller, self.directory, target=f"{BUNDLE}:5060", service=to).finish()
        for player in players:
            player.finish()
        return Outcome(self, self.capture.sip(mark), before, self._at_rest())

    def _at_rest(self) -> Export:
        """The counters when the relay has been told of the end: the proxy tells it of several calls together."""
        deadline = time.monotonic() + 3.0
        while True:
            time.sleep(0.2)
            after = self.edge.metrics()
            if _sum(after, "nattrav_relay_sessions", ()) == 0 or time.monotonic() > deadline:
                return after


@dataclass
class Outcome:
    """The messages of a call in order, and the bundle's counters before and after."""

    stage: Stage
    seen: list[Seen]
    before: Export
    after: Export

    def sent(self, what: str | int, *, to: str, method: str = "INVITE") -> list[SipMessage]:
        """What the bundle sent there."""
        return [
            one.message
            for one in self.seen
            if one.packet.source[0] == BUNDLE
            and one.packet.destination[0] == to
            and (one.message.is_request(what) if isinstance(what, str) else one.message.is_response(what, method))
        ]

    def counted(self, name: str, *labels: str) -> float:
        """By how much a counter has grown, summed over the children that have these label values."""
        return _sum(self.after, name, labels) - _sum(self.before, name, labels)

    def explained(self) -> dict[str, Any]:
        """What `nattrav explain` has to say of the call."""
        call_id = next(one.message.call_id for one in self.seen if one.message.is_request("INVITE"))
        (found,) = self.stage.edge.verb("proxy", "explain", what=call_id)["calls"]
        told: dict[str, Any] = found
        return told

    def ended(self, cause: str, code: str) -> None:
        """The counters and `explain` agree on how the one call ended, and nothing of it is left."""
        assert self.counted("nattrav_sip_call_attempts_total") == 1
        assert self.counted("nattrav_sip_call_results_total", code) == 1
        assert self.counted("nattrav_sip_calls_ended_total", cause) == 1
        assert self.counted("nattrav_sip_malformed_total") == 0
        assert self.explained()["call"]["cause"] == cause
        assert _sum(self.after, "nattrav_sip_calls", ("confirmed",)) == 0

    def behind_a_nat(self) -> None:
        """The caller's NAT was seen, and its media anchored."""
        explained = self.explained()
        assert explained["nat"]["caller"]["nat"], explained["nat"]
        assert BOTH_WAYS in explained["verdict"]


def _sum(export: Export, name: str, labels: tuple[str, ...]) -> float:
    return sum(number for values, number in export.get(name, ()) if set(labels) <= set(values))


@pytest.fixture(scope="module")
def stage(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Stage]:
    if shutil.which("sipp") is None:
        pytest.skip("needs sipp: apt install sip-tester")
    edge = NattravEdge(laboratory, sip="recurse = true", more='[sip.keepalive]\nmethod = "none"\n')
    with edge:
        yield Stage(laboratory, capture, edge)


def test_a_plain_call_goes_through(stage: Stage) -> None:
    call = stage.call("caller", {"gateway": "answering"})
    assert len(call.sent("INVITE", to=GATEWAY)) == len(call.sent("BYE", to=GATEWAY)) == 1
    assert call.counted("nattrav_sip_retransmissions_total") == 0
    assert call.counted("nattrav_relay_sessions_opened_total") == 1
    call.ended("bye", "200")
    call.behind_a_nat()


def test_an_invite_to_a_deaf_gateway_is_repeated_word_for_word(stage: Stage) -> None:
    call = stage.call("caller", {"gateway": "deaf"})
    copies = [
        one.packet.payload
        for one in call.seen
        if one.packet.destination[0] == GATEWAY and one.message.is_request("INVITE")
    ]
    assert len(copies) >= 2, "timer A did not fire"
    assert len(set(copies)) == 1
    assert call.counted("nattrav_sip_retransmissions_total", "tx", "request") == len(copies) - 1
    assert call.counted("nattrav_relay_sessions_opened_total") == 1
    call.ended("bye", "200")


def test_a_200_whose_ack_was_lost_is_repeated_with_the_same_media_address(stage: Stage) -> None:
    call = stage.call("caller_late_ack", {"gateway": "answering"})
    copies = call.sent(200, to=stage.public("callers"))
    assert len(copies) >= 2
    assert len({tuple(one.media) for one in copies}) == 1
    call.ended("bye", "200")
    call.behind_a_nat()


def test_an_offer_in_the_200_and_its_answer_in_the_ack_are_both_anchored(stage: Stage) -> None:
    call = stage.call("caller_late_offer", {"gateway": "answering"})
    (offered, *_), (answered, *_) = call.sent(200, to=stage.public("callers")), call.sent("ACK", to=GATEWAY)
    assert {address for address, _ in offered.media} == {address for address, _ in answered.media} == {BUNDLE}
    assert offered.media != answered.media
    call.ended("bye", "200")
    call.behind_a_nat()


def test_a_slow_callee_is_waited_for_and_the_invite_not_repeated(stage: Stage) -> None:
    call = stage.call("caller", {"gateway": "slow"})
    assert len(call.sent("INVITE", to=GATEWAY)) == 1
    record = call.explained()["call"]
    assert record["answer"] - record["start"] > 2.5
    call.ended("bye", "200")


def test_a_caller_whom_nobody_answers_gives_up_and_the_ringing_ends(stage: Stage) -> None:
    call = stage.call("caller_gives_up", {"gateway": "cancelled"})
    assert len(call.sent("CANCEL", to=GATEWAY)) == 1
    assert len(call.sent(487, to=stage.public("callers"))) >= 1
    call.ended("cancel", "487")
    assert call.counted("nattrav_relay_sessions_closed_total") == 1


def test_an_answer_that_crosses_the_cancel_wins_and_the_call_is_hung_up(stage: Stage) -> None:
    call = stage.call("caller_beaten", {"gateway": "answering_too_late"})
    assert len(call.sent("CANCEL", to=GATEWAY)) == 1
    assert call.sent(200, to=stage.public("callers"))[0].media[0][0] == BUNDLE
    assert call.sent(487, to=stage.public("callers")) == []
    call.ended("bye", "200")
    assert call.counted("nattrav_relay_sessions_closed_total") == 1


def test_a_redirection_to_strangers_is_passed_on_to_the_phone(stage: Stage) -> None:
    call = stage.call("caller_moved", {"gateway": "moved"}, keys={"elsewhere": f"9001@{GATEWAY}"})
    assert call.sent(302, to=stage.public("callers"))[0].first("contact") == f"<sip:9001@{GATEWAY}>"
    call.ended("rejected", "302")


def test_a_redirection_to_a_user_of_ours_is_followed(stage: Stage) -> None:
    stage.register(stage.first, "helpdesk", "1.0")
    call = stage.call("caller", {"gateway": "moved", "first": "answering"}, keys={"elsewhere": f"helpdesk@{BUNDLE}"})
    assert call.sent(302, to=stage.public("callers")) == []
    assert len(call.sent("INVITE", to=stage.public("firsts"))) == 1
    call.ended("bye", "200")
    call.behind_a_nat()


def test_equal_contacts_ring_together_and_the_slower_is_cancelled(stage: Stage) -> None:
    for host in (stage.first, stage.second):
        stage.register(host, "family", "0.7")
    call = stage.call("caller", {"first": "cancelled", "second": "slow"}, to="family")
    assert len(call.sent("CANCEL", to=stage.public("firsts"))) == 1
    assert call.sent("CANCEL", to=stage.public("seconds")) == []
    assert call.sent(487, to=stage.public("callers")) == []
    call.ended("bye", "200")
    call.behind_a_nat()


def test_contacts_of_falling_preference_ring_one_after_the_other(stage: Stage) -> None:
    stage.register(stage.first, "office", "0.9")
    stage.register(stage.second, "office", "0.3")
    call = stage.call("caller", {"first": "busy", "second": "answering"}, to="office")
    order = [
        one.packet.destination[0]
        for one in call.seen
        if one.packet.source[0] == BUNDLE and one.message.is_request("INVITE")
    ]
    assert order == [stage.public("firsts"), stage.public("seconds")]
    assert call.sent(486, to=stage.public("callers")) == []
    call.ended("bye", "200")


def test_the_best_refusal_of_a_series_is_what_the_caller_hears(stage: Stage) -> None:
    stage.register(stage.first, "nobody", "0.9")
    stage.register(stage.second, "nobody", "0.3")
    call = stage.call("caller_busy", {"first": "busy", "second": "busy"}, to="nobody")
    call.ended("rejected", "486")


def test_a_strict_router_behind_us_gets_its_address_in_the_request_uri(stage: Stage) -> None:
    call = stage.call("caller", {"gateway": "answering_behind_strict_router"})
    for method in ("ACK", "BYE"):
        (request,) = call.sent(method, to=GATEWAY)
        assert request.request_uri == f"sip:strict@{GATEWAY}:5060"
        assert request.all("route") == ["<sip:behind@192.0.2.99>"]
    call.ended("bye", "200")


def test_what_a_strict_router_before_us_did_to_the_request_uri_is_undone(stage: Stage) -> None:
    call = stage.call("caller_strict", {"gateway": "answering"})
    for method in ("ACK", "BYE"):
        (request,) = call.sent(method, to=GATEWAY)
        assert request.request_uri == f"sip:{GATEWAY}:5060"
        assert request.all("route") == []
    call.ended("bye", "200")


def test_two_re_invites_that_cross_are_both_refused_and_the_media_stays(stage: Stage) -> None:
    call = stage.call("caller_glare", {"gateway": "answering_glare"})
    assert len(call.sent(491, to=stage.public("callers"))) >= 1
    assert len(call.sent(491, to=GATEWAY)) >= 1
    to_gateway = [one.media for one in call.sent("INVITE", to=GATEWAY)]
    assert len({tuple(media) for media in to_gateway}) == 1, "the relay's ports changed"
    assert call.counted("nattrav_relay_sessions_opened_total") == 1
    call.ended("bye", "200")


def test_a_redirect_server_tells_the_phone_where_to_go(stage: Stage) -> None:
    file = stage.edge.file
    file.write_text(file.read_text().replace('mode = "registrar"', 'mode = "redirect"'))
    assert stage.edge.verb("supervisor", "config.reload", restart=True)["restarted"] == ["proxy"]
    call = stage.call("caller_moved", {})
    (contact,) = call.sent(302, to=stage.public("callers"))[0].all("contact")
    assert contact.startswith(f"<sip:9000@{GATEWAY}")
    assert call.sent("INVITE", to=GATEWAY) == []
    call.ended("rejected", "302")
