"""The four machines of RFC 3261 §17 and RFC 6026, timer by timer."""

from __future__ import annotations

import pytest

from nattrav.sip.message import Request, Response
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.timers import NEVER, Timers
from nattrav.sip.transaction import (
    ClientInvite,
    ClientNonInvite,
    Outcome,
    ServerInvite,
    ServerNonInvite,
    State,
    Transaction,
    client_key,
    server_key,
)


def request(method: str = "INVITE", branch: str = ";branch=z9hG4bKa", to_tag: str = "", cseq: int = 1) -> Request:
    message = parse_datagram_untrusted(
        f"{method} sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1{branch}\r\n"
        f"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>{to_tag}\r\nCall-ID: x\r\n"
        f"CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert isinstance(message, Request)
    return message


def response(status: int, method: str = "INVITE") -> Response:
    message = parse_datagram_untrusted(
        f"SIP/2.0 {status} Any\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:a@example.com>;tag=1\r\n"
        f"To: <sip:b@example.com>;tag=2\r\nCall-ID: x\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert isinstance(message, Response)
    return message


def run(transaction: Transaction, until: float) -> list[tuple[float, tuple[Outcome, ...]]]:
    """Fire every timer up to a moment."""
    happened = []
    while (at := transaction.next_timeout()) <= until:
        happened.append((at, transaction.handle_timeout(at)))
    return happened


def test_invite_client_doubles_timer_a_without_a_cap_and_gives_up_at_timer_b() -> None:
    transaction = ClientInvite(("k",), 0.0, reliable=False)
    happened = run(transaction, 100)
    assert [at for at, _ in happened] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 32.0]
    assert [outcomes for _, outcomes in happened[:-1]] == [(Outcome.SEND,)] * 6
    assert happened[-1][1] == (Outcome.TIMED_OUT, Outcome.ENDED)
    assert transaction.ended
    assert transaction.next_timeout() == NEVER


def test_non_invite_client_caps_timer_e_at_t2_and_gives_up_at_timer_f() -> None:
    transaction = ClientNonInvite(("k",), 0.0, reliable=False)
    assert [at for at, _ in run(transaction, 100)] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 32.0]


def test_non_invite_client_retransmits_every_t2_in_proceeding_and_keeps_timer_f() -> None:
    transaction = ClientNonInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(response(100, "OPTIONS"), 0.2) == (Outcome.DELIVER,)
    assert [at for at, _ in run(transaction, 100)] == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5, 32.0]


@pytest.mark.parametrize("kind", [ClientInvite, ClientNonInvite])
def test_clients_on_a_stream_never_retransmit(kind: type[Transaction]) -> None:
    assert [at for at, _ in run(kind(("k",), 0.0, reliable=True), 100)] == [32.0]


@pytest.mark.parametrize("kind", [ClientInvite, ClientNonInvite])
def test_a_destination_may_have_its_own_patience(kind: type[Transaction]) -> None:
    assert run(kind(("k",), 0.0, reliable=False, give_up=4.0), 100)[-1] == (4.0, (Outcome.TIMED_OUT, Outcome.ENDED))


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    transaction = ClientInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(response(180), 1.0) == (Outcome.DELIVER,)
    assert transaction.state is State.PROCEEDING
    assert transaction.next_timeout() == NEVER
    assert transaction.receive(response(183), 2.0) == (Outcome.DELIVER,)


def test_invite_client_acknowledges_every_copy_of_a_failure_until_timer_d() -> None:
    transaction = ClientInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(response(486), 1.0) == (Outcome.DELIVER, Outcome.ACKNOWLEDGE)
    assert transaction.receive(response(486), 2.0) == (Outcome.ACKNOWLEDGE,)
    assert transaction.receive(response(200), 2.5) == ()
    assert transaction.receive(response(180), 2.5) == ()
    assert run(transaction, 100) == [(33.0, (Outcome.ENDED,))]


def test_invite_client_on_a_stream_ends_with_the_failure() -> None:
    transaction = ClientInvite(("k",), 0.0, reliable=True)
    assert transaction.receive(response(603), 1.0) == (Outcome.DELIVER, Outcome.ACKNOWLEDGE, Outcome.ENDED)


def test_invite_client_delivers_every_2xx_until_timer_m_and_nothing_else() -> None:
    transaction = ClientInvite(("k",), 0.0, reliable=True)
    assert transaction.receive(response(200), 1.0) == (Outcome.DELIVER,)
    assert transaction.receive(response(200), 2.0) == (Outcome.DELIVER,)
    assert transaction.receive(response(180), 2.0) == ()
    assert transaction.receive(response(486), 2.0) == ()
    assert run(transaction, 100) == [(33.0, (Outcome.ENDED,))]


def test_non_invite_client_absorbs_copies_until_timer_k() -> None:
    transaction = ClientNonInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(response(200, "BYE"), 1.0) == (Outcome.DELIVER,)
    assert transaction.receive(response(200, "BYE"), 2.0) == ()
    assert run(transaction, 100) == [(6.0, (Outcome.ENDED,))]


def test_invite_server_repeats_its_last_provisional_for_a_retransmission() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(request(), 0.1) == ()
    assert transaction.respond(100, b"100", 0.2) == (Outcome.SEND,)
    assert transaction.respond(180, b"180", 0.3) == (Outcome.SEND,)
    assert transaction.receive(request(), 0.4) == (Outcome.SEND,)
    assert transaction.message == b"180"


