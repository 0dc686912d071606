"""Messages, edits and responses: what is not changed stays octet for octet."""

from __future__ import annotations

import contextlib

import pytest
import sipmessage
from hypothesis import given
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from nattrav.sip.ack_cancel import acknowledge, cancel
from nattrav.sip.edit import Edit
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request, Response
from nattrav.sip.parser import MAX_LINE, MAX_LINES, MAX_VIAS, parse_datagram_untrusted
from nattrav.sip.response import respond
from tests.vectors import rfc4475, rfc5118

SOURCE = TransportAddress("198.51.100.7", 41234)
INVITE = (
    "INVITE sip:bob@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK776;rport\r\n"
    "Max-Forwards: 70\r\n"
    "Route: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>\r\n"
    "To: Bob <sip:bob@example.com>\r\n"
    "From: Alice <sip:alice@example.com>;tag=19\r\n"
    "Call-ID: a84b4c76e66710\r\n"
    "CSeq: 3 INVITE\r\n"
    "X-Odd:kept  as it is \r\n"
    "Contact: <sip:alice@10.0.0.5>\r\n"
    "Content-Type: application/sdp\r\n"
    "Content-Length: 5\r\n"
    "\r\n"
    "v=0\r\n"
)


def request(text: str = INVITE) -> Request:
    message = parse_datagram_untrusted(text.encode("latin-1"))
    assert isinstance(message, Request)
    return message


def response(text: str | bytes) -> Response:
    message = parse_datagram_untrusted(text if isinstance(text, bytes) else text.encode("latin-1"))
    assert isinstance(message, Response)
    return message


def fault(text: str) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as caught:
        parse_datagram_untrusted(text.encode("latin-1"))
    return caught.value


def test_one_edit_changes_its_line_and_no_other() -> None:
    message = request()
    edit = Edit(message).set("Max-Forwards", "69").prepend("Via", "SIP/2.0/UDP us;branch=z9hG4bKx")
    assert edit.render().decode() == INVITE.replace("Max-Forwards: 70", "Max-Forwards: 69").replace(
        "Via: SIP/2.0/UDP 10", "Via: SIP/2.0/UDP us;branch=z9hG4bKx\r\nVia: SIP/2.0/UDP 10"
    )
    assert message.render().decode() == INVITE


def test_the_first_of_joined_values_is_replaced_and_removed_alone() -> None:
    edit = Edit(request()).replace_top("Route", "<sip:other;lr>")
    assert b"Route: <sip:other;lr>, <sip:p2.example.com;lr>\r\n" in edit.render()
    edit.remove_top("Route")
    assert b"Route: <sip:p2.example.com;lr>\r\n" in edit.render()
    edit.remove_top("Route").remove_top("Route")
    assert b"Route" not in edit.render()


def test_values_are_split_only_at_commas_that_separate() -> None:
    text = INVITE.replace("Contact: <sip:alice@10.0.0.5>", 'Contact: "A, B" <sip:a,b@h;x=1>;q=0.1, <sip:c@h>')
    contacts = request(text).contacts
    assert isinstance(contacts, list)
    assert [(contact.display_name, contact.uri) for contact in contacts] == [("A, B", "sip:a,b@h;x=1"), ("", "sip:c@h")]


def test_headers_are_added_where_they_belong() -> None:
    edit = Edit(request())
    edit.prepend("Record-Route", "<sip:us;lr>").append("v", "SIP/2.0/UDP last").append("X-New", "1")
    lines = edit.render().decode().split("\r\n")
    assert lines[1:4] == [INVITE.split("\r\n")[1], "Via: SIP/2.0/UDP last", "Record-Route: <sip:us;lr>"]
    assert lines[lines.index("") - 1] == "x-new: 1"


def test_set_leaves_one_and_remove_leaves_none() -> None:
    text = INVITE.replace("X-Odd:kept", "Supported: a\r\nk: b\r\nSUPPORTED: c\r\nX-Odd:kept")
    edit = Edit(request(text))
    assert request(edit.set("Supported", "z").render().decode()).all("k") == ["z"]
    assert not request(edit.remove("k").render().decode()).has("Supported")


