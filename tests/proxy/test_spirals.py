"""A core behind an edge: calls between two of its phones pass twice, and one call may be forked to several of them."""

from __future__ import annotations

from typing import Any

from nattrav.config.sip import SipSection, Upstream
from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import CallState
from tests.proxy.playbook import GATEWAY, OTHER, PHONE, US, Arrival, Stage, register, request, response, sdp

CORE = GATEWAY
RELAY = "203.0.113.20"


def edge() -> Stage:
    sip = SipSection.model_validate({"mode": "edge", "domains": ["example.org"]})
    upstream = Upstream.model_validate({"name": "core", "target": str(CORE), "domains": ["example.org"]})
    return Stage(sip=sip, upstreams=[upstream])


def path_of(stage: Stage, user: str, source: TransportAddress, private: str) -> str:
    """Register a phone through the edge; give the Path that the core keeps."""
    text = register(user, private=private, branch=f"z9hG4bK{user}", call_id=user)
    text = text.replace(f"<sip:{user}@{US}>", f"<sip:{user}@example.org>").replace(f"sip:{US} ", "sip:example.org ")
    (forwarded,) = stage.send(source, text)
    path = forwarded.message.paths[0].text
    contact = f"<sip:{user}@{private}>;expires=3600"
    stage.send(CORE, response(forwarded, 200, contact=contact, headers=f"Path: {path}\r\n"))
    return path


def through_core(arrival: Arrival, target: str, route: str, branch: str = "z9hG4bKcore") -> str:
    """What a proxy core makes of a request: its Via and Record-Route on top, the phone as target, our Path as Route."""
    text = arrival.text.replace(arrival.line, f"{arrival.message.start_line.split()[0]} {target} SIP/2.0", 1)
    head = f"Via: SIP/2.0/UDP 203.0.113.80;branch={branch}\r\nRecord-Route: <sip:203.0.113.80;lr>\r\nRoute: {route}\r\n"
    return text.replace("Via:", head + "Via:", 1)


def back_through_core(arrival: Arrival) -> str:
    """A response on its way back: the core's Via comes off."""
    lines = arrival.text.split("\r\n")
    lines.remove(next(line for line in lines if line.startswith("Via:")))
    return "\r\n".join(lines)


def a_calls_b(stage: Stage) -> tuple[Arrival, Arrival]:
    """Alice calls bob through the core; give the INVITE as bob gets it and the 200 as alice gets it."""
    path = path_of(stage, "bob", OTHER, "10.0.0.6:5060")
    first = stage.send(PHONE, request("INVITE", "sip:bob@example.org", body=sdp("10.0.0.5")))[-1]
    assert first.to == CORE
    second = stage.send(CORE, through_core(first, "sip:bob@10.0.0.6:5060", path))[-1]
    assert second.to == OTHER
    (up,) = stage.send(OTHER, response(second, 200, contact="<sip:bob@10.0.0.6:5060>", body=sdp("10.0.0.6")))
    assert up.to == CORE
    (ok,) = stage.send(CORE, back_through_core(up))
    assert ok.to == PHONE
    return second, ok


def inside(method: str, ok: Arrival, **more: Any) -> str:
    routes = "".join(f"Route: {value.text}\r\n" for value in reversed(ok.message.record_routes))
    settings: dict[str, Any] = {
        "branch": f"z9hG4bK{method}",
        "to": "<sip:bob@203.0.113.10>;tag=bt",
        "cseq": 2,
        "headers": routes,
        **more,
    }
    return request(method, "sip:bob@10.0.0.6:5060", **settings)


def onward(arrival: Arrival) -> str:
    """A request inside the dialog as the core passes it on: its own Route entry used up, its Via on top."""
    routes = arrival.message.all("route")
    assert "203.0.113.80" in routes[0]
    text = arrival.text.replace(f"Route: {routes[0]}\r\n", "", 1)
    return text.replace("Via:", "Via: SIP/2.0/UDP 203.0.113.80;branch=z9hG4bKcore2\r\nVia:", 1)


def test_both_passes_of_a_call_have_their_own_session_at_the_relay() -> None:
    stage = edge()
    a_calls_b(stage)
    asked = [(command, arguments["call-id"]) for command, arguments in stage.relay.asked]
    one, two = asked[0][1], asked[1][1]
    assert one != two
    assert asked == [("offer", one), ("offer", two), ("answer", two), ("answer", one)]
    flags = [set(arguments["flags"]) for _, arguments in stage.relay.asked]
    assert ["SIP-source-address" in one for one in flags] == [True, False, True, False]
    assert len(stage.proxy.rooms.calls) == 2


