"""Calls in progress as they are kept over a restart of the proxy: who talks to whom, by which dialog, since when.

Only calls that have lasted a while are written, so that short ones cost nothing: the shell takes the changes every few
seconds. What a crash loses of the latest ones is found again by their tokens (`nattrav.proxy.dialogs`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import CallState, Party
from nattrav.proxy.calls import Call, Calls
from nattrav.proxy.hang_up import Dialog, dialog_of
from nattrav.proxy.nat import NatTest, NatVerdict
from nattrav.proxy.parts import Parts
from nattrav.sip.transport.flow import Flow

LARGEST = 16_384
"""Octets; a call whose dialog takes more is not kept."""
CSEQ_MARGIN = 100
"""Requests that a party may have sent unseen since its call was written."""


def written(call: Call, parts: Parts) -> str | None:
    """Give a call as one line of JSON; None for one too large."""
    dialog = dialog_known(call, parts)
    fields: dict[str, Any] = {
        "key": call.key,
        "call_id": call.call_id,
        "caller": call.caller,
        "callee": call.callee,
        "tags": sorted(call.callee_tags),
        "contact": call.contact,
        "start": parts.wall(call.created),
        "answer": None if call.answered is None else parts.wall(call.answered),
        "until": None if call.deadline is None else parts.wall(call.deadline),
        "interval": call.session_expires,
        "upstream": call.upstream,
        "user": call.user,
        "media": [call.media.session, call.media.used],
        "dialog": None if dialog is None else asdict(dialog),
        "parties": {
            party.value: {
                "cseq": call.cseq[party],
                "flow": call.flows[party],
                "access": call.access[party],
                "tests": call.nat[party].names,
                "nat": call.nat[party].nat,
                "asymmetric": call.nat[party].asymmetric,
                "agent": call.user_agents.get(party),
            }
            for party in Party
        },
    }
    text = json.dumps(fields, separators=(",", ":"))
    return text if len(text) <= LARGEST else None


def dialog_known(call: Call, parts: Parts) -> Dialog | None:
    """The dialog of an answered call, where it is known."""
    if call.dialog is None and call.accepted is not None:
        call.dialog = dialog_of(call.accepted, call.contact, parts.names_us)
        call.accepted = None
    return call.dialog


def adopt(calls: Calls, text: str, parts: Parts) -> Call | None:
    """Take up a call that was written before the restart; None for a line that cannot be read or is known already."""
    try:
        return _adopt(calls, json.loads(text), parts)
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _adopt(calls: Calls, fields: dict[str, Any], parts: Parts) -> Call | None:
    sides = {party: fields["parties"][party.value] for party in Party}
    session, tag = fields["key"]
    offset = parts.wall_offset
    call = Call(
        calls,
        (str(session), str(tag)),
        call_id=str(fields["call_id"]),
        caller=str(fields["caller"]),
        callee=str(fields["callee"]),
        cseq=int(sides[Party.CALLER]["cseq"]),
        now=float(fields["start"]) - offset,
    )
    call.adopted = call.attempted = True
    call.state = CallState.CONFIRMED
    call.code = 200
    call.answered = None if fields["answer"] is None else float(fields["answer"]) - offset
    call.callee_tags = {str(one) for one in fields["tags"]}
    call.contact = fields["contact"]
    call.session_expires = fields["interval"]
    call.upstream = fields["upstream"]
    call.media.session, call.media.used = map(bool, fields["media"])
    call.dialog = _dialog(fields["dialog"])
    for party, side in sides.items():
        call.cseq[party] = int(side["cseq"])
        call.access[party] = bool(side["access"])
        call.nat[party] = NatVerdict(
            frozenset(NatTest(name) for name in side["tests"]),
            nat=bool(side["nat"]),
            asymmetric=bool(side["asymmetric"]),
        )
        if side["agent"]:
            call.user_agents[party] = str(side["agent"])
        call.flows[party] = _flow(side["flow"], parts)
    until = fields["until"]
    if not calls.take_up(call, None if until is None else float(until) - offset):
        return None
    if fields["user"] is not None:
        calls.set_user(call, str(fields["user"]))
    return call


def _dialog(fields: dict[str, Any] | None) -> Dialog | None:
    if fields is None:
        return None
    routes = {name: tuple(fields[name]) for name in ("caller_routes", "callee_routes")}
    return Dialog(**{**fields, **routes})


def _flow(fields: list[Any] | None, parts: Parts) -> Flow | None:
    if fields is None:
        return None
    transport, listener, local, remote, serial = fields
    if int(listener) not in parts.listeners.by_id:
        return None
    return Flow(str(transport), int(listener), TransportAddress(*local), TransportAddress(*remote), int(serial))
