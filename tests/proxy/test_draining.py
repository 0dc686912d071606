"""A node that is being taken out of service: no new calls, those in progress go on, peers are told where to go."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection
from tests.proxy.playbook import GATEWAY, PHONE, US, Stage, request, response, sdp


def draining(**sip: object) -> Stage:
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, **sip}))
    stage.proxy.requests.draining = True
    return stage


def test_without_a_sibling_new_calls_get_503_and_are_told_when_to_come_back() -> None:
    (refused,) = draining().send(PHONE, request("INVITE", f"sip:+431@{US}"))
    assert (refused.line, refused.message.has("retry-after")) == ("SIP/2.0 503 Service Unavailable", True)


@pytest.mark.parametrize(
    ("sibling", "uri", "contact"),
    [
        ("203.0.113.11", f"sip:+431@{US}", "sip:+431@203.0.113.11"),
        ("edge2.example.org:5070;transport=tcp", "sip:bob@example.org", "sip:bob@edge2.example.org:5070;transport=tcp"),
        ("203.0.113.11", "tel:+43-1-234", "sip:+431234@203.0.113.11"),
    ],
)
def test_with_a_sibling_new_calls_are_sent_there(sibling: str, uri: str, contact: str) -> None:
    (moved,) = draining(sibling=sibling).send(PHONE, request("INVITE", uri))
    assert (moved.line, moved.message.first("contact")) == ("SIP/2.0 302 Moved Temporarily", f"<{contact}>")


def test_options_say_503_so_that_dispatchers_leave_and_calls_in_progress_go_on() -> None:
    stage = draining(sibling="203.0.113.11")
    stage.proxy.requests.draining = False
    _, forwarded = stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))
    (ok,) = stage.send(GATEWAY, response(forwarded, 200, body=sdp("203.0.113.80")))
    stage.proxy.requests.draining = True
    (answer,) = stage.send(GATEWAY, request("OPTIONS", f"sip:{US}", via="203.0.113.80", branch="z9hG4bKo"))
    assert answer.line == "SIP/2.0 503 Service Unavailable"
    routes = "".join(f"Route: {value.text}\r\n" for value in ok.message.record_routes)
    bye = request("BYE", "sip:bob@203.0.113.80", branch="z9hG4bKb", to="<sip:bob@x>;tag=bt", cseq=2, headers=routes)
    assert stage.send(PHONE, bye)[0].to == GATEWAY
