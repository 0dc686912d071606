"""Requests other than INVITE that nobody answers (RFC 4320): 100 late but surely, 408 never."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, request, response


def statuses(arrivals: list[Arrival]) -> list[int]:
    return [int(a.line.split()[1]) for a in arrivals if a.line.startswith("SIP/2.0")]


def test_100_comes_when_timer_e_of_the_client_has_grown_to_t2_and_not_before() -> None:
    stage = Stage()
    stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    assert statuses(stage.wait(3.4)) == []
    assert statuses(stage.wait(0.2)) == [100]
    assert statuses(stage.wait(60)) == []


@pytest.mark.parametrize(("t1", "t2", "seconds"), [(0.5, 4.0, 3.5), (1.0, 4.0, 3.0), (2.0, 4.0, 2.0)])
def test_the_wait_follows_t1_and_t2(t1: float, t2: float, seconds: float) -> None:
    timers = {"t1": t1, "t2": t2}
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, "timers": timers}))
    stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    assert statuses(stage.wait(seconds - 0.1)) == []
    assert statuses(stage.wait(0.2)) == [100]


def test_a_retransmission_after_the_100_gets_it_again_and_the_final_answer_passes() -> None:
    stage = Stage()
    text = request("MESSAGE", f"sip:+431@{US}")
    (forwarded,) = stage.send(PHONE, text)
    assert stage.send(PHONE, text) == []
    stage.wait(4)
    assert statuses(stage.send(PHONE, text)) == [100]
    assert statuses(stage.send(GATEWAY, response(forwarded, 202))) == [202]


def test_an_answered_request_gets_no_100_later() -> None:
    stage = Stage()
    (forwarded,) = stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    stage.send(GATEWAY, response(forwarded, 200))
    assert statuses(stage.wait(10)) == []


def test_a_408_from_downstream_goes_no_further() -> None:
    stage = Stage()
    (forwarded,) = stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    assert statuses(stage.send(GATEWAY, response(forwarded, 408))) == []
    assert statuses(stage.wait(70)) == [100]


def test_no_provisional_but_100_is_made_and_those_from_downstream_stop_no_final() -> None:
    stage = Stage()
    (forwarded,) = stage.send(PHONE, request("MESSAGE", f"sip:+431@{US}"))
    assert statuses(stage.send(GATEWAY, response(forwarded, 100))) == []
    assert statuses(stage.send(GATEWAY, response(forwarded, 183))) == []
    assert statuses(stage.send(GATEWAY, response(forwarded, 200))) == [200]
