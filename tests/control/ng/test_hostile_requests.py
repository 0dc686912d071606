"""What a client that is broken, or means harm, gets: a reply or a counted drop, never more, and calls are untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nattrav.control.ng import codec_bencode, codec_json
from nattrav.control.ng.codec_bencode import Encodable
from nattrav.control.ng.handler import Handler
from nattrav.control.ng.messages import CARRIED_OUT
from nattrav.control.ng.server import Outcome, Server
from relay.engine import Engine
from relay.ports import PortState
from tests.relay.calls import plane_of
from tests.relay.planes import engine

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n"
)
OFFER: dict[str, Encodable] = {"command": "offer", "sdp": SDP, "call-id": "c1", "from-tag": "a"}

KEYS = (
    *("sdp", "call-id", "from-tag", "to-tag", "via-branch", "received-from", "sip-message-type", "sip-code"),
    *("rtpp-flags", "label", "to-label", "set-label", "metadata", "address", "all", "limit", "delete-delay"),
    *("direction", "interface", "from-interface", "to-interface", "address-family", "media-address", "rtcp-mux"),
    *("ICE", "transport-protocol", "endpoint-learning", "TOS", "flags", "replace", "supports", "no-such-key"),
)
WRONG: tuple[Any, ...] = (
    *(0, -1, 2**63, -(2**70), b"", b"\0", b"\xff\xfe", b"9" * 5000, b"x" * 10_000, "ü€"),
    *([], {}, [[]], [[[b"a"], {}]], [1, b"two", [3], {}], {"a": {"b": []}}, {"": b""}, [b"", b"\0" * 100]),
)


class Asked:
    """A relay, and how to ask it."""

    def __init__(self, relay: Engine) -> None:
        self.relay = relay
        self.server = Server(Handler(relay, mark="aabbccddeeff"))
        self._cookies = 0

    def raw(self, payload: bytes, cookie: bytes | None = None) -> Outcome:
        self._cookies += 1
        return self.server.receive(b"%b %b" % (cookie or b"%d" % self._cookies, payload), None, 1.0, 1e9)

    def reply(self, payload: bytes, cookie: bytes | None = None) -> dict[bytes, Any]:
        outcome = self.raw(payload, cookie)
        assert outcome.reply is not None
        _, _, body = outcome.reply.partition(b" ")
        decoded = codec_json.decode(body) if body.startswith(b"{") else codec_bencode.decode(body)
        assert isinstance(decoded, dict)
        assert decoded[b"result"] in (b"ok", b"error", b"pong", b"load limit")
        return decoded

    def ask(self, **request: Any) -> dict[bytes, Any]:
        return self.reply(codec_bencode.encode({key.replace("_", "-"): value for key, value in request.items()}))

    def state(self) -> tuple[object, ...]:
        """Everything a refused request must leave as it was."""
        plane = plane_of(self.relay)
        used = [[pool.numbers(state) for state in PortState] for pool in self.relay.interfaces.pools]
        parties = [
            (party.tag, tuple(party.aliases), len(party.legs))
            for session in self.relay.sessions.values()
            for party in session.parties
        ]
        return sorted(self.relay.sessions), dict(plane.settings), used, parties


@pytest.fixture
def asked() -> Asked:
    return Asked(engine())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid data (no payload)"),
        (b"x", "Invalid NG data format"),
        (b"i1e", "Invalid NG data format"),
        (b"le", "Invalid NG data format"),
        (b"4:ping", "Invalid NG data format"),
        (b"\0d7:command4:pinge", "Invalid NG data format"),
        (b"d", "Could not decode bencode dictionary"),
        (b"d7:command", "Could not decode bencode dictionary"),
        (b"d7:command4:pingee", "Could not decode bencode dictionary"),
        (b"d7:command4:pinge trailing", "Could not decode bencode dictionary"),
        (b"d7:command5:pinge", "Could not decode bencode dictionary"),
        (b"di1e4:pinge", "Could not decode bencode dictionary"),
        (b"d7:command-1:pinge", "Could not decode bencode dictionary"),
        (b"d7:command99999999999999999999:pinge", "Could not decode bencode dictionary"),
        (b"d1:ai99999999999999999999999999999999e7:command4:pinge", "Could not decode bencode dictionary"),
        (b"d1:a" + b"l" * 10_000 + b"e" * 10_000 + b"7:command4:pinge", "Could not decode bencode dictionary"),
        (b"d1:a" * 10_000, "Could not decode bencode dictionary"),
        (b"de", 'Dictionary contains no key "command"'),
        (b"d7:commandi1ee", 'Dictionary contains no key "command"'),
        (b"d7:commandl4:pingee", 'Dictionary contains no key "command"'),
        (b"d7:Command4:pinge", 'Dictionary contains no key "command"'),
        (b"d7:command4:PINGe", "Unrecognized command"),
        (b"d7:command5:ping\0e", "Unrecognized command"),
        (b"d7:command10:play mediae", "unsupported"),
        (b"{", "Failed to parse JSON document"),
        (b'{"command":"ping"', "Failed to parse JSON document"),
        (b'{"command":"ping"}{', "Failed to parse JSON document"),
        (b'{"a":' * 5000, "Failed to parse JSON document"),
        (b'{"a":' + b"[" * 100_000, "Failed to parse JSON document"),
        (b'{"command":"ping","a":' + b"9" * 10_000 + b"}", "Failed to parse JSON document"),
        (b'{"command":"ping\xff"}', "Failed to parse JSON document"),
        (b"{}", 'Dictionary contains no key "command"'),
        (b'{"command":["ping"]}', 'Dictionary contains no key "command"'),
        (b'{"command":null}', "Unrecognized command"),
    ],
)
def test_what_is_no_request_is_told_so(payload: bytes, reason: str, asked: Asked) -> None:
    assert asked.reply(payload) == {b"result": b"error", b"error-reason": reason.encode()}


@pytest.mark.parametrize("number", ["NaN", "1e999", "-1e999", "1.5", "true", "1e400000"])
def test_a_number_that_is_none_is_no_harm(number: str, asked: Asked) -> None:
    for command in sorted(CARRIED_OUT):
        for key in ("limit", "TOS", "delete-delay", "sip-code", "call-id", "sdp"):
            asked.reply(f'{{"command":"{command}","call-id":"c","{key}":{number}}}'.encode())


@pytest.mark.parametrize("datagram", [b"", b" ", b"cookie", b" d7:command4:pinge", b"x" * 300 + b" d7:command4:pinge"])
def test_what_has_no_cookie_is_dropped(datagram: bytes, asked: Asked) -> None:
    assert asked.server.receive(datagram, None, 1.0, 1e9).reply is None
    assert sum(asked.server.drops.values()) == 1


def test_a_key_that_comes_twice_has_its_last_value(asked: Asked) -> None:
    assert asked.reply(b"d7:command5:offer7:command4:pinge") == {b"result": b"pong"}
    assert asked.reply(b'{"command":"offer","command":"ping"}') == {b"result": b"pong"}
    twice = codec_bencode.encode(OFFER)[:-1] + b"7:call-id2:c2e"
    assert asked.reply(twice)[b"result"] == b"ok"
    assert list(asked.relay.sessions) == ["c2"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("as_json", [False, True], ids=["bencode", "JSON"])
def test_any_key_of_any_type_is_read_or_left_out(key: str, as_json: bool, asked: Asked) -> None:
    for wrong in WRONG:
        for command in sorted(CARRIED_OUT):
            request = {**OFFER, "to-tag": "b", "command": command, key: wrong}
            if as_json:
                asked.reply(json.dumps(_as_text(request)).encode())
            elif isinstance(wrong, int) and wrong < -(2**63):
                continue
            else:
                asked.reply(codec_bencode.encode(request))
    asked.relay.handle_timeout(1e6)
    assert asked.relay.sessions == {}
    assert plane_of(asked.relay).settings == {}


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, list) else value


def test_the_same_cookie_with_another_body_gets_the_first_reply_and_does_nothing(asked: Asked) -> None:
    first = asked.raw(codec_bencode.encode(OFFER), b"same")
    state = asked.state()
    second = asked.raw(codec_bencode.encode({"command": "delete", "call-id": "c1"}), b"same")
    assert second.reply == first.reply
    assert second.result == "duplicate"
    assert asked.state() == state


@pytest.mark.parametrize("call_id", [b"\0", b"a\0b", b"x" * 10_000, b"\xff\xfe\r\n", "ü".encode(), b" ", b"../../etc"])
def test_a_call_id_may_be_any_octets(call_id: bytes, asked: Asked) -> None:
    assert asked.ask(**OFFER | {"call-id": call_id})[b"result"] == b"ok"
    assert asked.ask(**OFFER | {"call-id": call_id, "command": "answer", "to-tag": b"\0"})[b"result"] == b"ok"
    assert asked.ask(command="list")[b"calls"] == [call_id]
    assert b"\0" in asked.ask(command="query", call_id=call_id)[b"tags"]
    assert b"warning" not in asked.ask(command="delete", call_id=call_id)
    assert asked.relay.sessions == {}


@pytest.mark.parametrize("count", [65, 1000])
def test_a_description_with_a_thousand_streams_is_refused(count: int, asked: Asked) -> None:
    state = asked.state()
    reply = asked.ask(**OFFER | {"sdp": SDP + b"m=audio 4000 RTP/AVP 0\r\n" * count})
    assert reply[b"error-reason"] == b"Failed to parse SDP"
    assert asked.state() == state


class TestPortsThatRunOutInTheMiddle:
    """Six ports: a call of one stream takes four, its second stream finds two where it needs four."""

    SECOND = b"m=video 4002 RTP/AVP 31\r\n"

    @pytest.fixture
    def asked(self) -> Asked:
        return Asked(engine(low=30000, high=30005))

    def test_a_new_call_is_not_begun_and_every_port_is_free_again(self, asked: Asked) -> None:
        state = asked.state()
        assert asked.ask(**OFFER | {"sdp": SDP + self.SECOND})[b"error-reason"] == b"Ran out of ports"
        assert asked.state() == state
        assert asked.ask(**OFFER)[b"result"] == b"ok"

    def test_a_later_offer_leaves_the_call_as_it_was(self, asked: Asked) -> None:
        asked.ask(**OFFER)
        answer = OFFER | {"command": "answer", "to-tag": "b"}
        assert asked.ask(**answer)[b"result"] == b"ok"
        state = asked.state()
        again = OFFER | {"to-tag": "b"}
        assert asked.ask(**again | {"sdp": SDP + self.SECOND})[b"error-reason"] == b"Ran out of ports"
        assert asked.state() == state
        assert asked.ask(**again)[b"result"] == b"ok"
        assert asked.ask(**answer)[b"result"] == b"ok"
        assert asked.state()[2] == state[2]
        asked.ask(command="delete", call_id="c1")
        assert [pool.used for pool in asked.relay.interfaces.pools] == [0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sdp": b""}, "No SDP body in message"),
        ({"sdp": [SDP]}, "No SDP body in message"),
        ({"call-id": []}, "No call-id in message"),
        ({"from-tag": {}}, "No from-tag in message"),
        ({"sdp": b"v=1\r\n"}, "Failed to parse SDP"),
        ({"sdp": SDP.replace(b"IN IP4 198.51.100.10\r\nt", b"IN IP9 x\r\nt")}, "Failed to parse SDP"),
        ({"sdp": SDP.replace(b"m=audio 4000", b"m=audio 70000")}, "Failed to parse SDP"),
        ({"sdp": SDP.replace(b"c=IN IP4 198.51.100.10\r\n", b"")}, "Incomplete SDP specification"),
        ({"to-tag": "a"}, "Invalid dialogue association"),
        ({"transport-protocol": "RTP/SAVP"}, "Error rewriting SDP"),
    ],
)
def test_a_refused_offer_for_a_running_call_changes_nothing(change: dict[str, Any], reason: str, asked: Asked) -> None:
    assert asked.ask(**OFFER)[b"result"] == b"ok"
    assert asked.ask(**OFFER | {"command": "answer", "to-tag": "b"})[b"result"] == b"ok"
    state = asked.state()
    assert asked.ask(**OFFER | change)[b"error-reason"] == reason.encode()
    assert asked.state() == state
    for command in ("offer", "answer"):
        again = OFFER | {"command": command, "to-tag": "b"}
        assert asked.ask(**again)[b"result"] == b"ok"
