"""RFC 3261 §10.3 step by step, on the location service in memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nattrav.location.bindings import Binding, Limits, Refused, Registered, Registration
from nattrav.location.memory import MemoryLocation
from nattrav.location.registration import read_registration
from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.parser import parse_datagram_untrusted
from nattrav.sip.transport.flow import Flow

AOR = "sip:alice@example.com"
FLOW = Flow("udp", 7, TransportAddress("203.0.113.10", 5060), TransportAddress("198.51.100.7", 41234))
OTHER_FLOW = FLOW._replace(remote=TransportAddress("198.51.100.7", 50000))
INSTANCE = '+sip.instance="<urn:uuid:1>"'


def registration(*headers: str, call_id: str = "one", cseq: int = 1, aor: str = AOR, flow: Flow = FLOW) -> Registration:
    more = "".join(f"{header}\r\n" for header in headers)
    message = parse_datagram_untrusted(
        (
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKa\r\n"
            f"From: <{AOR}>;tag=1\r\nTo: <{AOR}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{more}\r\n"
        ).encode()
    )
    assert isinstance(message, Request)
    return read_registration(message, aor, flow)


def done(outcome: Registered | Refused) -> Registered:
    assert isinstance(outcome, Registered), outcome
    return outcome


def refused(outcome: Registered | Refused) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def test_a_contact_is_bound_and_listed_with_its_parameters_and_time_left() -> None:
    location = MemoryLocation()
    outcome = done(location.register(registration("Contact: <sip:a@10.0.0.5;ob>;q=0.5;x=y;expires=600"), 1000.0))
    (binding,) = outcome.added
    assert binding.contact_value(1100.0) == "<sip:a@10.0.0.5;ob>;q=0.5;x=y;expires=500"
    assert (binding.q, binding.flow, binding.call_id, binding.cseq) == (0.5, FLOW, "one", 1)
    assert location.lookup(AOR, 1599.0) == [binding]
    assert location.lookup(AOR, 1600.0) == []
    assert location.by_serial(binding.serial) == binding
    assert location.by_flow(FLOW) == [binding]


def test_expires_comes_from_the_parameter_then_the_header_then_the_default() -> None:
    location = MemoryLocation(Limits(min_expires=60, default_expires=300, max_expires=1000))
    headers = ("Expires: 200", "Contact: <sip:a@h>;expires=100, <sip:b@h>")
    assert [b.remaining(0) for b in done(location.register(registration(*headers), 0)).bindings] == [100, 200]
    outcome = done(location.register(registration("Contact: <sip:c@h>", cseq=2), 0))
    assert [b.remaining(0) for b in outcome.added] == [300]
    outcome = done(location.register(registration("Contact: <sip:d@h>;expires=99999999999", cseq=3), 0))
    assert [b.remaining(0) for b in outcome.added] == [300]
    outcome = done(location.register(registration("Contact: <sip:e@h>;expires=9999", cseq=4), 0))
    assert [b.remaining(0) for b in outcome.added] == [1000]


def test_too_brief_a_registration_gets_423_and_changes_nothing() -> None:
    location = MemoryLocation(Limits(min_expires=60))
    headers = "Contact: <sip:a@h>;expires=100, <sip:b@h>;expires=59"
    assert refused(location.register(registration(headers), 0)) == Refused(423, "expires below 60", 60)
    assert len(location) == 0


def test_a_refresh_keeps_the_serial_and_moves_the_binding_to_its_new_flow() -> None:
    location = MemoryLocation()
    (first,) = done(location.register(registration("Contact: <sip:a@h>"), 0)).added
    outcome = done(location.register(registration("Contact: <sip:a@h>", cseq=2, flow=OTHER_FLOW), 10))
    (second,) = outcome.refreshed
    assert (second.serial, second.registered_at, second.cseq) == (first.serial, 0, 2)
    assert location.by_flow(FLOW) == []
    assert location.by_flow(OTHER_FLOW) == [second]
    assert len(location) == 1


def test_contacts_are_compared_by_the_rules_for_uris() -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:%61lice@HOST.example.com;ob>"), 0)
    assert not done(location.register(registration("Contact: <sip:alice@host.example.com;ob>", cseq=2), 0)).added
    assert done(location.register(registration("Contact: <sip:ALICE@host.example.com;ob>", cseq=3), 0)).added
    assert done(location.register(registration("Contact: <sip:alice@host.example.com:5060;ob>", cseq=4), 0)).added


@pytest.mark.parametrize("cseq", [4, 5])
def test_an_old_cseq_of_the_same_call_aborts_the_whole_update(cseq: int) -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:a@h>", cseq=5), 0)
    late = registration("Contact: <sip:b@h>, <sip:a@h>;expires=0", cseq=cseq)
    assert refused(location.register(late, 1)).status == 500
    assert [binding.uri for binding in location.lookup(AOR, 1)] == ["sip:a@h"]
    other_call = registration("Contact: <sip:a@h>", call_id="two", cseq=1)
    assert done(location.register(other_call, 1)).refreshed


def test_expires_zero_removes_one_contact_and_star_removes_all() -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>"), 0)
    outcome = done(location.register(registration("Contact: <sip:b@h>;expires=0", cseq=2), 0))
    assert [binding.uri for binding in outcome.removed] == ["sip:b@h"]
    assert refused(location.register(registration("Contact: *", "Expires: 0", cseq=1), 0)).status == 500
    outcome = done(location.register(registration("Contact: *", "Expires: 0", cseq=3), 0))
    assert len(outcome.removed) == 2
    assert list(location) == []


@pytest.mark.parametrize(
    "headers",
    [
        ["Contact: *"],
        ["Contact: *", "Expires: 5"],
        ["Contact: *, <sip:a@h>", "Expires: 0"],
        ["Contact: <mailto:a@h>"],
        ["Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"],
        ["Contact: <name:John_Smith>"],
    ],
)
def test_contacts_a_registrar_cannot_take_are_refused(headers: list[str]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        registration(*headers)
    assert caught.value.status == 400


def test_without_contact_the_bindings_are_only_told() -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:a@h>"), 0)
    outcome = done(location.register(registration(cseq=1), 0))
    assert [binding.uri for binding in outcome.bindings] == ["sip:a@h"]
    assert (outcome.added, outcome.removed, outcome.refreshed) == ((), (), ())


def test_instance_and_reg_id_replace_whatever_contact_was_there() -> None:
    location = MemoryLocation()
    outbound = "Supported: outbound"
    location.register(registration(f"Contact: <sip:a@h:1>;{INSTANCE};reg-id=1", outbound), 0)
    location.register(registration(f"Contact: <sip:a@h:1>;{INSTANCE};reg-id=2", outbound, call_id="b"), 0)
    assert len(location) == 2
    moved = registration(f"Contact: <sip:a@h:2>;{INSTANCE};reg-id=1", outbound, call_id="after a restart")
    outcome = done(location.register(moved, 0))
    assert [(binding.uri, binding.reg_id) for binding in outcome.refreshed] == [("sip:a@h:2", 1)]
    assert len(location) == 2


def test_reg_id_is_ignored_without_the_outbound_option_tag() -> None:
    (binding,) = done(MemoryLocation().register(registration(f"Contact: <sip:a@h>;{INSTANCE};reg-id=1"), 0)).added
    assert (binding.instance, binding.reg_id) == ('"<urn:uuid:1>"', None)


def test_path_is_kept_in_order() -> None:
    location = MemoryLocation()
    headers = ("Contact: <sip:a@h>", "Path: <sip:p1;lr>, <sip:p2;lr>", "Path: <sip:p3;lr>")
    (binding,) = done(location.register(registration(*headers), 0)).added
    assert binding.path == ("<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>")


def test_bindings_are_bounded_per_aor_and_in_all() -> None:
    location = MemoryLocation(Limits(per_aor=2, total=3))
    many = registration("Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>")
    assert refused(location.register(many, 0)).status == 403
    location.register(registration("Contact: <sip:a@h>, <sip:b@h>"), 0)
    other = registration("Contact: <sip:a@h>, <sip:b@h>", aor="sip:bob@example.com")
    assert refused(location.register(other, 0)).status == 503
    assert len(location) == 2


def test_lookup_gives_highest_q_first_and_the_latest_of_equals() -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:a@h>;q=0.1, <sip:b@h>, <sip:c@h>;q=1.0, <sip:d@h>;q=junk"), 0)
    assert [binding.uri for binding in location.lookup(AOR, 0)] == ["sip:d@h", "sip:c@h", "sip:b@h", "sip:a@h"]


def test_expiry_takes_each_binding_once_and_a_refresh_prolongs() -> None:
    location = MemoryLocation()
    assert location.next_timeout() == math.inf
    location.register(registration("Contact: <sip:a@h>;expires=100, <sip:b@h>;expires=200"), 0)
    assert location.next_timeout() == 100
    location.register(registration("Contact: <sip:a@h>;expires=300", cseq=2), 50)
    assert location.expire(150) == []
    assert [binding.uri for binding in location.expire(210)] == ["sip:b@h"]
    assert [binding.uri for binding in location.expire(400)] == ["sip:a@h"]
    assert location.expire(500) == []
    assert len(location) == 0


def test_refreshes_do_not_make_the_table_of_times_grow() -> None:
    location = MemoryLocation()
    for cseq in range(1, 20_000):
        location.register(registration("Contact: <sip:a@h>", cseq=cseq), float(cseq))
    assert len(location._expiries) < 2000


def test_what_a_refresh_does_not_change_is_kept_in_memory_once() -> None:
    location = MemoryLocation()
    (first,) = done(location.register(registration("Contact: <sip:a@h;x=long>", call_id="one-call"), 0)).added
    flow = FLOW._replace(remote=TransportAddress(*FLOW.remote))
    (second,) = done(
        location.register(registration("Contact: <sip:a@h;x=long>", call_id="one-call", cseq=2, flow=flow), 1)
    ).refreshed
    assert second.flow is first.flow
    assert (second.uri is first.uri, second.call_id is first.call_id, second.aor is first.aor) == (True, True, True)


def test_removing_a_binding_that_was_refreshed_meanwhile_does_nothing() -> None:
    location = MemoryLocation()
    (old,) = done(location.register(registration("Contact: <sip:a@h>"), 0)).added
    location.register(registration("Contact: <sip:a@h>", cseq=2), 10)
    location.remove([old])
    assert len(location) == 1
    location.remove(list(location))
    assert len(location) == 0


def test_serials_are_not_used_again_after_a_restart() -> None:
    location = MemoryLocation()
    location.register(registration("Contact: <sip:a@h>, <sip:b@h>"), 0)
    again = MemoryLocation(known=list(location), first_serial=1)
    (binding,) = done(again.register(registration("Contact: <sip:c@h>", cseq=2), 0)).added
    assert binding.serial == 3
    later = MemoryLocation(first_serial=1_790_000_000)
    (binding,) = done(later.register(registration("Contact: <sip:c@h>"), 0)).added
    assert binding.serial == 1_790_000_000


class Recorder:
    def __init__(self) -> None:
        self.table: dict[int, Binding] = {}

    def write(self, put: object, removed: object) -> None:
        self.table.update((binding.serial, binding) for binding in put)  # type: ignore[attr-defined]
        for binding in removed:  # type: ignore[attr-defined]
            del self.table[binding.serial]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.lists(st.tuples(st.sampled_from("wxyz"), st.sampled_from([0, 60, 300])), max_size=3),
            st.sampled_from(["one", "two"]),
            st.integers(0, 100),
        ),
        max_size=30,
    )
)
def test_tables_and_journal_always_agree(steps: list[tuple[str, list[tuple[str, int]], str, int]]) -> None:
    journal = Recorder()
    location = MemoryLocation(Limits(total=6), journal=journal)
    now = 0.0
    for number, (aor, contacts, call_id, passed) in enumerate(steps):
        now += passed
        location.expire(now)
        value = ", ".join(f"<sip:{user}@h>;expires={expires}" for user, expires in contacts)
        headers = [f"Contact: {value}"] if value else []
        location.register(registration(*headers, call_id=call_id, cseq=number + 1, aor=aor), now)
        assert {binding.serial: binding for binding in location} == journal.table
        found = [binding for aor in "ab" for binding in location.lookup(aor, now)]
        assert sorted(b.serial for b in found) == sorted(journal.table)
        assert sorted(b.serial for b in location.by_flow(FLOW)) == sorted(journal.table)
