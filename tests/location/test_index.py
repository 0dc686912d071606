"""The tables under the location service."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nattrav.location.bindings import Binding
from nattrav.location.index import Expiries, Index
from nattrav.net.address import TransportAddress
from nattrav.sip.transport.flow import Flow

FLOW = Flow("udp", 7, TransportAddress("203.0.113.10", 5060), TransportAddress("198.51.100.7", 41234))


def binding(serial: int, expires_at: float = 1000.0) -> Binding:
    return Binding(
        serial=serial, aor="sip:a@h", uri="sip:a@10.0.0.5", params=(), q=1.0, registered_at=0.0,
        expires_at=expires_at, call_id="c", cseq=1, path=(), flow=FLOW,
    )  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 5), st.booleans()), max_size=40))
def test_an_index_holds_what_was_put_and_not_taken_in_order(steps: list[tuple[str, int, bool]]) -> None:
    index: Index[str] = Index()
    model: dict[str, dict[int, Binding]] = {"x": {}, "y": {}}
    for key, serial, puts in steps:
        if puts:
            one = binding(serial, expires_at=float(len(steps)))
            index.put(key, one)
            model[key][serial] = one
        elif serial in model[key]:
            index.take(key, model[key].pop(serial))
        assert {name: list(index.get(name)) for name in "xy"} == {name: [*model[name].values()] for name in "xy"}


def test_a_binding_is_replaced_by_the_one_with_its_serial() -> None:
    index: Index[str] = Index()
    index.put("a", binding(1))
    index.put("a", replace(binding(1), cseq=2))
    assert [one.cseq for one in index.get("a")] == [2]


def test_serials_come_out_at_the_second_after_their_time_and_only_once() -> None:
    expiries = Expiries()
    assert expiries.next_timeout() == math.inf
    for serial, at in ((1, 100.2), (2, 101.0), (3, 150.0)):
        expiries.add(serial, at)
    assert expiries.next_timeout() == 101
    assert list(expiries.due(100.9)) == []
    assert sorted(expiries.due(101.0)) == [1, 2]
    assert list(expiries.due(101.0)) == []
    assert (len(expiries), expiries.next_timeout()) == (1, 150)


def test_beginning_again_forgets_times_that_no_longer_hold() -> None:
    expiries = Expiries()
    for at in range(100):
        expiries.add(1, float(at))
    expiries.replace([binding(1, 99.0)])
    assert (len(expiries), list(expiries.due(99.0))) == (1, [1])
