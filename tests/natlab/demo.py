"""`make demo`: a phone behind a symmetric NAT calls a gateway through `nattrav run`, and both hear each other.

Builds the Internet in network namespaces, starts the bundle, places the call between two real user agents and prints
the twelve steps with the addresses that were seen on the wire. Exit code 0 only when both sides heard each other.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.natlab import edges, namespaces
from tests.natlab.calls import CallRecord, finish
from tests.natlab.capture import Address, Capture, Packet
from tests.natlab.edges import NattravEdge
from tests.natlab.laboratory import BUNDLE, GATEWAY, Laboratory, Subscriber
from tests.natlab.namespaces import LaboratoryFault
from tests.natlab.nats import BEHAVIOR, Kind
from tests.natlab.town import NUMBER, Town
from tests.natlab.wire import parameter

NAME = "alice"


@dataclass(frozen=True)
class Talk:
    """What the demonstration saw of its call."""

    household: Subscriber
    inside: list[Packet]
    record: CallRecord
    session: dict[str, Any]


def place_call(laboratory: Laboratory, kind: Kind, seconds: float, say: Any) -> Talk:
    """Build the household, start the bundle and the user agents, and hold the call."""
    household = laboratory.subscriber(NAME, kind)
    behavior = BEHAVIOR[kind]
    say("The Internet of this demonstration")
    say(f"  phone    {household.phone.address} behind a NAT at {household.public}")
    say(f"           ({kind}: {behavior.mapping} mapping, {behavior.filtering} filtering)")
    say(f"  nattrav  {BUNDLE}     gateway  {GATEWAY}")
    with Capture(laboratory.internet) as outside, Capture(household.phone.namespace, outgoing=True) as inside:
        begin = time.monotonic()
        with Town(laboratory, NattravEdge(laboratory, (NAME,)), outside) as town:
            say(f"\nnattrav run is ready after {time.monotonic() - begin:.1f} s")
            gateway, phone = town.gateway, town.phone(NAME, household.phone)
            registered = outside.first(lambda one: one.message.is_response(200, "REGISTER"))
            say(f"{NAME} is registered; the NAT mapped her phone to {place(registered.packet.destination)}\n")
            mark, begin = outside.mark(), time.monotonic()
            phone.dial(NUMBER)
            phone.wait_established(since=begin)
            gateway.wait_established(since=begin)
            time.sleep(seconds)
            call_id = next(one.message.call_id for one in outside.sip(mark) if one.message.is_request("INVITE"))
            session = json.loads(town.edge.ask("sessions", "show", call_id, "--json"))
            record = finish(phone, gateway, outside, mark, begin, seconds=seconds)
    return Talk(household, inside.packets(), record, session)


def steps(talk: Talk) -> list[tuple[str, str]]:
    """The twelve steps, each with what was seen. Raises AssertionError when one did not happen."""
    record, public = talk.record, talk.household.public
    asked = record.first("INVITE", source=public, to=BUNDLE)
    offered = record.first("INVITE", source=BUNDLE, to=GATEWAY)
    accepted = record.first(200, source=GATEWAY, to=BUNDLE)
    answered = record.first(200, source=BUNDLE, to=public)
    towards_gateway, towards_phone = offered.message.media[0], answered.message.media[0]
    learned = {leg["local"]: leg for leg in rtp_legs(talk.session)}
    phone_leg = learned[place(towards_phone)]
    gateway_leg = learned[place(towards_gateway)]
    from_phone = first_rtp(record, source=public, to=towards_phone)
    to_gateway = first_rtp(record, source=BUNDLE, to=accepted.message.media[0])
    from_gateway = first_rtp(record, source=GATEWAY, to=towards_gateway)
    to_phone = first_rtp(record, source=BUNDLE, to=from_phone.source)
    sent = next(packet for packet in talk.inside if packet.is_rtp and packet.source[0] == talk.household.phone.address)
    via = offered.message.all("via")[1]
    assert answered.packet.source == (BUNDLE, 5060), f"the 200 came from {answered.packet.source}"
    assert answered.packet.destination == asked.packet.source, f"the 200 went to {answered.packet.destination}"
    assert phone_leg["learned"] == place(from_phone.source), f"the relay learned {phone_leg['learned']}"
    delay = (to_gateway.moment - from_phone.moment) * 1000
    return [
        (
            "INVITE reaches the NAT proxy",
            f"{asked.packet}, SDP says {place(asked.message.media[0])}; "
            f"Via gets received={parameter(via, 'received')} rport={parameter(via, 'rport')}",
        ),
        ("the proxy asks the relay", f"ng offer for call {asked.message.call_id} over the Unix socket"),
        (
            "the relay assigns ports",
            f"{place(towards_gateway)} towards the gateway, {place(towards_phone)} towards her",
        ),
        ("INVITE with the relay's SDP goes to the gateway", f"{offered.packet}, SDP says {place(towards_gateway)}"),
        ("the gateway answers 200 with its own SDP", f"{accepted.packet}, SDP says {place(accepted.message.media[0])}"),
        ("the proxy gives the relay the gateway's address", f"ng answer: gateway at {gateway_leg['signalled']}"),
        ("the relay returns the port for the phone", place(towards_phone)),
        (
            "200 with the relay's SDP goes back through the NAT",
            f"{answered.packet}, the very address and port of step 1; SDP says {place(towards_phone)}",
        ),
        (
            "the phone's RTP reaches the relay",
            f"{place(sent.source)} comes out of the NAT as {from_phone}; the relay learned {phone_leg['learned']}",
        ),
        ("the relay forwards it to the gateway", f"{to_gateway}, {delay:.2f} ms after the first packet came"),
        ("the gateway's RTP reaches the relay", f"{from_gateway}"),
        ("the relay forwards it to the learned address", f"{to_phone}"),
    ]


def first_rtp(record: CallRecord, *, source: str, to: Address) -> Packet:
    for packet in record.packets:
        if packet.is_rtp and packet.source[0] == source and packet.destination == to:
            return packet
    raise AssertionError(f"no RTP from {source} to {place(to)}; flows were {record.rtp_flows()}")


def rtp_legs(session: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        component
        for party in session["parties"]
        for leg in party["legs"]
        for component in leg["components"]
        if component["component"] == "rtp"
    ]


def place(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description=__doc__)
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.SYMMETRIC.value)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long they talk")
    parser.add_argument("--keep", type=Path, help="keep logs and recordings in this directory")
    chosen = parser.parse_args(arguments)
    reason = namespaces.missing() or edges.missing()
    if reason:
        print(f"the demonstration {reason}", file=sys.stderr)
        return 2
    with Laboratory(chosen.keep) as laboratory:
        try:
            talk = place_call(laboratory, Kind(chosen.kind), chosen.seconds, print)
            for number, (what, seen) in enumerate(steps(talk), 1):
                print(f"{number:>2}. {what}\n      {seen}")
        except (LaboratoryFault, AssertionError) as fault:
            print(f"\nfailed: {fault}\n\n{laboratory.logs()}", file=sys.stderr)
            return 1
        heard = talk.record
        print(f"\nphone heard the gateway in {heard.caller.far:.0%} of the frames, "
              f"the gateway heard the phone in {heard.callee.far:.0%}")  # fmt: skip
        print(f"verdict: {heard.verdict}")
        return 0 if heard.verdict == "both" else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
