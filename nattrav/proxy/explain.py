"""What happened to a call and why: its messages before and after, the rule of each changed line, a closing sentence."""

from __future__ import annotations

from typing import Any

from nattrav.proxy.alg import NONE, SUSPECTED
from nattrav.proxy.call_facts import Message, Party
from nattrav.proxy.calls import Call
from nattrav.proxy.parts import Parts
from nattrav.proxy.refusals import names_of
from nattrav.proxy.verdict import circumstances, verdict
from nattrav.sip.redaction import redacted
from nattrav.sip.transport.flow import Flow

RULES = {
    "request-line": ("R3", "Request-URI set to the next target (RFC 3261 §16.5)"),
    "via": ("R7", "our Via on top, or taken off again; received and rport say where it came from (T3)"),
    "max-forwards": ("R2", "one hop less"),
    "max-breadth": ("R10", "its share of the branches that may be tried at a time (RFC 5393)"),
    "record-route": ("R5", "we stay in the path; the token names the phone's flow"),
    "route": ("R3", "our own entry is used up"),
    "path": ("N1", "the core finds back through our token"),
    "proxy-authorization": ("R12", "credentials for our realm end here"),
    "content-length": ("D1", "the body changed"),
    "contact": ("8.1", "registration times differ on both sides"),
    "expires": ("8.2", "the core is asked for longer than the phone"),
    "supported": ("N8", "path is supported on the phone's behalf"),
}
SDP_RULES = {"c": ("D2", "media goes to the relay"), "m": ("D2", "the relay's port"), "o": ("D8", "origin hidden")}
SDP_ATTRIBUTES = ("D5", "RTCP address or attribute written by the relay")


def explain(call: Call, parts: Parts, now: float) -> dict[str, Any]:
    """Give everything known of a call as JSON-able data, without digests and keys."""
    messages = call.messages or []
    steps: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        text = message.data.decode("latin-1", "replace")
        step: dict[str, Any] = {
            "at": round(parts.wall(message.at), 6),
            "direction": "in" if message.received else "out",
            "flow": _peer(message.flow),
            "line": text.partition("\r\n")[0],
            "text": redacted(text),
        }
        if not message.received:
            before = _source(messages, number)
            if before is not None:
                step["changes"] = changes(before.data, message.data)
        steps.append(step)
    nat: dict[str, dict[str, Any]] = {}
    for party in Party:
        flow = call.flows[party]
        alg = NONE if flow is None else parts.alg.suspicion(flow.remote.host, now)
        nat[party.value] = {
            "tests": call.nat[party].names,
            "nat": call.nat[party].nat,
            "alg_score": alg.score,
            "alg_signs": list(alg.signs),
            "quirk": None if flow is None else quirk_of(parts, call.user_agents.get(party), flow, None),
        }
    return {
        "call": call.calls.record(call),
        "nat": nat,
        "messages": steps,
        "messages_kept": call.messages is not None,
        "circumstances": circumstances(call),
        "verdict": verdict(call) + alg_sentence(nat),
    }


def _peer(flow: object) -> str:
    remote = getattr(flow, "remote", None)
    return f"{getattr(flow, 'transport', '')}:{remote}" if remote is not None else str(flow)


def _source(messages: list[Message], number: int) -> Message | None:
    """The received message that a sent one came of: the latest with the same CSeq and kind."""
    sent = _identity(messages[number].data)
    for earlier in reversed(messages[:number]):
        if earlier.received and _identity(earlier.data) == sent:
            return earlier
    return None


def _identity(data: bytes) -> tuple[str, str]:
    head = data.partition(b"\r\n\r\n")[0].decode("latin-1", "replace")
    start, _, rest = head.partition("\r\n")
    kind = start.split(" ")[1] if start.startswith("SIP/2.0 ") else start.split(" ")[0]
    cseq = next((line.partition(":")[2].strip() for line in rest.split("\r\n") if line[:5].lower() == "cseq:"), "")
    return kind, cseq


def changes(before: bytes, after: bytes) -> list[dict[str, str]]:
    """Line by line: what went, what came, and the rule that did it."""
    found = []
    old_head, _, old_body = before.decode("latin-1", "replace").partition("\r\n\r\n")
    new_head, _, new_body = after.decode("latin-1", "replace").partition("\r\n\r\n")
    for sign, line in _difference(old_head.split("\r\n"), new_head.split("\r\n")):
        name = line.partition(":")[0].strip().lower()
        is_start = line in (old_head.split("\r\n", 1)[0], new_head.split("\r\n", 1)[0])
        rule, why = RULES.get("request-line" if is_start else name, ("P2", "changed"))
        found.append({"sign": sign, "line": redacted(line), "rule": rule, "why": why})
    for sign, line in _difference(old_body.splitlines(), new_body.splitlines()):
        rule, why = SDP_RULES.get(line[:1], SDP_ATTRIBUTES)
        found.append({"sign": sign, "line": redacted(line), "rule": rule, "why": why})
    return found


def _difference(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    gone = [line for line in old if line not in new]
    come = [line for line in new if line not in old]
    return [("-", line) for line in gone] + [("+", line) for line in come]


def quirk_of(parts: Parts, user_agent: str | None, flow: Flow, aor: str | None) -> str | None:
    """Name the entry of the table of quirks by which a device is treated, None for a plain one."""
    return parts.quirks.treatment(user_agent, flow.remote, aor).entry


def alg_sentence(nat: dict[str, dict[str, Any]]) -> str:
    """Name an ALG where enough speaks for one, and what to do about it."""
    named = [side for side, facts in nat.items() if facts["alg_score"] >= SUSPECTED]
    if not named:
        return ""
    signs = ", ".join(sorted({sign for side in named for sign in nat[side]["alg_signs"]}))
    return (
        f" The router of the {' and the '.join(named)} seems to rewrite SIP ({signs}): "
        "switch its SIP ALG off, or let the phone use TLS."
    )


def matches(call: Call, wanted: str) -> bool:
    """The call is meant by a Call-ID, a number, a user or an address."""
    if call.call_id == wanted:
        return True
    if wanted in names_of(call.caller) or wanted in names_of(call.callee):
        return True
    return any(flow is not None and flow.remote.host == wanted for flow in call.flows.values())
