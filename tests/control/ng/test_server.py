from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.ng.codec_bencode import decode, encode
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.seal import Way, seal, unseal
from nattrav.control.ng.server import REPLY_LIMIT, Drop, Server, Stream, shortened
from tests.relay.planes import engine
from tests.sdp.samples import PHONE, sdp

LOCAL = "127.0.0.1"
KEY = b"0123456789abcdef"


def server(*, key: bytes | None = None) -> Server:
    return Server(Handler(engine()), allow=[ip_network("127.0.0.0/8"), ip_network("::1/128")], key=key)


def reply(datagram: bytes, source: str | None = LOCAL) -> bytes | None:
    return server().receive(datagram, source, 0.0, 0.0).reply


def test_a_ping_is_answered_with_its_cookie() -> None:
    assert reply(b"7a_1 d7:command4:pinge") == b"7a_1 d6:result4:ponge"


def test_json_is_answered_in_json() -> None:
    assert reply(b'7a_1 {"command":"ping"}') == b'7a_1 {"result":"pong"}'


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid data (no payload)"),
        (b"hello", "Invalid NG data format"),
        (b"le", "Invalid NG data format"),
        (b"d7:command", "Could not decode bencode dictionary"),
        (b"d7:command4:pingee", "Could not decode bencode dictionary"),
        (b"{", "Failed to parse JSON document"),
        (b"{} x", "Failed to parse JSON document"),
        (b"de", 'Dictionary contains no key "command"'),
        (b"d7:commandi1ee", 'Dictionary contains no key "command"'),
        (b"{}", 'Dictionary contains no key "command"'),
        (b"d7:command3:fooe", "Unrecognized command"),
    ],
)
def test_framing_errors_have_the_known_words(payload: bytes, reason: str) -> None:
    answered = reply(b"c " + payload)
    assert answered is not None
    assert answered.startswith(b"c ")
    assert reason.encode() in answered.replace(b'\\"', b'"')


@pytest.mark.parametrize("datagram", [b"", b"nospace", b" d7:command4:pinge", b"x" * 300 + b" de"])
def test_without_a_cookie_there_is_no_reply(datagram: bytes) -> None:
    asked = server()
    assert asked.receive(datagram, LOCAL, 0.0, 0.0).reply is None
    assert asked.drops == {Drop.NO_COOKIE: 1}


def test_only_listed_sources_are_answered() -> None:
    asked = server()
    assert asked.receive(b"c d7:command4:pinge", "192.0.2.1", 0.0, 0.0).reply is None
    assert asked.drops == {Drop.NOT_ALLOWED: 1}
    assert asked.receive(b"c d7:command4:pinge", "::1", 0.0, 0.0).reply is not None
    assert asked.receive(b"c d7:command4:pinge", None, 0.0, 0.0).reply is not None


def test_a_sealed_request_from_anywhere_gets_a_sealed_reply() -> None:
    asked = server(key=KEY)
    answered = asked.receive(seal(KEY, Way.REQUEST, b"c d7:command4:pinge", 50.0), "192.0.2.1", 0.0, 50.0).reply
    assert answered is not None
    assert unseal(KEY, Way.REPLY, answered, 50.0) == b"c d6:result4:ponge"


def test_a_broken_seal_is_dropped_and_counted() -> None:
    asked = server(key=KEY)
    assert asked.receive(seal(b"x" * 16, Way.REQUEST, b"c d7:command4:pinge", 50.0), LOCAL, 0.0, 50.0).reply is None
    assert asked.drops == {Drop.BAD_SEAL: 1}


def test_a_repeated_cookie_gets_the_stored_octets() -> None:
    asked = server()
    offer = {"sdp": sdp(*PHONE), "call-id": "c", "from-tag": "a", "command": "offer"}
    first = asked.receive(b"1 " + encode(offer), LOCAL, 0.0, 0.0)
    again = asked.receive(b"1 " + encode({"command": "ping"}), LOCAL, 10.0, 0.0)
    assert again.reply == first.reply
    assert again.result == "duplicate"


def test_a_guessed_cookie_gives_another_host_nothing() -> None:
    asked = server()
    asked.receive(b"1 d7:command3:fooe", "127.0.0.2", 0.0, 0.0)
    assert asked.receive(b"1 d7:command4:pinge", "127.0.0.3", 0.0, 0.0).reply == b"1 d6:result4:ponge"