def test_a_new_body_brings_its_length_and_type() -> None:
    edited = request(Edit(request()).body(b"12345678", "text/plain").render().decode())
    assert (edited.body, edited.content_type, edited.first("l")) == (b"12345678", "text/plain", "8")
    bare = request(INVITE.replace("Content-Length: 5\r\n", ""))
    assert bare.body == b"v=0\r\n"
    assert Edit(bare).render() == bare.render()
    assert request(Edit(bare).framed().render().decode()).first("l") == "5"


def test_the_start_line_is_replaced() -> None:
    message = request()
    assert Edit(message).request_uri(message, "sip:x").render().startswith(b"INVITE sip:x SIP/2.0\r\n")
    assert Edit(message).start_line("BYE sip:y SIP/2.0").render().startswith(b"BYE sip:y SIP/2.0\r\n")


def test_the_stamp_overwrites_what_the_client_claims() -> None:
    claims = INVITE.replace(";rport", ";received=1.2.3.4;rport=99;x=y")
    message = request(claims)
    message.stamp(SOURCE)
    assert message.via.text == "SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK776;x=y;received=198.51.100.7;rport=41234"
    assert message.via.reply_address == SOURCE
    assert message.render().decode() == claims.replace(
        ";received=1.2.3.4;rport=99;x=y", ";x=y;received=198.51.100.7;rport=41234"
    )


@pytest.mark.parametrize(
    ("sent_by", "force", "stamp", "reply"),
    [
        ("10.0.0.5:5066", False, ";received=198.51.100.7", ("198.51.100.7", 5066)),
        ("10.0.0.5", True, ";received=198.51.100.7;rport=41234", ("198.51.100.7", 41234)),
        ("198.51.100.7", False, "", ("198.51.100.7", 5060)),
        ("host.example.com", False, ";received=198.51.100.7", ("198.51.100.7", 5060)),
        ("[2001:db8::1]:5066", False, ";received=198.51.100.7", ("198.51.100.7", 5066)),
    ],
)
def test_without_rport_received_is_added_only_when_it_says_something(
    sent_by: str, force: bool, stamp: str, reply: tuple[str, int]
) -> None:
    message = request(INVITE.replace("10.0.0.5:5060;branch=z9hG4bK776;rport", f"{sent_by};branch=z9hG4bK776"))
    message.stamp(SOURCE, force_rport=force)
    assert message.via.text == f"SIP/2.0/UDP {sent_by};branch=z9hG4bK776{stamp}"
    assert message.via.reply_address == reply


def test_the_stamp_leaves_the_vias_joined_behind_the_top_one() -> None:
    message = request(INVITE.replace(";rport", ";rport, SIP/2.0/TCP far.example.com;branch=z9hG4bKold"))
    message.stamp(SOURCE)
    assert [via.host for via in message.vias] == ["10.0.0.5", "far.example.com"]
    assert message.vias[0].rport == SOURCE.port


def test_maddr_is_where_the_answer_goes() -> None:
    message = request(INVITE.replace(";rport", ";maddr=192.0.2.99"))
    message.stamp(SOURCE)
    assert message.via.reply_address == ("192.0.2.99", 5060)


def test_a_response_copies_what_it_must_and_adds_the_tag_once() -> None:
    answer = respond(request(), 404, to_tag="t", headers=[("Warning", '399 us "no"')], body=b"x")
    assert answer.decode() == (
        "SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK776;rport\r\n"
        "To: Bob <sip:bob@example.com>;tag=t\r\nFrom: Alice <sip:alice@example.com>;tag=19\r\n"
        'Call-ID: a84b4c76e66710\r\nCSeq: 3 INVITE\r\nWarning: 399 us "no"\r\nContent-Length: 1\r\n\r\nx'
    )
    tagged = request(INVITE.replace("To: Bob <sip:bob@example.com>", "To: Bob <sip:bob@example.com> ; TAG=x"))
    assert response(respond(tagged, 200, to_tag="t")).to.tag == "x"
    plain = request(INVITE.replace("Bob <sip:bob@example.com>", "sip:tag=1@example.com"))
    assert response(respond(plain, 200, to_tag="t")).to.tag == "t"
    assert response(respond(request(), 100, to_tag=None)).to.tag is None