def test_requests_inside_the_call_find_their_way_through_both_passes_and_back() -> None:
    stage = edge()
    _, ok = a_calls_b(stage)
    (to_core,) = stage.send(PHONE, inside("BYE", ok))
    assert to_core.to == CORE
    (to_bob,) = stage.send(CORE, onward(to_core))
    assert (to_bob.to, to_bob.line) == (OTHER, "BYE sip:bob@10.0.0.6:5060 SIP/2.0")
    (up,) = stage.send(OTHER, response(to_bob, 200, tag=None))
    (down,) = stage.send(CORE, back_through_core(up))
    assert (down.to, down.line) == (PHONE, "SIP/2.0 200 Whatever")
    assert [command for command, _ in stage.relay.asked[-2:]] == ["delete", "delete"]
    assert len({arguments["call-id"] for _, arguments in stage.relay.asked[-2:]}) == 2
    assert [record["cause"] for record in stage.records] == ["bye", "bye"]
    assert len(stage.proxy.rooms.calls) == 0


def test_the_callee_ends_the_call_through_both_passes() -> None:
    stage = edge()
    second, _ = a_calls_b(stage)
    routes = "".join(f"Route: {value.text}\r\n" for value in second.message.record_routes)
    bye = request(
        "BYE",
        "sip:alice@10.0.0.5:5060",
        via="10.0.0.6:5060",
        branch="z9hG4bKbb",
        from_="<sip:bob@203.0.113.10>;tag=bt",
        to="<sip:alice@203.0.113.10>;tag=at",
        cseq=5,
        headers=routes,
    )
    (to_core,) = stage.send(OTHER, bye)
    assert to_core.to == CORE
    (to_alice,) = stage.send(CORE, onward(to_core))
    assert (to_alice.to, to_alice.line) == (PHONE, "BYE sip:alice@10.0.0.5:5060 SIP/2.0")


def test_the_ack_passes_twice_as_well() -> None:
    stage = edge()
    _, ok = a_calls_b(stage)
    (to_core,) = stage.send(PHONE, inside("ACK", ok, cseq=1))
    (to_bob,) = stage.send(CORE, onward(to_core))
    assert (to_core.to, to_bob.to) == (CORE, OTHER)


def test_after_a_restart_both_passes_are_taken_up_again() -> None:
    _, ok = a_calls_b(edge())
    stage = edge()
    to_core = stage.send(PHONE, inside("INVITE", ok, body=sdp("10.0.0.5")))[-1]
    assert (to_core.to, RELAY in to_core.text) == (CORE, True)
    to_bob = stage.send(CORE, onward(to_core))[-1]
    assert (to_bob.to, RELAY in to_bob.text) == (OTHER, True)
    assert len({arguments["call-id"] for _, arguments in stage.relay.asked}) == 2
    assert len(stage.proxy.rooms.calls) == 2


# ---- a core that forks


def forked_by_the_core(stage: Stage) -> list[Arrival]:
    rings = []
    for number, source in enumerate((PHONE, OTHER)):
        path = path_of(stage, f"bob{number}", source, f"10.0.0.{number + 5}:5060")
        text = request(
            "INVITE",
            f"sip:bob{number}@10.0.0.{number + 5}:5060",
            via="203.0.113.80",
            branch=f"z9hG4bKfork{number}",
            call_id="fork",
            headers=f"Route: {path}\r\n",
            body=sdp("203.0.113.80"),
        )
        rings.append(stage.send(CORE, text)[-1])
    assert [ring.to for ring in rings] == [PHONE, OTHER]
    return rings


def test_a_phone_that_refuses_does_not_end_the_call_that_rings_elsewhere() -> None:
    stage = edge()
    one, two = forked_by_the_core(stage)
    branches = [arguments.get("via-branch") for command, arguments in stage.relay.asked if command == "offer"]
    assert len({*branches, None}) == 3
    stage.send(PHONE, response(one, 486))
    (call,) = stage.proxy.rooms.calls
    assert call.state is CallState.EARLY
    assert [(command, arguments["via-branch"]) for command, arguments in stage.relay.asked[2:]] == [
        ("delete", branches[0])
    ]
    (ok,) = stage.send(OTHER, response(two, 200, body=sdp("10.0.0.6")))
    assert RELAY in ok.text
    assert call.state is CallState.CONFIRMED


def test_when_the_last_phone_refuses_the_call_is_over() -> None:
    stage = edge()
    one, two = forked_by_the_core(stage)
    stage.send(PHONE, response(one, 486))
    stage.send(OTHER, response(two, 480))
    assert len(stage.proxy.rooms.calls) == 0
    assert [record["code"] for record in stage.records] == [480]
    assert "via-branch" not in stage.relay.asked[-1][1]
