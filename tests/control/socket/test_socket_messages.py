from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.control.socket.client import Connection as ClientSide
from nattrav.control.socket.messages import (
    End,
    Failure,
    Item,
    Request,
    Result,
    decode_reply,
    decode_request,
)
from nattrav.control.socket.server import Connection as ServerSide

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(0, 2**31), st.text(), st.dictionaries(st.text(), JSON, max_size=3))
def test_a_request_survives_the_wire(number: int, verb: str, args: dict[str, object]) -> None:
    request = Request(number, verb, args)
    assert decode_request(request.encode()) == request


@given(st.integers(0, 2**31), JSON)
def test_replies_survive_the_wire(number: int, value: object) -> None:
    for reply in (Result(number, value), Item(number, value), End(number), Failure(number, "busy", "later")):
        line = reply.encode()
        assert decode_reply(line) == reply
        assert line.isascii()
        assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    ("line", "number", "word"),
    [
        (b"garbage", 0, "JSON"),
        (b"[1,2]", 0, "object"),
        (b'{"id":true,"verb":"ping"}', 0, "whole number"),
        (b'{"id":"x","verb":"ping"}', 0, "whole number"),
        (b'{"id":7}', 7, "verb"),
        (b'{"id":7,"verb":3}', 7, "verb"),
        (b'{"id":7,"verb":"ping","args":[]}', 7, "args"),
        (b"\xff\xfe{", 0, "JSON"),
        (b"[" * 50_000, 0, "JSON"),
    ],
)
def test_a_line_that_is_no_request_becomes_the_failure_to_send(line: bytes, number: int, word: str) -> None:
    failure = decode_request(line)
    assert isinstance(failure, Failure)
    assert failure.id == number
    assert failure.code == "invalid"
    assert word in failure.message


@given(st.binary(max_size=200))
def test_octets_that_are_no_reply_raise_only_value_error(line: bytes) -> None:
    try:
        decode_reply(line)
    except ValueError:
        return


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_requests_are_found_however_the_octets_are_cut(cuts: list[int]) -> None:
    requests = [Request(number, "ping", {"text": "ä" * number}) for number in range(5)]
    octets = b"".join(request.encode() for request in requests)
    server = ServerSide()
    found: list[Request | Failure] = []
    at = 0
    for cut in cuts:
        found += server.receive(octets[at : at + cut])
        at += cut
    found += server.receive(octets[at:])
    assert found == requests


def test_an_oversized_request_is_refused_once_and_skipped_to_its_end() -> None:
    server = ServerSide(limit=100)
    found = []
    for _ in range(50):
        found += server.receive(b"x" * 30)
    assert [type(one) for one in found] == [Failure]
    assert server.receive(b"\n" + Request(1, "ping").encode()) == [Request(1, "ping")]


def test_a_long_line_that_arrives_whole_is_refused() -> None:
    server = ServerSide(limit=100)
    (failure, request) = server.receive(b"x" * 200 + b"\n" + Request(2, "ping").encode())
    assert isinstance(failure, Failure)
    assert request == Request(2, "ping")


def test_the_client_numbers_its_requests_and_sorts_replies() -> None:
    client = ClientSide()
    first, line = client.ask("ping", {})
    second, _ = client.ask("ping", {})
    assert json.loads(line)["id"] == first != second
    octets = Result(first, 1).encode() + Result(second, 2).encode()
    assert client.receive(octets[:9]) == []
    assert client.receive(octets[9:]) == [Result(first, 1), Result(second, 2)]


def test_a_reply_without_end_is_refused() -> None:
    client = ClientSide(limit=1000)
    with pytest.raises(ValueError, match="more than"):
        client.receive(b"y" * 2000)
