"""Upstreams are asked with OPTIONS; two silences or a 503 mean down, any other answer means up."""

from __future__ import annotations

from nattrav.config.sip import Upstream
from nattrav.proxy.effects import Log, Lookup, Send
from nattrav.proxy.upstreams import UpstreamState
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond
from tests.proxy.playbook import GATEWAY, Stage


class Probed:
    """A core whose only upstream is probed every 30 s; answers are given or withheld by the test."""

    def __init__(self) -> None:
        stage = Stage(upstreams=[Upstream.model_validate({"name": "gw", "target": str(GATEWAY)})])
        self.core = stage.proxy
        self.state: UpstreamState = self.core.rooms.upstreams.all[0]
        self.asked: list[tuple[float, Request, Send]] = []
        self.logged: list[str] = []
        self.core.restore(0.0)

    def run(self, start: float, end: float, status: int | None) -> None:
        """Let time pass; every probe gets that answer at once, or none."""
        now = start
        while now <= end:
            effects = self.core.handle_timeout(now)
            while effects:
                effect = effects.pop(0)
                if isinstance(effect, Lookup):
                    effects += self.core.next_hops(effect.request, [("udp", tuple(GATEWAY), None)], now)
                elif isinstance(effect, Send):
                    request = parse_datagram_untrusted(effect.data)
                    assert isinstance(request, Request)
                    self.asked.append((now, request, effect))
                    if status is not None:
                        effects += self.core.receive(effect.flow, respond(request, status, to_tag="t"), now + 0.02)
                elif isinstance(effect, Log):
                    self.logged.append(effect.event)
            now += 0.25


def test_an_upstream_that_answers_is_up_and_its_round_trip_known() -> None:
    probed = Probed()
    probed.run(0.0, 40.0, 200)
    assert [at for at, _, _ in probed.asked] == [0.5, 30.75]
    assert probed.asked[0][1].method == "OPTIONS"
    assert probed.asked[0][2].flow.remote == GATEWAY
    assert probed.state.up
    assert probed.state.round_trip is not None
    assert abs(probed.state.round_trip - 0.02) < 1e-6


def test_a_response_that_refuses_the_method_still_means_up() -> None:
    probed = Probed()
    probed.run(0.0, 5.0, 405)
    assert probed.state.up


def test_two_silences_mean_down_and_an_answer_means_up_again() -> None:
    probed = Probed()
    probed.run(0.0, 7.0, None)
    assert probed.state.up, "one loss proves nothing"
    probed.run(7.25, 14.0, None)
    assert not probed.state.up
    assert probed.logged == ["upstream_down"]
    probed.run(14.25, 30.0, 200)
    assert probed.state.up
    assert probed.logged == ["upstream_down", "upstream_up"]


def test_a_draining_upstream_is_left_alone() -> None:
    probed = Probed()
    probed.run(0.0, 2.0, 503)
    assert not probed.state.up
