"""Requests to TLS peers over the connections that they opened themselves (RFC 5923)."""

from __future__ import annotations

from typing import Any

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, Target, listener_id
from tests.proxy.playbook import PHONE, US, Arrival, Stage, request, sdp, udp_listener

PEER = TransportAddress("203.0.113.90", 45000)
ADVERTISED = TransportAddress(PEER.host, 5061)
BOUND = TransportAddress(US, 5061)


def stage(**tls: Any) -> Stage:
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}, "tls": tls})
    peer = Upstream.model_validate(
        {"name": "peer", "target": "sip:peer.example.net;transport=tls", "sources": [PEER.host]}
    )
    secure = Listener(listener_id("tls", BOUND), "tls", BOUND, US, 5061)
    made = Stage(sip=sip, upstreams=[peer], listeners=[udp_listener(), secure])
    made.names["sip:peer.example.net;transport=tls"] = [("tls", tuple(ADVERTISED), "peer.example.net")]
    return made


def connects(stage: Stage, *names: str, via: str = "peer.example.net", alias: str = ";alias") -> Flow:
    """The peer connects, proves to be somebody, and sends a request."""
    flow = stage.flow(PEER, "tls", 9)
    stage.proxy.flow_opened(flow)
    if names:
        stage.proxy.peer_proved(flow, names)
    stage.send(flow, request("OPTIONS", f"sip:{US}", via=via, branch="z9hG4bKo", rport=alias, transport="TLS"))
    return flow


def calls(stage: Stage) -> Arrival:
    return stage.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]


def test_a_peer_that_proved_its_name_and_asks_for_it_gets_requests_over_its_connection() -> None:
    staged = stage()
    flow = connects(staged, "peer.example.net")
    assert calls(staged).flow == flow


def test_without_a_certificate_a_new_connection_is_opened() -> None:
    staged = stage()
    connects(staged)
    assert calls(staged).flow == Target("tls", ADVERTISED, "peer.example.net")


def test_without_alias_a_new_connection_is_opened() -> None:
    staged = stage()
    connects(staged, "peer.example.net", alias="")
    assert isinstance(calls(staged).flow, Target)


def test_a_certificate_for_another_name_is_no_proof() -> None:
    staged = stage()
    connects(staged, "evil.example.net")
    assert isinstance(calls(staged).flow, Target)
    staged = stage()
    connects(staged, "evil.example.net", via="evil.example.net")
    assert isinstance(calls(staged).flow, Target)
    assert len(staged.proxy.parts.reuse) == 1


def test_a_connection_that_closed_serves_nobody_and_leaves_nothing() -> None:
    staged = stage()
    flow = connects(staged, "peer.example.net")
    staged.proxy.flow_closed(flow, staged.now)
    assert isinstance(calls(staged).flow, Target)
    assert len(staged.proxy.parts.reuse) == 0


def test_over_udp_and_tcp_an_alias_means_nothing() -> None:
    staged = stage()
    text = request("OPTIONS", f"sip:{US}", via="peer.example.net", branch="z9hG4bKu", rport=";rport;alias")
    staged.send(TransportAddress(PEER.host, 5060), text)
    assert len(staged.proxy.parts.reuse) == 0


def test_we_ask_for_it_on_connections_of_ours_when_we_have_a_certificate_to_show() -> None:
    assert calls(stage(certificate="/etc/nattrav/edge.pem")).message.via.text.endswith(";alias")
    assert "alias" not in calls(stage()).message.via.params
    staged = stage(certificate="/etc/nattrav/edge.pem")
    flow = Flow("tls", listener_id("tls", BOUND), BOUND, ADVERTISED, 4)
    staged.proxy.flow_opened(flow, accepted=False)
    sent = calls(staged)
    assert (sent.flow, "alias" in sent.message.via.params) == (flow, True)