def test_invite_server_retransmits_a_failure_on_timer_g_until_timer_h() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=False)
    assert transaction.respond(486, b"486", 0.0) == (Outcome.SEND,)
    happened = run(transaction, 100)
    assert [at for at, _ in happened] == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 32.0]
    assert happened[-1][1] == (Outcome.TIMED_OUT, Outcome.ENDED)


def test_invite_server_on_a_stream_sends_a_failure_once_but_waits_for_the_ack() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=True)
    transaction.respond(486, b"486", 0.0)
    assert run(transaction, 100) == [(32.0, (Outcome.TIMED_OUT, Outcome.ENDED))]


def test_invite_server_absorbs_the_ack_of_a_failure_until_timer_i() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=False)
    transaction.respond(486, b"486", 0.0)
    assert transaction.receive(request("ACK"), 1.0) == ()
    assert transaction.state is State.CONFIRMED
    assert transaction.receive(request("ACK"), 1.5) == ()
    assert transaction.receive(request(), 1.5) == ()
    assert run(transaction, 100) == [(6.0, (Outcome.ENDED,))]


def test_invite_server_on_a_stream_ends_with_the_ack() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=True)
    transaction.respond(486, b"486", 0.0)
    assert transaction.receive(request("ACK"), 1.0) == (Outcome.ENDED,)


def test_invite_server_in_accepted_absorbs_invites_passes_2xx_and_ack_until_timer_l() -> None:
    transaction = ServerInvite(("k",), 0.0, reliable=False)
    assert transaction.respond(200, b"200", 0.0) == (Outcome.SEND,)
    assert transaction.receive(request(), 1.0) == ()
    assert transaction.respond(200, b"200 again", 2.0) == (Outcome.SEND,)
    assert transaction.receive(request("ACK"), 3.0) == (Outcome.DELIVER,)
    assert transaction.respond(486, b"486", 4.0) == ()
    assert transaction.message == b"200 again"
    assert run(transaction, 100) == [(32.0, (Outcome.ENDED,))]


def test_non_invite_server_repeats_its_final_response_until_timer_j() -> None:
    transaction = ServerNonInvite(("k",), 0.0, reliable=False)
    assert transaction.receive(request("OPTIONS"), 0.1) == ()
    assert transaction.respond(200, b"200", 0.2) == (Outcome.SEND,)
    assert transaction.receive(request("OPTIONS"), 1.0) == (Outcome.SEND,)
    assert transaction.respond(500, b"500", 1.0) == ()
    assert run(transaction, 100) == [(32.2, (Outcome.ENDED,))]


def test_non_invite_server_on_a_stream_ends_with_its_final_response() -> None:
    transaction = ServerNonInvite(("k",), 0.0, reliable=True)
    assert transaction.respond(200, b"200", 0.2) == (Outcome.SEND, Outcome.ENDED)


def test_transport_errors_end_clients_but_not_invite_servers() -> None:
    assert ClientInvite(("k",), 0.0, reliable=False).transport_failed(1.0) == (Outcome.UNREACHABLE, Outcome.ENDED)
    assert ClientNonInvite(("k",), 0.0, reliable=False).transport_failed(1.0) == (Outcome.UNREACHABLE, Outcome.ENDED)
    server = ServerInvite(("k",), 0.0, reliable=False)
    server.respond(200, b"200", 0.0)
    assert server.transport_failed(1.0) == (Outcome.UNREACHABLE,)
    assert not server.ended


def test_all_timers_follow_t1_t2_and_t4() -> None:
    timers = Timers(t1=1.0, t2=8.0, t4=10.0)
    assert timers.datagram == {**dict.fromkeys("BDFHJLM", 64), "A": 1, "C": 185, "E": 1, "G": 1, "I": 10, "K": 10}
    assert Timers().datagram["D"] == 32
    stream = Timers().stream
    assert [stream[letter] for letter in "AEG"] == [NEVER] * 3
    assert [stream[letter] for letter in "DIJK"] == [0.0] * 4


def test_the_ack_and_the_retransmission_find_the_invite_but_cancel_does_not() -> None:
    key = server_key(request())
    assert server_key(request()) == key
    assert server_key(request("ACK", to_tag=";tag=9")) == key
    assert server_key(request("CANCEL")) != key
    assert server_key(request(branch=";branch=z9hG4bKb")) != key
    assert server_key(request(branch=":5062;branch=z9hG4bKa")) != key
    assert server_key(request(branch=":5060;branch=z9hG4bKa")) == key
    assert server_key(request(branch=";branch=z9hG4bKa;rport")) == key


@pytest.mark.parametrize("branch", ["", ";branch=1234", ";branch=z9hG4bK"])
def test_without_the_cookie_the_rule_of_rfc_2543_matches(branch: str) -> None:
    key = server_key(request(branch=branch))
    assert server_key(request("ACK", branch=branch, to_tag=";tag=9")) == key
    assert server_key(request(branch=branch, cseq=2)) != key


def test_responses_match_by_branch_and_cseq_method() -> None:
    assert client_key(response(200)) == ("z9hG4bKa", "INVITE")
    assert client_key(response(200, "CANCEL")) == ("z9hG4bKa", "CANCEL")
