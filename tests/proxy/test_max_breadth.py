"""Max-Breadth (RFC 5393 §5): how many branches of one request may be under way at a time, all proxies together."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from tests.proxy.playbook import GATEWAY, US, Arrival, Stage, register, request, response


def ring(stage: Stage, *, contacts: int, header: str = "", q: str = "") -> list[Arrival]:
    """Register that many phones of bob, call him, and give what left."""
    for number in range(contacts):
        contact = f"<sip:bob@10.0.0.{number}:5060>{q.format(number)}"
        text = register("bob", branch=f"z9hG4bKr{number}", call_id=f"r{number}", contact=contact)
        stage.send(TransportAddress("198.51.100.30", 7000 + number), text)
    return stage.send(GATEWAY, request("INVITE", f"sip:bob@{US}", via="203.0.113.80", headers=header))


def breadths(arrivals: list[Arrival]) -> list[str | None]:
    return sorted(str(a.message.first("max-breadth")) for a in arrivals if a.line.startswith("INVITE"))


@pytest.mark.parametrize(
    ("header", "contacts", "expected"),
    [
        ("", 1, ["60"]),
        ("", 2, ["30", "30"]),
        ("", 7, ["8", "8", "8", "9", "9", "9", "9"]),
        ("Max-Breadth: 5\r\n", 2, ["2", "3"]),
        ("Max-Breadth: 1\r\n", 1, ["1"]),
        ("max-breadth: 200\r\n", 1, ["60"]),
        ("Max-Breadth: many\r\n", 1, ["60"]),
    ],
)
def test_the_breadth_of_a_request_is_split_over_its_parallel_branches(
    header: str, contacts: int, expected: list[str]
) -> None:
    assert breadths(ring(Stage(), contacts=contacts, header=header)) == expected


@pytest.mark.parametrize(("header", "contacts"), [("Max-Breadth: 2\r\n", 3), ("Max-Breadth: 0\r\n", 1)])
def test_a_request_whose_breadth_does_not_reach_is_440_and_nobody_rings(header: str, contacts: int) -> None:
    arrivals = ring(Stage(), contacts=contacts, header=header)
    assert [a.line for a in arrivals] == ["SIP/2.0 100 Trying", "SIP/2.0 440 Max-Breadth Exceeded"]


def test_destinations_tried_in_turn_have_the_whole_breadth_each() -> None:
    stage = Stage()
    arrivals = ring(stage, contacts=2, header="Max-Breadth: 1\r\n", q=";q=0.{}")
    (first,) = [a for a in arrivals if a.line.startswith("INVITE")]
    second = stage.send(first.to, response(first, 480))
    assert breadths([first]) == breadths(second) == ["1"]


def test_a_request_inside_a_dialog_keeps_its_breadth() -> None:
    stage = Stage()
    _, forwarded = ring(stage, contacts=1)
    stage.send(forwarded.to, response(forwarded, 200))
    route = "".join(f"Route: {value.text}\r\n" for value in forwarded.message.record_routes)
    bye = request(
        "BYE",
        "sip:bob@10.0.0.0:5060",
        via="203.0.113.80",
        branch="z9hG4bKb",
        to="<sip:bob@x>;tag=bt",
        cseq=2,
        headers=f"{route}Max-Breadth: 7\r\n",
    )
    (down,) = stage.send(GATEWAY, bye)
    assert down.message.first("max-breadth") == "7"
