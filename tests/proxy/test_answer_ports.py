"""T3: phones that send from one port, name another in their Via, and ask for no rport."""

from __future__ import annotations

import pytest

from nattrav.config.sip import SipSection
from nattrav.net.address import TransportAddress
from nattrav.proxy.answer_ports import KNOWN_LIMIT, AnswerPorts
from nattrav.sip.message import Request
from nattrav.sip.transport.flow import Flow
from tests.proxy.playbook import PHONE, US, Stage, readable, request

VIA = f"{PHONE.host}:5062"
NAMED = TransportAddress(PHONE.host, 5062)


def options(number: int = 1, agent: str = "Acme/1", rport: str = "") -> str:
    headers = f"User-Agent: {agent}\r\n"
    return request(
        "OPTIONS", f"sip:{US}", via=VIA, rport=rport, branch=f"z9hG4bK{number}", contact=None, headers=headers
    )


def answered_at(stage: Stage, text: str) -> TransportAddress:
    (answer,) = stage.send(PHONE, text)
    return answer.to


def test_a_retransmission_is_answered_at_the_other_port_and_so_is_what_follows() -> None:
    stage = Stage()
    assert answered_at(stage, options()) == NAMED
    assert answered_at(stage, options()) == PHONE
    assert answered_at(stage, options(2)) == PHONE
    assert answered_at(stage, options(3, agent="Other/1")) == NAMED


def test_a_loss_is_repaired_by_the_next_retransmission() -> None:
    stage = Stage()
    for expected in (NAMED, PHONE, NAMED, PHONE):
        assert answered_at(stage, options()) == expected


@pytest.mark.parametrize(("policy", "expected"), [("never", NAMED), ("always", PHONE)])
def test_where_the_operator_decided_nothing_is_tried(policy: str, expected: TransportAddress) -> None:
    stage = Stage(sip=SipSection.model_validate({"registrar": {"authentication": "none"}, "force_rport": policy}))
    for _ in range(3):
        assert answered_at(stage, options()) == expected


def test_who_asks_for_rport_is_answered_there_always() -> None:
    stage = Stage()
    for _ in range(3):
        assert answered_at(stage, options(rport=";rport")) == PHONE


def test_the_table_is_bounded() -> None:
    ports = AnswerPorts()
    asked = readable(options().encode())
    assert isinstance(asked, Request)
    for number in range(KNOWN_LIMIT + 5):
        source = TransportAddress(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060)
        ports.try_other(Flow("udp", 1, TransportAddress(US, 5060), source), asked)
    assert len(ports) == KNOWN_LIMIT
