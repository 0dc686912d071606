"""Whatever drivers send, in whatever order: nothing but refusals, no leak, and no flow that names a closed one."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from nattrav.net.address import TransportAddress
from relay.engine import Engine
from relay.selection import Selection
from relay.session import (
    CallKey,
    Carriage,
    Direction,
    Learning,
    PartyMedia,
    Refusal,
    RtcpMux,
    SideOptions,
)
from tests.relay.calls import opener_of, plane_of
from tests.relay.planes import engine

CALL_IDS = st.sampled_from(["one", "two"])
TAGS = st.sampled_from(["a", "b", "c", "d"])
ADDRESSES = st.one_of(
    st.none(),
    st.builds(
        TransportAddress,
        st.sampled_from(["198.51.100.10", "192.0.2.20", "2001:db8::9", "192.168.1.7", "224.0.0.1", "127.0.0.1"]),
        st.sampled_from([0, 4000, 4002, 6000]),
    ),
)
OPTIONS = st.builds(
    SideOptions,
    learning=st.sampled_from([None, *Learning]),
    media_handover=st.booleans(),
    asymmetric=st.booleans(),
    port_latching=st.booleans(),
    no_port_latching=st.booleans(),
    nat_wait=st.booleans(),
    signalling_source=st.sampled_from([None, "198.51.100.10"]),
    sip_source_address=st.booleans(),
    address_family=st.sampled_from([None, 4, 6]),
    rtcp_mux=st.frozensets(st.sampled_from(list(RtcpMux))),
    new_branch=st.booleans(),
    provisional=st.booleans(),
    final_response=st.booleans(),
)


@st.composite
def media(draw: st.DrawFn) -> PartyMedia:
    address = draw(ADDRESSES)
    mux = draw(st.booleans())
    carriage = draw(st.sampled_from([Carriage.RTP, Carriage.RTP, Carriage.DATAGRAM, Carriage.NONE]))
    return PartyMedia(
        media="audio",
        protocol="RTP/AVP",
        carriage=carriage,
        rtp=address,
        rtcp=None if address is None or mux or address.port == 0 else replace_port(address),
        rtcp_mux=mux,
        direction=draw(st.sampled_from(list(Direction))),
        payload_types=frozenset(draw(st.lists(st.integers(0, 127), max_size=3))),
        rejected=draw(st.booleans()) and draw(st.booleans()),
        null_address=draw(st.booleans()) and draw(st.booleans()),
    )


def replace_port(address: TransportAddress) -> TransportAddress:
    return TransportAddress(address.host, address.port + 1)


STREAMS = st.lists(media(), min_size=1, max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), CALL_IDS, TAGS, st.none() | TAGS, st.none() | TAGS, STREAMS, OPTIONS),
        st.tuples(st.just("offer"), CALL_IDS, TAGS, st.none() | TAGS, st.none() | TAGS, STREAMS, OPTIONS),
        st.tuples(st.just("answer"), CALL_IDS, TAGS, TAGS, st.none() | TAGS, STREAMS, OPTIONS),
        st.tuples(st.just("answer"), CALL_IDS, TAGS, TAGS, st.none() | TAGS, STREAMS, OPTIONS),
        st.tuples(st.just("delete"), CALL_IDS, st.none() | TAGS, st.none() | TAGS, st.none() | TAGS, st.booleans()),
        st.tuples(st.just("block"), CALL_IDS, TAGS, TAGS, st.booleans()),
        st.tuples(st.just("wait"), st.floats(0, 80)),
        st.tuples(st.just("restart")),
    ),
    max_size=25,
)


def consistent(relay: Engine) -> None:
    plane = plane_of(relay)
    held = [port for s in relay.sessions.values() for leg in s.legs() for ports in leg.sets() for port in ports.ports()]
    assert len(held) == len({id(port) for port in held})
    assert sorted(port.flow for port in held) == sorted(plane.settings)
    assert set(relay.streams.owners) == set(plane.settings)
    assert len(opener_of(relay).bound) == len(held) == sum(pool.used for pool in relay.interfaces.pools)
    for flow, rules in plane.settings.items():
        session = relay.streams.owners[flow][0]
        for number in (rules.egress, rules.egress_rtcp, rules.companion):
            assert number is None or number in plane.settings
            assert number is None or relay.streams.owners[number][0] is session
        assert rules.public or (rules.egress is None and rules.egress_rtcp is None)
        assert not (rules.strict and rules.handover)
    for session in relay.sessions.values():
        assert all(party.partner is None or party.partner in session.parties for party in session.parties)
        assert all(party in session.parties for party in session.by_tag.values())


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_sequence_of_commands_keeps_the_relay_consistent(steps: list[tuple[object, ...]]) -> None:
    specs = ("public/203.0.113.5", "public/2001:db8::5")
    relay = engine(*specs, low=30000, high=30047)
    now = 0.0
    for step in steps:
        now += 0.1
        try:
            match step:
                case ("offer", str(call), str(a), b, branch, list(streams), SideOptions() as options):
                    placed = relay.offer(CallKey(call, a, b, branch), streams, options, now)  # type: ignore[arg-type]
                    assert len(placed) == len(streams)
                case ("answer", str(call), str(a), str(b), branch, list(streams), SideOptions() as options):
                    placed = relay.answer(CallKey(call, a, b, branch), streams, options, now)  # type: ignore[arg-type]
                    assert len(placed) == len(streams)
                case ("delete", str(call), a, b, branch, bool(honour)):
                    key = CallKey(call, a, b, branch)  # type: ignore[arg-type]
                    relay.delete(key, honour_to_tag=honour, delay=5.0 if honour else None, now=now)
                case ("block", str(call), str(a), str(b), bool(one)):
                    relay.block(Selection(call, from_tag=a, directional=True, to_tag=b if one else None))
                case ("wait", float(span)):
                    now += span
                    relay.handle_timeout(now)
                    relay.look_at_quality(now, span)
                case ("restart",):
                    relay.changed.update(relay.sessions)
                    records = relay.take_changes().records
                    fresh = engine(*specs, low=30000, high=30047)
                    restored, lost = fresh.restore(records, now)
                    assert (restored, lost) == (len(relay.sessions), [])
                    for local in plane_of(relay).locals.values():
                        assert without_numbers(fresh, local) == without_numbers(relay, local)
                    relay = fresh
        except Refusal:
            pass
        consistent(relay)
    for call_id in list(relay.sessions):
        relay.kick(call_id, now)
    consistent(relay)
    assert plane_of(relay).settings == {}
    assert relay.next_timeout() is None


def without_numbers(relay: Engine, local: TransportAddress) -> list[tuple[str, object]]:
    rules = replace(plane_of(relay).at(local), egress=None, egress_rtcp=None, companion=None)
    return [(field.name, getattr(rules, field.name)) for field in fields(rules)]