def test_only_100_carries_the_timestamp() -> None:
    text = INVITE.replace("Max-Forwards: 70", "Max-Forwards: 70\r\nTimestamp: 54.21")
    assert b"Timestamp: 54.21" in respond(request(text), 100, to_tag=None)
    assert b"Timestamp" not in respond(request(text), 200, to_tag="t")


def test_the_ack_of_a_failure_is_built_from_the_invite_as_sent() -> None:
    answer = response(respond(request(), 486, to_tag="their"))
    ack = request(acknowledge(INVITE.encode(), answer).decode())
    assert (ack.method, ack.request_uri, ack.cseq) == ("ACK", "sip:bob@example.com", (3, "ACK"))
    assert [via.text for via in ack.vias] == [request().via.text]
    assert (ack.to.tag, ack.from_.tag, ack.call_id) == ("their", "19", "a84b4c76e66710")
    assert ack.all("Route") == request().all("Route")
    assert ack.body == b""


def test_the_cancel_matches_its_invite() -> None:
    sent = request(cancel(INVITE.encode()).decode())
    assert (sent.method, sent.cseq, sent.via.branch, sent.to.tag) == ("CANCEL", (3, "CANCEL"), "z9hG4bK776", None)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Call-ID: a84b4c76e66710\r\n", "", 400),
        ("Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK776;rport\r\n", "", 400),
        ("CSeq: 3 INVITE", "CSeq: 3", 400),
        ("CSeq: 3 INVITE", "CSeq: 2147483648 INVITE", 400),
        ("CSeq: 3 INVITE", "CSeq: 3 BYE", 400),
        ("Max-Forwards: 70", "Max-Forwards: many", 400),
        ("Max-Forwards: 70", "Max-Forwards", 400),
        ("Max-Forwards: 70", "Max Forwards: 70", 400),
        ("INVITE sip:bob@example.com SIP/2.0\r\n", "INVITE sip:bob@example.com SIP/2.0\r\n Subject: x\r\n", 400),
        ("To: Bob <sip:bob@example.com>", "To: Bob <sip:bob@example.com>;tag=", 400),
        ("Content-Length: 5", "Content-Length: 6", 400),
        ("Content-Length: 5", "Content-Length: 5, 5", 400),
        ("Content-Length: 5", "Content-Length: +5", 400),
        ("sip:bob@example.com SIP/2.0", "sip:bob@[::1 SIP/2.0", 400),
        ("sip:bob@example.com SIP/2.0", "sip:bob@example.com:99999 SIP/2.0", 400),
        ("sip:bob@example.com SIP/2.0", f"sip:{'b' * MAX_LINE}@example.com SIP/2.0", 414),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505),
        ("X-Odd:kept", "X-Odd: a\rb", 400),
        ("X-Odd:kept", "X-Odd: a\nb", 400),
        ("X-Odd:kept", f"X-Odd: {'x' * MAX_LINE}", 400),
        ("X-Odd:kept", "X: y\r\n" * MAX_LINES + "X-Odd:kept", 400),
        ("Max-Forwards", "Via: SIP/2.0/UDP h\r\n" * MAX_VIAS + "Max-Forwards", 400),
    ],
)
def test_what_a_proxy_could_not_handle_is_refused(old: str, new: str, status: int) -> None:
    assert old in INVITE
    problem = fault(INVITE.replace(old, new, 1))
    assert problem.status == status
    assert isinstance(problem.message, Request)
    respond(problem.message, problem.status, to_tag="t")


def test_the_same_content_length_twice_is_one() -> None:
    assert request(INVITE.replace("Content-Length: 5", "Content-Length: 5\r\nl: 05")).body == b"v=0\r\n"


def test_a_head_without_its_empty_line_is_refused() -> None:
    assert "empty line" in fault(INVITE.partition("\r\n\r\n")[0]).reason


