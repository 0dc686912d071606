"""A call through a symmetric NAT whose media the kernel forwards: both hear each other, and every packet is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.natlab.calls import CallRecord, finish
from tests.natlab.capture import Capture, Packet
from tests.natlab.edges import NattravEdge
from tests.natlab.laboratory import BUNDLE, Laboratory
from tests.natlab.nats import Kind
from tests.natlab.town import NUMBER, Town
from tests.net.bpf.objects import need_bpf

pytestmark = [pytest.mark.lab, pytest.mark.interop]

TALK = 3.0
PACKETS = "nattrav_relay_packets_total"
# Learning is soon over, so that most of a short call is forwarded by the kernel.
RELAY = """
offload = "xdp"
learning_window = 0.5
"""


@pytest.fixture(scope="module")
def call(laboratory: Laboratory, capture: Capture, user_agents: None) -> Iterator[tuple[CallRecord, Any, str]]:
    """The call, the relay's session while it was up, and all metrics afterwards."""
    need_bpf()
    edge = NattravEdge(laboratory, relay=RELAY)
    with Town(laboratory, edge, capture) as town:
        household = laboratory.subscriber("ida", Kind.SYMMETRIC)
        for host in (household.phone, laboratory.gateway):
            for line in host.namespace.execute("ip", "-j", "link", "show", "type", "veth").splitlines():
                for device in json.loads(line):
                    # Machines elsewhere write their own checksums; only neighbours on one host leave them out.
                    host.namespace.execute("ethtool", "-K", device["ifname"], "tx", "off")
        phone, gateway = town.phone("ida", household.phone), town.gateway
        mark, begin = capture.mark(), time.monotonic()
        phone.dial(NUMBER)
        phone.wait_established(since=begin)
        gateway.wait_established(since=begin)
        time.sleep(TALK)
        (row,) = json.loads(edge.ask("sessions", "list", "--json"))["items"]
        session = json.loads(edge.ask("sessions", "show", row["call_id"], "--json"))
        session["metrics"] = laboratory.bundle.namespace.execute("curl", "-s", "http://127.0.0.1:8080/metrics")
        record = finish(phone, gateway, capture, mark, begin, seconds=TALK)
        # The relay hears of the end a moment later, and counts what the kernel forwarded when it closes the session.
        deadline = time.monotonic() + 5
        while True:
            metrics = laboratory.bundle.namespace.execute("curl", "-s", "http://127.0.0.1:8080/metrics")
            if sample(metrics, PACKETS, 'direction="rx"') >= arrived(record) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        yield record, session, metrics


def arrived(record: CallRecord) -> int:
    """RTP packets that reached the bundle, as the wire saw them."""
    return sum(count for (_, to), count in record.rtp_flows().items() if to[0] == BUNDLE)


def sample(metrics: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples that carry all of these labels."""
    lines = [line for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))


def is_rtcp(packet: Packet) -> bool:
    return packet.transport == "udp" and len(packet.payload) >= 8 and 200 <= packet.payload[1] <= 204


def test_both_hear_each_other(call: tuple[CallRecord, Any, str]) -> None:
    record, _, _ = call
    assert record.verdict == "both", f"{record.caller} {record.callee}\n{record.ladder}"


def test_both_directions_were_offloaded_and_show_no_loss(call: tuple[CallRecord, Any, str]) -> None:
    _, session, _ = call
    components = [c for p in session["parties"] for leg in p["legs"] for c in leg["components"] if c["in_use"]]
    media = [c for c in components if c["component"] == "rtp"]
    assert [c["path"] for c in media] == ["xdp", "xdp"]
    assert [c["path"] for c in components if c["component"] == "rtcp"] == ["userspace"] * (len(components) - 2)
    assert [c["lost"] for c in media] == [0, 0]
    assert sample(session["metrics"], "nattrav_relay_streams", 'datapath="xdp"', 'media="audio"') == 1
    assert sample(session["metrics"], "nattrav_relay_streams", 'datapath="userspace"') == 0
    assert [d["cause"] for d in session["directions"]] == [None, None]


def test_every_packet_on_the_wire_is_counted_once(call: tuple[CallRecord, Any, str]) -> None:
    record, _, metrics = call
    came, name = arrived(record), PACKETS
    went = sum(count for (source, _), count in record.rtp_flows().items() if source[0] == BUNDLE)
    by_kernel = sample(metrics, name, 'datapath="xdp"', 'direction="rx"')
    assert by_kernel > 0.6 * came
    assert by_kernel == sample(metrics, name, 'datapath="xdp"', 'direction="tx"')
    rtcp = len([packet for packet in record.packets if is_rtcp(packet) and packet.destination[0] == BUNDLE])
    dropped = sample(metrics, "nattrav_relay_dropped_packets_total")
    # RTCP that says goodbye comes when the session has ended.
    assert came <= sample(metrics, name, 'direction="rx"') + dropped <= came + rtcp
    assert came - went <= dropped + 2
