"""Transactions: when they send, what they accept, how they end."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from stun.attributes import AttributeType, encode_address, encode_error, encode_xor_address
from stun.behavior import Endpoint
from stun.integrity import add_fingerprint
from stun.message import BINDING, MessageClass, encode
from stun.responder import Answer, Policy, Responder
from stun.transaction import INTERACTIVE, RFC3489, RFC8489, STREAM, Schedule, Transaction, Verdict

T = AttributeType
TID = bytes(range(12))
CLIENT = TransportAddress("192.0.2.1", 32853)
SERVER = TransportAddress("198.51.100.1", 3478)
OTHER = TransportAddress("198.51.100.2", 3479)
REQUEST = encode(BINDING, MessageClass.REQUEST, TID)


def begun(schedule: Schedule = RFC8489, expect_from: TransportAddress | None = None) -> Transaction:
    transaction = Transaction(REQUEST, SERVER, schedule, 100.0, expect_from=expect_from)
    assert [s.to for s in transaction.handle_timeout(100.0)] == [SERVER]
    return transaction


def reply(server: Responder) -> bytes:
    answer = server.respond(REQUEST, 0, CLIENT)
    assert isinstance(answer, Answer)
    return answer.data


def success(*attributes: tuple[int, bytes]) -> bytes:
    return encode(BINDING, MessageClass.SUCCESS, TID, attributes)


@pytest.mark.parametrize("schedule", [RFC8489, RFC3489, INTERACTIVE, STREAM])
def test_requests_leave_on_schedule_and_silence_ends_it(schedule: Schedule) -> None:
    transaction = Transaction(REQUEST, SERVER, schedule, 100.0)
    times = []
    while (due := transaction.next_timeout()) is not None:
        times += [due] * len(transaction.handle_timeout(due))
    assert times == [100.0 + offset for offset in schedule.sends]
    assert transaction.outcome is not None
    assert transaction.outcome.verdict is Verdict.SILENT
    assert transaction.outcome.seconds == pytest.approx(schedule.give_up)
    assert transaction.outcome.sends == len(schedule.sends)


def test_rfc8489_times_are_those_of_the_rfc() -> None:
    assert RFC8489.sends == (0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5)
    assert RFC8489.give_up == 39.5


def test_a_reply_from_the_server_ends_it_with_all_addresses(server: Responder) -> None:
    outcome = begun().receive(reply(server), SERVER, 100.25)
    assert outcome is not None
    assert outcome.answered
    assert (outcome.mapped, outcome.plain_mapped) == (CLIENT, CLIENT)
    assert (outcome.origin, outcome.other) == (SERVER, OTHER)
    assert (outcome.seconds, outcome.sends, outcome.error) == (0.25, 1, None)


def test_classic_replies_are_read_in_their_own_terms(server: Responder) -> None:
    data = encode(BINDING, MessageClass.REQUEST, bytes(range(16)))
    transaction = Transaction(data, SERVER, RFC3489, 100.0)
    transaction.handle_timeout(100.0)
    answer = server.respond(data, 0, CLIENT)
    assert isinstance(answer, Answer)
    outcome = transaction.receive(answer.data, SERVER, 100.1)
    assert outcome is not None
    assert (outcome.mapped, outcome.origin, outcome.other) == (CLIENT, SERVER, OTHER)


def test_a_reply_from_elsewhere_is_waited_past_and_named_at_the_end(server: Responder) -> None:
    transaction = begun(INTERACTIVE, expect_from=OTHER)
    assert transaction.receive(reply(server), SERVER, 100.1) is None
    assert transaction.outcome is None
    while (due := transaction.next_timeout()) is not None:
        transaction.handle_timeout(due)
    assert transaction.outcome is not None
    assert transaction.outcome.verdict is Verdict.WRONG_SOURCE
    assert transaction.outcome.source == SERVER


def test_the_right_source_after_a_wrong_one_still_counts(server: Responder) -> None:
    transaction = begun(INTERACTIVE, expect_from=OTHER)
    transaction.receive(reply(server), SERVER, 100.1)
    outcome = transaction.receive(reply(server), OTHER, 100.2)
    assert outcome is not None
    assert outcome.answered


def test_an_error_response_is_never_a_positive_result() -> None:
    data = encode(BINDING, MessageClass.ERROR, TID, [(T.ERROR_CODE, encode_error(420))])
    outcome = begun().receive(data, SERVER, 100.1)
    assert outcome is not None
    assert (outcome.verdict, outcome.error, outcome.reason) == (Verdict.REFUSED, 420, "Unknown Attribute")
    assert not outcome.answered


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"noise",
        encode(BINDING, MessageClass.SUCCESS, bytes(12), [(T.MAPPED_ADDRESS, encode_address(CLIENT))]),
        encode(BINDING, MessageClass.REQUEST, TID),
        encode(BINDING, MessageClass.INDICATION, TID),
        success((T.MAPPED_ADDRESS, b"\0\1\0")),
        encode(BINDING, MessageClass.ERROR, TID),
        add_fingerprint(success((T.MAPPED_ADDRESS, encode_address(CLIENT))))[:-1] + b"\0",
        success((T.MAPPED_ADDRESS, encode_address(CLIENT)))[:-2],
    ],
)
def test_foreign_and_broken_datagrams_change_nothing(datagram: bytes) -> None:
    transaction = begun()
    assert transaction.receive(datagram, SERVER, 100.1) is None
    assert transaction.outcome is None


@pytest.mark.parametrize("attributes", [(), ((0x0031, b""), (T.MAPPED_ADDRESS, encode_address(CLIENT)))])
def test_success_that_cannot_be_used_fails(attributes: tuple[tuple[int, bytes], ...]) -> None:
    outcome = begun().receive(success(*attributes), SERVER, 100.1)
    assert outcome is not None
    assert outcome.verdict is Verdict.UNUSABLE


def test_the_xored_address_is_believed_before_the_plain_one() -> None:
    rewritten = TransportAddress("203.0.113.200", 9)
    data = success(
        (T.MAPPED_ADDRESS, encode_address(rewritten)), (T.XOR_MAPPED_ADDRESS, encode_xor_address(CLIENT, TID))
    )
    outcome = begun().receive(data, SERVER, 100.1)
    assert outcome is not None
    assert (outcome.mapped, outcome.plain_mapped) == (CLIENT, rewritten)


def test_padding_and_software_are_noted(full_set: tuple[Endpoint, ...]) -> None:
    data = encode(BINDING, MessageClass.REQUEST, TID, [(T.PADDING, bytes(1480))])
    transaction = Transaction(data, SERVER, RFC8489, 100.0)
    transaction.handle_timeout(100.0)
    answer = Responder(full_set, Policy(software="x 1")).respond(data, 0, CLIENT)
    assert isinstance(answer, Answer)
    outcome = transaction.receive(answer.data, SERVER, 100.1)
    assert outcome is not None
    assert (outcome.padding, outcome.software) == (1480, "x 1")


def test_a_transport_that_fails_ends_it_at_once() -> None:
    transaction = begun()
    transaction.fail(100.2)
    assert transaction.outcome is not None
    assert transaction.outcome.verdict is Verdict.SILENT
    assert transaction.next_timeout() is None
