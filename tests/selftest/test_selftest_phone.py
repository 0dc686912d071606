from __future__ import annotations

import itertools

from nattrav.net.address import TransportAddress
from nattrav.selftest.phone import Effect, News, Phone, Send, Tell, media_address
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.response import respond


def phone(user: str, host: str) -> Phone:
    numbers = itertools.count()
    return Phone(
        user,
        "example.net",
        TransportAddress(host, 5060),
        TransportAddress(host, 4000),
        lambda: f"{user}{next(numbers)}",
    )


def sent(effects: list[Effect]) -> list[bytes]:
    return [effect.data for effect in effects if isinstance(effect, Send)]


def news(effects: list[Effect]) -> list[Tell]:
    return [effect for effect in effects if isinstance(effect, Tell)]


def request(data: bytes) -> Request:
    message = parse_datagram_untrusted(data)
    assert isinstance(message, Request)
    return message


def test_a_registration_is_retransmitted_until_it_is_answered() -> None:
    alice = phone("alice", "10.0.0.2")
    (first,) = sent(alice.register(60, now=0.0))
    assert alice.next_timeout() == 0.5
    assert sent(alice.handle_timeout(0.5)) == [first]
    assert sent(alice.handle_timeout(1.5)) == [first]
    answer = respond(request(first), 200, to_tag="r", headers=[("Contact", alice.contact + ";expires=60")])
    assert [tell.news for tell in news(alice.receive(answer, 2.0))] == [News.REGISTERED]
    assert alice.registered
    assert alice.next_timeout() is None


def test_a_registration_nobody_answers_fails_after_eight_seconds() -> None:
    alice = phone("alice", "10.0.0.2")
    alice.register(60, now=0.0)
    assert [tell.news for tell in news(alice.handle_timeout(8.0))] == [News.REGISTRATION_FAILED]
    assert alice.next_timeout() is None


def test_the_mapped_address_is_read_from_the_response() -> None:
    alice = phone("alice", "10.0.0.2")
    (register,) = sent(alice.register(60, now=0.0))
    message = request(register)
    message.stamp(TransportAddress("198.51.100.7", 40001))
    alice.receive(respond(message, 200, to_tag="r", headers=[("Contact", alice.contact)]), 0.1)
    assert alice.mapped == TransportAddress("198.51.100.7", 40001)


def test_two_phones_call_answer_and_hang_up() -> None:
    alice, bob = phone("alice", "10.0.0.2"), phone("bob", "10.0.0.3")
    (invite,) = sent(alice.invite("bob", now=0.0))
    effects = bob.receive(invite, 0.1)
    ringing, ok = sent(effects)
    assert news(effects)[0].media == TransportAddress("10.0.0.2", 4000)
    assert [tell.news for tell in news(alice.receive(ringing, 0.2))] == [News.RINGING]
    answered = alice.receive(ok, 0.3)
    (ack,) = sent(answered)
    assert news(answered)[0].media == TransportAddress("10.0.0.3", 4000)
    assert sent(bob.handle_timeout(0.7)) == [ok], "the 200 is retransmitted until the ACK"
    assert [tell.news for tell in news(bob.receive(ack, 0.8))] == [News.CONFIRMED]
    (again,) = sent(alice.receive(ok, 0.9))
    assert request(again).method == "ACK"
    (bye,) = sent(alice.bye(1.0))
    over = bob.receive(bye, 1.1)
    assert [tell.news for tell in news(over)] == [News.ENDED]
    assert [tell.news for tell in news(alice.receive(sent(over)[0], 1.2))] == [News.ENDED]


def test_requests_in_the_dialog_follow_the_route_set() -> None:
    alice, bob = phone("alice", "10.0.0.2"), phone("bob", "10.0.0.3")
    (invite,) = sent(alice.invite("bob", now=0.0))
    head, _, body = invite.partition(b"\r\n\r\n")
    routed = head + b"\r\nRecord-Route: <sip:b@p2;lr>, <sip:a@p1;lr>\r\n\r\n" + body
    _, ok = sent(bob.receive(routed, 0.1))
    (ack,) = sent(alice.receive(ok, 0.2))
    assert request(ack).all("route") == ["<sip:a@p1;lr>", "<sip:b@p2;lr>"]
    (bye,) = sent(bob.bye(0.3))
    assert request(bye).all("route") == ["<sip:b@p2;lr>", "<sip:a@p1;lr>"]


def test_a_refused_call_is_acknowledged_and_told() -> None:
    alice = phone("alice", "10.0.0.2")
    (invite,) = sent(alice.invite("bob", now=0.0))
    effects = alice.receive(respond(request(invite), 486, to_tag="x"), 0.1)
    assert request(sent(effects)[0]).method == "ACK"
    assert news(effects) == [Tell(News.CALL_FAILED, "INVITE: 486 Busy Here")]


def test_a_keepalive_is_answered_and_rubbish_is_not() -> None:
    alice = phone("alice", "10.0.0.2")
    (register,) = sent(alice.register(60, now=0.0))
    options = register.replace(b"REGISTER", b"OPTIONS")
    assert sent(alice.receive(options, 0.1))[0].startswith(b"SIP/2.0 200 ")
    assert alice.receive(b"\0\0\0\0", 0.1) == []


def test_sdp_without_a_usable_address_gives_none() -> None:
    assert media_address("v=0\r\nm=audio 4000 RTP/AVP 0\r\n") is None
    assert media_address("c=IN IP4 host.example\r\nm=audio 4000 RTP/AVP 0\r\n") is None
    assert media_address("c=IN IP4 192.0.2.1\r\nm=audio 0 RTP/AVP 0\r\n") is None