@pytest.mark.parametrize("text", ["", "\r\n", "garbage", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x00\x01\x02"])
def test_what_is_no_sip_at_all_is_refused(text: str) -> None:
    fault(text)


def test_over_range_values_count_as_absent() -> None:
    text = INVITE.replace("Max-Forwards: 70", "Max-Forwards: 256\r\nExpires: 4294967296")
    assert request(text).max_forwards is None
    assert request(text).expires is None


def test_headers_that_never_join_are_not_split() -> None:
    value = 'Digest username="a", realm="r"'
    text = INVITE.replace("X-Odd:kept", f"Authorization: {value}\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\nX-Odd:kept")
    assert request(text).all("Authorization") == [value]
    assert request(text).all("date") == ["Sat, 13 Nov 2010 23:29:00 GMT"]


GOOD = [vector.octets for vector in rfc4475.VECTORS + rfc5118.VECTORS if vector.well_formed]


@given(st.sampled_from(GOOD), st.data())
def test_one_flipped_bit_raises_nothing_but_malformed_message(octets: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(octets) - 1))
    broken = bytearray(octets)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(MalformedMessage):
        message = parse_datagram_untrusted(bytes(broken))
        assert bytes(broken).startswith(message.render())


@given(st.binary(max_size=300))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        parse_datagram_untrusted(octets)


TOKENS = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)
QUOTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
HOSTS = st.sampled_from(["example.com", "192.0.2.1", "[2001:db8::1]", "a-b.example"])
URI_WORDS = st.text("abcXYZ019-.!*_'~", min_size=1, max_size=8)
PARAMS = st.lists(st.tuples(URI_WORDS, st.none() | URI_WORDS), max_size=3, unique_by=lambda pair: pair[0].lower())


@st.composite
def messages(draw: st.DrawFn, *, odd: bool = True) -> str:
    """Requests by the grammar, with white space and order as they come; `odd` adds what few parsers know."""
    blank = st.sampled_from(["", " ", "  ", "\t", "\r\n "] if odd else [" ", "  "])
    before_colon = st.sampled_from(["", " "] if odd else [""])
    between = st.sampled_from([" ", "  ", "\t"] if odd else [" "])
    method = draw(st.sampled_from(["INVITE", "OPTIONS", "FOO"]))
    user = draw(st.text("abc019-_.!~*'()", min_size=1, max_size=6))
    params = "".join(f";{name}" + ("" if value is None else f"={value}") for name, value in draw(PARAMS))
    branch = draw(TOKENS if odd else URI_WORDS)
    display = draw(QUOTABLE).replace("\\", "\\\\").replace('"', '\\"')
    branch = draw(TOKENS if odd else URI_WORDS)
    headers = [
        f"Via: SIP/2.0/UDP {draw(HOSTS)}{draw(st.sampled_from(['', ':5070']))};branch=z9hG4bK{branch}",
        f'{draw(st.sampled_from(["From", "f", "FROM"]))}:{draw(blank)}"{display}" <sip:{user}@{draw(HOSTS)}>;tag=1',
        f"{draw(st.sampled_from(['To', 't']))}{draw(before_colon)}: <sip:{user}@{draw(HOSTS)}{params}>",
        f"Call-ID: {draw(TOKENS)}@{draw(TOKENS)}",
        f"CSeq: {draw(st.integers(0, 2**31 - 1))}{draw(between)}{method}",
        f"Max-Forwards: {draw(st.integers(0, 255))}",
        "Content-Length: 0",
    ]
    headers = draw(st.permutations(headers))
    return f"{method} sip:{user}@{draw(HOSTS)}{params} SIP/2.0\r\n" + "\r\n".join(headers) + "\r\n\r\n"


@given(messages())
def test_parse_and_render_are_the_identity(text: str) -> None:
    assert request(text).render().decode() == text


@given(messages(odd=False))
def test_an_independent_parser_reads_the_same(text: str) -> None:
    ours = request(text)
    theirs = sipmessage.Message.parse(text.encode())
    assert isinstance(theirs, sipmessage.Request)
    assert theirs.method == ours.method
    assert theirs.via[0].parameters.get("branch") == ours.via.branch
    assert theirs.via[0].host.strip("[]") == ours.via.host
    assert theirs.via[0].port == ours.via.port
    assert theirs.from_address.uri.user == ours.from_.sip_uri.user
    assert theirs.from_address.parameters.get("tag") == ours.from_.tag
    assert theirs.to_address.uri.host.strip("[]") == ours.to.sip_uri.host
    assert theirs.call_id == ours.call_id
    assert (theirs.cseq.sequence, theirs.cseq.method) == ours.cseq
    assert theirs.max_forwards == ours.max_forwards
