"""Connections that close under transactions and dialogs."""

from __future__ import annotations

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import Flow, Target, listener_id
from tests.proxy.playbook import GATEWAY, PHONE, US, Arrival, Stage, register, request, response, sdp, udp_listener

AGAIN = TransportAddress(PHONE.host, 45555)
ROUTE = TransportAddress(US, 5060)


def stage(**more: object) -> Stage:
    tcp = Listener(listener_id("tcp", ROUTE), "tcp", ROUTE, US, 5060)
    sip = SipSection.model_validate({"registrar": {"authentication": "none"}})
    return Stage(sip=sip, listeners=[udp_listener(), tcp], **more)  # type: ignore[arg-type]


def connected(stage: Stage, source: TransportAddress = PHONE, serial: int = 1, cseq: int = 1) -> Flow:
    """A phone that registered over a connection of its own."""
    flow = stage.flow(source, "tcp", serial)
    stage.proxy.flow_opened(flow)
    text = register(branch=f"z9hG4bKr{serial}", cseq=cseq).replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    assert stage.send(flow, text)[-1].line == "SIP/2.0 200 OK"
    return flow


def closes(stage: Stage, flow: Flow) -> list[Arrival]:
    return stage._carry_out(stage.proxy.flow_closed(flow, stage.now))


def calls_alice(stage: Stage) -> Arrival:
    text = request(
        "INVITE",
        f"sip:alice@{US}",
        via="203.0.113.80",
        from_="<sip:gw@203.0.113.80>;tag=gt",
        to=f"<sip:alice@{US}>",
        contact="<sip:gw@203.0.113.80>",
        body=sdp("203.0.113.80"),
    )
    return stage.send(GATEWAY, text)[-1]


def bye(accepted: Arrival, branch: str = "z9hG4bKbye", *, routed: bool = True) -> str:
    routes = "".join(f"Route: {one}\r\n" for one in reversed(accepted.message.all("record-route")))
    return request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="203.0.113.80",
        branch=branch,
        from_="<sip:gw@203.0.113.80>;tag=gt",
        to=f"<sip:alice@{US}>;tag=bt",
        cseq=2,
        headers=routes if routed else "",
    )


def test_a_call_to_a_phone_whose_connection_closes_fails_at_once() -> None:
    staged = stage()
    flow = connected(staged)
    assert calls_alice(staged).to == PHONE
    (refused,) = closes(staged, flow)
    assert refused.line == "SIP/2.0 480 Temporarily Unavailable"
    assert staged.proxy.parts.transactions.on_streams == {}


def test_a_phone_that_rings_may_answer_over_another_connection() -> None:
    staged = stage()
    flow = connected(staged)
    invite = calls_alice(staged)
    staged.send(flow, response(invite, 180))
    assert closes(staged, flow) == []
    other = staged.flow(AGAIN, "tcp", 2)
    staged.proxy.flow_opened(other)
    (accepted,) = staged.send(other, response(invite, 200, contact="<sip:alice@10.0.0.5:5060>"))
    assert accepted.to == GATEWAY


def test_an_upstream_that_closes_an_idle_connection_gets_the_request_over_a_new_one() -> None:
    gateway = Upstream.model_validate({"name": "gw", "target": f"sip:{GATEWAY};transport=tcp"})
    staged = stage(upstreams=[gateway])
    flow = staged.flow(GATEWAY, "tcp", 7)
    staged.proxy.flow_opened(flow)
    sent = staged.send(PHONE, request("INVITE", f"sip:+431@{US}", body=sdp("10.0.0.5")))[-1]
    assert sent.flow == flow
    again = closes(staged, flow)[-1]
    assert isinstance(again.flow, Target)
    assert again.to == GATEWAY
    assert again.message.via.branch != sent.message.via.branch
    (refused,) = staged._carry_out(staged.proxy.unreachable(str(again.message.via.branch), staged.now))
    assert refused.line == "SIP/2.0 500 Server Internal Error"


def test_a_request_to_a_party_whose_connection_closed_is_430() -> None:
    staged = stage()
    flow = connected(staged)
    accepted = staged.send(flow, response(calls_alice(staged), 200, contact="<sip:alice@10.0.0.5:5060>"))[-1]
    closes(staged, flow)
    assert staged.send(GATEWAY, bye(accepted))[-1].line == "SIP/2.0 430 Flow Failed"
    assert staged.send(GATEWAY, bye(accepted, "z9hG4bKb2", routed=False))[-1].line == "SIP/2.0 430 Flow Failed"


def test_a_party_that_registered_again_gets_the_requests_of_its_dialog_there() -> None:
    staged = stage()
    flow = connected(staged)
    accepted = staged.send(flow, response(calls_alice(staged), 200, contact="<sip:alice@10.0.0.5:5060>"))[-1]
    closes(staged, flow)
    connected(staged, AGAIN, 2, cseq=2)
    assert staged.send(GATEWAY, bye(accepted))[-1].to == AGAIN
    assert staged.send(GATEWAY, bye(accepted, "z9hG4bKb2", routed=False))[-1].to == AGAIN


def test_connections_of_finished_transactions_leave_nothing() -> None:
    staged = stage()
    flow = connected(staged)
    invite = calls_alice(staged)
    staged.send(flow, response(invite, 486))
    staged.wait(40)
    assert staged.proxy.parts.transactions.on_streams == {}