def test_errors_are_stored_too() -> None:
    asked = server()
    asked.receive(b"1 x", LOCAL, 0.0, 0.0)
    assert asked.receive(b"1 d7:command4:pinge", LOCAL, 0.0, 0.0).result == "duplicate"


def test_a_source_that_asks_too_often_is_not_answered() -> None:
    asked = Server(Handler(engine()), allow=[ip_network("127.0.0.0/8")], rate=10.0)
    replies = [asked.receive(b"%d d7:command4:pinge" % n, LOCAL, 0.0, 0.0).reply for n in range(30)]
    assert sum(reply is not None for reply in replies) == 20
    assert asked.drops == {Drop.RATE_LIMITED: 10}
    assert asked.receive(b"x d7:command4:pinge", "127.0.0.2", 0.0, 0.0).reply is not None
    assert asked.receive(b"y d7:command4:pinge", LOCAL, 0.1, 0.0).reply is not None
    assert asked.receive(b"z d7:command4:pinge", None, 0.0, 0.0).reply is not None


def test_a_long_list_is_cut_and_says_so() -> None:
    calls = [f"{number:0100}" for number in range(2000)]
    short = shortened({"calls": list(calls), "result": "ok"})
    assert list(short) == ["calls", "warning", "result"]
    assert len(encode(short)) < REPLY_LIMIT
    assert "calls left out" in str(short["warning"])


def test_a_long_report_keeps_its_totals() -> None:
    short = shortened({"SSRC": {"1": {}}, "tags": {"a": "x" * 70000}, "totals": {"RTP": {}}, "result": "ok"})
    assert list(short) == ["totals", "warning", "result"]


def test_no_datagram_reply_is_longer_than_clients_read() -> None:
    asked = server()
    for number in range(90):
        asked.handler.handle(
            {b"command": b"offer", b"sdp": sdp(*PHONE), b"call-id": b"%0900d" % number, b"from-tag": b"a"},
            source=None,
            now=0.0,
        )
    answered = asked.receive(b"c d7:command4:list5:limiti1000ee", LOCAL, 0.0, 0.0).reply
    assert answered is not None
    assert len(answered) < REPLY_LIMIT
    assert b"calls left out" in answered


def test_a_stream_carries_requests_one_after_the_other_in_any_pieces() -> None:
    text = b"a d7:command4:pinge" + b"b d7:command3:fooe" + b"\r\nc d7:command4:pinge"
    for size in (1, 3, 1000):
        stream = Stream(server(), LOCAL)
        replies = []
        for start in range(0, len(text), size):
            replies += [outcome.reply for outcome in stream.feed(text[start : start + size], 0.0)]
        assert not stream.closed
        assert [r and r[:2] for r in replies] == [b"a ", b"b ", b"c "]


@pytest.mark.parametrize("garbage", [b"x" * 300, b"c " + b"x" * 2000, b" d7:command4:pinge", b"c {" + b" " * 2000])
def test_a_stream_of_garbage_is_closed(garbage: bytes) -> None:
    stream = Stream(server(), LOCAL)
    assert not stream.feed(garbage, 0.0)
    assert stream.closed


@given(st.binary(max_size=200))
def test_any_datagram_is_answered_or_dropped_with_a_reason(data: bytes) -> None:
    asked = server(key=KEY)
    for datagram in (data, b"c " + data, b"c d" + data + b"e", b"ng1 " + data):
        outcome = asked.receive(datagram, LOCAL, 0.0, 0.0)
        if outcome.reply is None:
            assert outcome.result in {drop.value for drop in Drop}
        elif datagram[:2] == b"c " and outcome.reply[2:3] == b"d":
            assert decode(outcome.reply[2:])


def test_who_may_ask_can_change_while_it_runs() -> None:
    made = server()
    ping = b"7a_1 d7:command4:pinge"
    assert made.receive(ping, "192.0.2.9", 0.0, 0.0).reply is None
    made.follow([ip_network("192.0.2.0/24")], KEY, 0.0)
    assert made.receive(ping, "192.0.2.9", 0.0, 0.0).reply is not None
    assert made.receive(ping, LOCAL, 0.0, 0.0).reply is None
    sealed = seal(KEY, Way.REQUEST, ping, 0.0)
    assert made.receive(sealed, "198.51.100.1", 0.0, 0.0).reply is not None
