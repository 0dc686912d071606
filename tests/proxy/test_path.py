"""A registrar behind edges: what registered through one is reached by its Path (RFC 3327)."""

from __future__ import annotations

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, Target, listener_id
from tests.proxy.playbook import PHONE, US, Arrival, Stage, register, request, sdp, udp_listener

EDGE = TransportAddress("203.0.113.50", 5060)
BOUND = TransportAddress(US, 5060)
TCP = Listener(listener_id("tcp", BOUND), "tcp", BOUND, US, 5060)


def stage() -> Stage:
    edge = Upstream.model_validate({"name": "edge", "target": EDGE.host, "prefixes": ["none"]})
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    return Stage(sip=sip, upstreams=[edge], listeners=[udp_listener(), TCP])


def registered(stage: Stage, path: str = f"<sip:token@{EDGE};transport=tcp;lr>") -> Flow:
    flow = stage.flow(TransportAddress(EDGE.host, 42000), "tcp", 5)
    stage.proxy.flow_opened(flow)
    text = register(headers=f"Supported: path\r\nPath: {path}\r\n").replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    assert stage.send(flow, text)[-1].line == "SIP/2.0 200 OK"
    return flow


def calls(stage: Stage) -> Arrival:
    return stage.send(PHONE, request("INVITE", f"sip:alice@{US}", body=sdp("10.0.0.5")))[-1]


def test_a_call_goes_by_the_connection_of_the_edge_with_its_path_as_route() -> None:
    staged = stage()
    flow = registered(staged)
    invite = calls(staged)
    assert invite.flow == flow
    assert invite.message.first("route") == f"<sip:token@{EDGE};transport=tcp;lr>"


def test_when_the_edge_closes_its_connection_the_path_is_still_known() -> None:
    staged = stage()
    staged.proxy.flow_closed(registered(staged), staged.now)
    invite = calls(staged)
    assert invite.flow == Target("tcp", EDGE, "")
    assert invite.line == "INVITE sip:alice@10.0.0.5:5060 SIP/2.0"
    assert invite.message.first("route") == f"<sip:token@{EDGE};transport=tcp;lr>"


def test_a_path_with_a_name_is_looked_up() -> None:
    staged = stage()
    staged.proxy.flow_closed(registered(staged, "<sip:token@edge.example.net;transport=tcp;lr>"), staged.now)
    staged.any_name = [("tcp", (EDGE.host, EDGE.port), "edge.example.net")]
    assert calls(staged).flow == Target("tcp", EDGE, "edge.example.net")


def test_a_restart_keeps_what_is_reached_by_path() -> None:
    staged = stage()
    registered(staged)
    staged.proxy.parts.connections.clear()
    staged.proxy.restore(staged.now)
    assert isinstance(calls(staged).flow, Target)


def test_a_path_that_a_phone_writes_is_no_way_to_anybody() -> None:
    staged = stage()
    phone = staged.flow(PHONE, "tcp", 7)
    staged.proxy.flow_opened(phone)
    text = register(headers="Supported: path\r\nPath: <sip:192.0.2.66;transport=tcp;lr>\r\n")
    told = staged.send(phone, text.replace("SIP/2.0/UDP", "SIP/2.0/TCP"))[-1]
    assert (told.line, told.message.has("path")) == ("SIP/2.0 200 OK", False)
    assert calls(staged).flow == phone
    staged.proxy.flow_closed(phone, staged.now)
    assert len(staged.proxy.rooms.location) == 0
