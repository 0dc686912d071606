"""A second make of phone: linphone behind a symmetric NAT calls and is called."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from tests.natlab import edges
from tests.natlab.capture import Capture
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory
from tests.natlab.linphone import Linphone
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.tones import CALLEE, CALLER, verdict

pytestmark = [pytest.mark.lab, pytest.mark.interop, pytest.mark.slow]
SECONDS = 3.0


@pytest.fixture(scope="module")
def town(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[Town]:
    if shutil.which("linphonec") is None:
        pytest.skip("needs linphonec: apt install linphone-cli")
    with Town(laboratory, edges.NattravEdge(laboratory, ("caller", "callee")), capture) as made:
        yield made


def linphone(town: Town, name: str, *, answer: bool) -> Linphone:
    host = town.laboratory.subscriber(name, Kind.SYMMETRIC).phone
    return Linphone(host, name, BUNDLE, town.laboratory.directory / name, CALLER, answer=answer)


def talk(town: Town, phone: Linphone, begin: float) -> str:
    """Wait until both sides are up, talk, hang up at the phone; returns the verdict from the phone's point of view."""
    town.gateway.wait_established(since=begin)
    phone.wait_established()
    time.sleep(SECONDS)
    phone.hang_up()
    town.gateway.wait("CALL_CLOSED", since=begin)
    time.sleep(0.5)
    return verdict(phone.heard(CALLEE), town.gateway.heard(CALLER), expected_seconds=SECONDS)


def test_linphone_calls_the_gateway_and_both_hear_each_other(town: Town, capture: Capture) -> None:
    gateway, begin = town.gateway, time.monotonic()
    with linphone(town, "caller", answer=False) as phone:
        phone.dial(NUMBER)
        assert talk(town, phone, begin) == "both", f"{phone.heard(CALLEE)} {gateway.heard(CALLER)}\n{capture.ladder()}"
    offered = capture.first(
        lambda one: one.message.is_request("INVITE") and one.packet.destination[0] == GATEWAY, what="INVITE"
    )
    assert offered.message.media[0][0] == BUNDLE


def test_linphone_is_called_and_both_hear_each_other(town: Town, capture: Capture) -> None:
    gateway = town.gateway
    with linphone(town, "callee", answer=True) as phone:
        begin = time.monotonic()
        gateway.dial("callee")
        assert talk(town, phone, begin) == "both", f"{phone.heard(CALLEE)} {gateway.heard(CALLER)}\n{capture.ladder()}"
