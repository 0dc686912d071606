"""Branches: unique, unguessable, and telling loops from spirals."""

from __future__ import annotations

import pytest

from nattrav.sip.branch import BranchMaker, loop_part_of
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted

TEXT = (
    "INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nRoute: <sip:p;lr>\r\n"
    "From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n"
)


def request(*changes: tuple[str, str]) -> Request:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    message = parse_datagram_untrusted(text.encode())
    assert isinstance(message, Request)
    return message


def test_branches_are_new_each_time_and_the_same_for_the_same_key() -> None:
    one, again, other = BranchMaker(b"k" * 32), BranchMaker(b"k" * 32), BranchMaker(b"l" * 32)
    made = [one.new("loop") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(branch.startswith("z9hG4bK") for branch in made)
    assert made == [again.new("loop") for _ in range(1000)]
    assert other.new("loop") not in made


def test_the_loop_part_is_read_back_from_our_branches_only() -> None:
    maker = BranchMaker(b"k")
    part = maker.loop_part(request())
    assert loop_part_of(maker.new(part)) == part
    for foreign in (None, "", "z9hG4bK", "z9hG4bKabc-def", "1234", "z9hG4bK776asdhds"):
        assert loop_part_of(foreign) is None


@pytest.mark.parametrize(
    "change",
    [
        ("sip:b@example.com", "sip:c@example.com"),
        ("<sip:p;lr>", "<sip:q;lr>"),
        ("tag=1", "tag=2"),
        ("<sip:b@h>", "<sip:b@h>;tag=9"),
        ("Call-ID: x", "Call-ID: y"),
        ("CSeq: 1 ", "CSeq: 2 "),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nProxy-Require: z"),
        ("Max-Forwards: 70", 'Max-Forwards: 70\r\nProxy-Authorization: Digest realm="r"'),
    ],
)
def test_what_steers_routing_is_in_the_loop_part(change: tuple[str, str]) -> None:
    maker = BranchMaker(b"k")
    assert maker.loop_part(request(change)) != maker.loop_part(request())


@pytest.mark.parametrize(
    "changes",
    [
        [("INVITE", "CANCEL")],
        [("z9hG4bKa", "z9hG4bKb")],
        [("Max-Forwards: 70", "Max-Forwards: 60")],
        [("Via:", "Via: SIP/2.0/UDP us;branch=z9hG4bKc\r\nVia:")],
    ],
)
def test_neither_method_nor_via_nor_hops_are_in_it(changes: list[tuple[str, str]]) -> None:
    maker = BranchMaker(b"k")
    assert maker.loop_part(request(*changes)) == maker.loop_part(request())


def test_a_stateless_branch_is_the_same_for_a_retransmission_and_another_for_another_hop() -> None:
    maker = BranchMaker(b"k")
    assert maker.stateless(request()) == maker.stateless(request())
    assert maker.stateless(request(("z9hG4bKa", "z9hG4bKb"))) != maker.stateless(request())
    old = (";branch=z9hG4bKa", "")
    assert maker.stateless(request(old)) == maker.stateless(request(old))
    assert maker.stateless(request(old, ("CSeq: 1 ", "CSeq: 2 "))) != maker.stateless(request(old))
