"""Offer and answer to relay verbs (RFC 3264, RFC 6337): who sent this SDP in which transaction decides.

Tags in `offer` name the party whose SDP it is as `from-tag`; in `answer` the offerer's is `from-tag`, the answerer's
`to-tag`. Asked twice for the same SDP in the same place, the stored result is given and the relay is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from nattrav.proxy.call_facts import Party
from nattrav.proxy.calls import Call
from nattrav.proxy.effects import AskRelay
from nattrav.proxy.nat import NatVerdict
from nattrav.proxy.parts import Parts
from nattrav.proxy.quality import media_facts
from nattrav.proxy.quirks import Treatment
from nattrav.sdp import multipart
from nattrav.sip.message import Message
from nattrav.sip.transport.flow import Flow

Resume = Callable[[bytes | None, float], None]
"""Goes on with the new body, or with None when the relay refused or did not answer."""

SDP = "application/sdp"
DELETE_DELAY = 30
_CONNECTION = re.compile(rb"\nc=IN IP[46] ([^\s/]+)")
_RTCP = re.compile(rb"\na=rtcp:\d+ IN IP[46] (\S+)")


class Side(NamedTuple):
    """What the relay is told about the sender of an SDP; `towards` is the host that its rewritten form goes to."""

    flow: Flow | None
    access: bool
    verdict: NatVerdict
    treatment: Treatment
    latch: bool
    towards: str | None = None
    status: int | None = None
    """Of the response that carried the SDP; None for a request."""


def sdp_of(message: Message) -> bytes | None:
    """Give the session description of a message, None without one that can be read (D12)."""
    body = message.body
    if not body:
        return None
    if message.content_type == SDP and "content-encoding" not in message.names:
        return body
    part = _part_of(message)
    return None if part is None else body[part.start : part.end]


def with_sdp(message: Message, sdp: bytes) -> bytes:
    """Give the body of a message with another session description in it, all other octets as they were."""
    if message.content_type == SDP:
        return sdp
    part = _part_of(message)
    return sdp if part is None else multipart.replace(message.body, [part], [sdp])


def _part_of(message: Message) -> multipart.SdpPart | None:
    kind = message.content_type or ""
    if not kind.startswith("multipart/"):
        return None
    parts = multipart.find(message.first("content-type") or "", message.body, encoded=message.has("content-encoding"))
    return next((part for part in parts if not part.encoded and part.disposition == "session"), None)


def media_hosts(sdp: bytes) -> tuple[str, ...]:
    """Every c= and a=rtcp address of an SDP."""
    found = _CONNECTION.findall(sdp) + _RTCP.findall(sdp)
    return tuple(dict.fromkeys(host.decode("latin-1") for host in found))


class Media:
    """Asks the relay and keeps what a call needs to be restored or repeated."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def offer(
        self,
        call: Call,
        sdp: bytes,
        side: Side,
        resume: Resume,
        *,
        from_tag: str,
        to_tag: str | None = None,
        branch: str | None = None,
    ) -> None:
        """The SDP is an offer of the party with `from_tag`."""
        call.media.session = call.media.used = True
        arguments = self._arguments("offer", call, sdp, side, from_tag, to_tag, branch)
        self._ask("offer", call, arguments, resume)

    def answer(
        self,
        call: Call,
        sdp: bytes,
        side: Side,
        resume: Resume,
        *,
        from_tag: str,
        to_tag: str,
        branch: str | None = None,
    ) -> None:
        """The SDP answers the offer of `from_tag`; `to_tag` is the answerer's."""
        arguments = self._arguments("answer", call, sdp, side, from_tag, to_tag, branch)
        self._ask("answer", call, arguments, resume)

    def delete(
        self, call: Call, *, branch: str | None = None, to_tag: str | None = None, delay: int | None = None
    ) -> None:
        """End the relay session of a call, or one branch of it, or one dialog that its branches led to."""
        if not call.media.session:
            return
        part = branch is not None or to_tag is not None
        if not part:
            call.media.session = False
            call.media.closing = True
        arguments: dict[str, Any] = {"call-id": call.session, "from-tag": call.caller_tag}
        if branch is not None:
            arguments["via-branch"] = branch
        if to_tag is not None:
            arguments |= {"to-tag": to_tag, "flags": ["to-tag"]}
        if delay is not None:
            arguments["delete-delay"] = delay
        request = self._parts.await_reply(_ignore if part else partial(self._deleted, call))
        self._parts.out.append(AskRelay(request, "delete", call.session, arguments))

    def delete_unknown(self, call_id: str, tag: str) -> None:
        """End the relay session of a call that began before this process did; without one the relay just says so."""
        request = self._parts.await_reply(_ignore)
        self._parts.out.append(AskRelay(request, "delete", call_id, {"call-id": call_id, "from-tag": tag}))

    def restore(self, call: Call) -> None:
        """A re-INVITE failed: put the last completed exchange in force again."""
        stable = call.media.stable
        if stable is None:
            return
        offerer, offer, answerer, answer = stable
        request_like: dict[str, Any] = {"sip-message-type": "sip_request"}
        reply_like: dict[str, Any] = {"sip-message-type": "sip_reply", "sip-code": 200}
        for command, sdp, sender, kind in (
            ("offer", offer, offerer, request_like),
            ("answer", answer, answerer, reply_like),
        ):
            arguments = {
                **kind,
                "call-id": call.session,
                "from-tag": offerer,
                "to-tag": answerer,
                "sdp": sdp,
                **call.media.wishes.get(sender, {"ICE": "remove", "replace": ["origin"]}),
            }
            request = self._parts.await_reply(_ignore)
            self._parts.out.append(AskRelay(request, command, call.session, arguments))

    def _arguments(
        self, command: str, call: Call, sdp: bytes, side: Side, from_tag: str, to_tag: str | None, branch: str | None
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {"call-id": call.session, "from-tag": from_tag, "sdp": sdp}
        if side.status is None:
            arguments["sip-message-type"] = "sip_request"
        else:
            arguments["sip-message-type"] = "sip_reply"
            arguments["sip-code"] = side.status
        if to_tag is not None:
            arguments["to-tag"] = to_tag
        if branch is not None:
            arguments["via-branch"] = branch
        wishes = _wishes(side)
        family = _family_wanted(sdp, side.towards)
        if family is not None:
            wishes["address-family"] = family
        sender = from_tag if command == "offer" else to_tag
        if sender is not None:
            call.media.wishes[sender] = wishes
        return arguments | wishes

    def _ask(self, command: str, call: Call, arguments: dict[str, Any], resume: Resume) -> None:
        request = self._parts.await_reply(partial(self._answered, command, call, resume))
        self._parts.out.append(AskRelay(request, command, call.session, arguments))

    def _answered(self, command: str, call: Call, resume: Resume, reply: object, now: float) -> None:
        if isinstance(reply, dict) and reply.get("result") == "ok" and "sdp" in reply:
            sdp = reply["sdp"]
            resume(sdp if isinstance(sdp, bytes) else str(sdp).encode("latin-1"), now)
            return
        reason = reply.get("error-reason", reply.get("result")) if isinstance(reply, dict) else "no answer"
        self._parts.log("warning", f"relay_{command}_failed", call_id=call.call_id, reason=reason)
        call.why = "no relay answered" if reply is None else f"the relay refused the {command}: {reason}"
        resume(None, now)

    def _deleted(self, call: Call, reply: object, now: float) -> None:
        call.quality = media_facts(reply, call.caller_tag)
        if call.resumed and not (isinstance(reply, dict) and reply.get("result") == "ok"):
            call.media.used = False
        call.media.closing = False
        call.calls.write(call)


def _wishes(side: Side) -> dict[str, Any]:
    """What the relay is asked about the sender of an SDP, said in full each time: a relay forgets what is not repeated.

    Learning is heuristic with strict source, which other relays than ours do not do unasked.
    """
    treatment = side.treatment
    wishes: dict[str, Any] = {"supports": ["load limit"], "endpoint-learning": "heuristic"}
    flags = ["SIP-source-address" if side.access and side.verdict.nat else "trust-address"]
    if side.flow is not None:
        host = side.flow.remote.host
        wishes["received-from"] = ["IP6" if ":" in host else "IP4", host]
    if not side.latch or treatment.latch == "never":
        flags.append("asymmetric")
    if (side.latch and treatment.latch != "never") or treatment.latch == "strict":
        flags.append("strict-source")
    wishes["flags"] = flags
    if treatment.ice != "pass":
        wishes["ICE"] = "remove"
    if treatment.o_line != "keep":
        wishes["replace"] = ["origin"]
    return wishes


def _family_wanted(sdp: bytes, towards: str | None) -> str | None:
    """Name the address family of who gets the SDP, when the SDP speaks another one."""
    if towards is None:
        return None
    wanted, other = ("IP6", b"\nc=IN IP4 ") if ":" in towards else ("IP4", b"\nc=IN IP6 ")
    return wanted if other in sdp else None


def _ignore(reply: object, now: float) -> None:
    """The answer changes nothing."""


def latch_of(call: Call, party: Party, default: bool = True) -> bool:
    """Whether a party's media address is learned: always for phones, for upstreams as configured."""
    return True if call.access[party] else default
