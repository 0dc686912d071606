"""Calls as the proxy knows them: who the two parties are, which flows reach them, and what becomes of the call.

Less than a dialog: enough to tell caller from callee in any later request, to end the relay session, to write the call
record, and to explain what happened.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from nattrav.net.address import TransportAddress
from nattrav.proxy.call_facts import CallState, MediaState, Message, Party
from nattrav.proxy.effects import Record
from nattrav.proxy.hang_up import Dialog
from nattrav.proxy.meter import LOCAL, code_label
from nattrav.proxy.nat import NO_NAT, NatTest, NatVerdict
from nattrav.proxy.parts import Parts
from nattrav.proxy.timers import Timed
from nattrav.sip.message import Request, Response
from nattrav.sip.transport.flow import Flow

MESSAGES_KEPT = 60
MOVES_KEPT = 20
"""Sources of one call that its flow tokens may name; one that moves more often is found by its latest request only."""
SECOND_TIME = ";pass=2"
"""Behind the Call-ID of a call that a core sends back through us, to another phone: it has two parties more."""
ENDED_KEPT = 10_000
"""Ended calls whose stragglers are told from the requests of calls that another process set up."""
REFRESH_GRACE = 32.0
"""Seconds past the session interval before a call counts as dead."""


class Call(Timed):
    """One call, from its first INVITE to its end."""

    __slots__ = (
        "accepted",
        "access",
        "adopted",
        "answered",
        "attempted",
        "attempts",
        "call_id",
        "callee",
        "callee_tags",
        "caller",
        "calls",
        "cause",
        "code",
        "contact",
        "created",
        "cseq",
        "dialog",
        "early",
        "ended",
        "flows",
        "key",
        "media",
        "messages",
        "moved",
        "nat",
        "quality",
        "resumed",
        "ringing",
        "saved",
        "session_expires",
        "state",
        "upstream",
        "user",
        "user_agents",
        "why",
        "written",
    )

    def __init__(
        self, calls: Calls, key: tuple[str, str], *, call_id: str, caller: str, callee: str, cseq: int, now: float
    ) -> None:
        super().__init__()
        self.calls = calls
        self.key = key
        self.call_id = call_id
        self.attempts = 0
        """INVITEs under way that may set it up: a core in front of us may fork it to several of our phones."""
        self.caller = caller
        self.callee = callee
        self.callee_tags: set[str] = set()
        self.cseq: dict[Party, int] = {Party.CALLER: cseq, Party.CALLEE: 0}
        self.flows: dict[Party, Flow | None] = {Party.CALLER: None, Party.CALLEE: None}
        self.access: dict[Party, bool] = {Party.CALLER: True, Party.CALLEE: False}
        self.nat: dict[Party, NatVerdict] = {Party.CALLER: NO_NAT, Party.CALLEE: NO_NAT}
        self.user_agents: dict[Party, str] = {}
        self.state = CallState.EARLY
        self.created = now
        self.attempted = False
        self.ringing: float | None = None
        self.answered: float | None = None
        self.ended: float | None = None
        self.code = 0
        self.cause = ""
        self.upstream: str | None = None
        self.user: str | None = None
        self.media = MediaState()
        self.quality: dict[str, Any] | None = None
        self.contact: str | None = None
        self.why = ""
        """The cause of its failure, as a clause for people."""
        self.written = False
        self.resumed = False
        self.adopted = False
        """It was set up before a restart, and what was written of it then is known."""
        self.saved = False
        self.dialog: Dialog | None = None
        self.early: str | None = None
        """Tag of the phone whose early media the caller hears, where the others' are kept back."""
        self.moved: dict[tuple[int, TransportAddress], Flow] = {}
        self.accepted: Response | None = None
        self.session_expires: int | None = None
        self.messages: list[Message] | None = calls.room_for_messages(self)

    @property
    def session(self) -> str:
        """What the relay knows it by: its Call-ID, but for the second pass of a call that comes round."""
        return self.key[0]

    @property
    def caller_tag(self) -> str:
        """The caller's From tag."""
        return self.key[1]

    def sender(self, request: Request) -> Party:
        """Which party sent this request of the dialog."""
        return Party.CALLER if request.from_.tag == self.key[1] else Party.CALLEE

    def moves(self, request: Request, flow: Flow, answer: Flow) -> Flow | None:
        """Follow a party whose requests come from another source than before; give the flow it had (N4).

        Only a request of this dialog moves it: both tags, a higher CSeq. `answer` is where responses go, by which
        devices that send from one port and listen on another are known.
        """
        party = self.sender(request)
        known = self.flows[party]
        if known is None or flow == known or answer.remote == known.remote or not self.access[party]:
            return None
        if len(self.callee_tags) > 1 and party is Party.CALLEE:
            return None  # several phones answered: each has a flow of its own
        callee_tag = request.to.tag if party is Party.CALLER else request.from_.tag
        caller_tag = request.from_.tag if party is Party.CALLER else request.to.tag
        if caller_tag != self.key[1] or callee_tag not in self.callee_tags or request.cseq.number <= self.cseq[party]:
            return None
        for old, new in self.moved.items():
            if new == known:
                self.moved[old] = flow
        if len(self.moved) < MOVES_KEPT:
            self.moved[(known.listener, known.remote)] = flow
        self.flows[party] = flow
        verdict = self.nat[party]
        self.nat[party] = replace(verdict, fired=verdict.fired | {NatTest.SOURCE_MOVED})
        return known

    def note(self, at: float, received: bool, flow: object, data: bytes, *rules: str) -> None:
        """Keep a message for `explain`; a call keeps a bounded number."""
        if self.messages is not None and len(self.messages) < MESSAGES_KEPT:
            self.messages.append(Message(at, received, flow, data, rules))

    def expire(self, now: float) -> None:
        self.calls.overdue(self, now)


class Calls:
    """Live calls by (Call-ID, caller's tag), ended ones in a bounded history."""

    LONGEST = 24 * 3600.0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._live: dict[tuple[str, str], Call] = {}
        self._per_user: dict[str, int] = {}
        self._with_messages: deque[Call] = deque()
        self._unwritten: dict[tuple[str, str], Call] = {}
        self._come_round = 0
        """Second passes among the live calls."""
        self._ended: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.overdue: Callable[[Call, float], None] = self._end_overdue
        """Called for a call that was not refreshed in time; the core puts its own in here, which also hangs up."""
        self.history: OrderedDict[tuple[str, str], Call] = OrderedDict()
        self.missed: deque[dict[str, Any]] = deque(maxlen=1000)
        self.confirmed = 0
        self._by_session: dict[str, list[Call]] | None = None
        """Made when it is asked for, until another call begins."""
        self.unsaved: dict[tuple[str, str], Call] = {}
        self._ended_saved: list[tuple[str, str]] = []

    def _end_overdue(self, call: Call, now: float) -> None:
        self.end(call, "timeout" if call.session_expires is None else "session_timer", now)

    def room_for_messages(self, call: Call) -> list[Message] | None:
        """Let a new call keep its messages; the oldest call that does forgets them when there are too many."""
        limit = self._parts.sip.history
        if not limit:
            return None
        if len(self._with_messages) >= limit:
            self._with_messages.popleft().messages = None
        self._with_messages.append(call)
        return []

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._live.values())

    def find(self, call_id: str, one_tag: str | None, other_tag: str | None) -> Call | None:
        """Find the call of a request or response, whichever side sent it."""
        live = self._live
        if one_tag is not None:
            call = live.get((call_id, one_tag))
            if call is not None:
                return call
        return live.get((call_id, other_tag)) if other_tag is not None else None

    def with_call_id(self, call_id: str) -> list[Call]:
        """Live calls of one Call-ID, whatever their tags."""
        return [call for call in self._live.values() if call.call_id == call_id]

    def of_session(self, session: str) -> list[Call]:
        """Live calls that the relay knows by this name; many are asked for one after the other when media dies."""
        if self._by_session is None:
            self._by_session = {}
            for key, call in self._live.items():
                self._by_session.setdefault(key[0], []).append(call)
        return [call for call in self._by_session.get(session, ()) if call.state is not CallState.ENDED]

    def search(self, matches: Callable[[Call], bool]) -> list[Call]:
        """Live and ended calls that match, newest first."""
        found = [call for call in (*self.history.values(), *self._live.values()) if matches(call)]
        return sorted(found, key=lambda call: -call.created)

    def of(self, request: Request) -> Call | None:
        """Find the call a request belongs to."""
        call = self.find(request.call_id, request.from_.tag, request.to.tag)
        if call is not None and (self._come_round or call.resumed):
            return self._of_this_pass(call, request)
        return call

    def _of_this_pass(self, call: Call, request: Request) -> Call | None:
        """Tell the passes of a call between two phones apart: what comes from a core has our own Via already."""
        other = self._live.get((call.call_id + SECOND_TIME, call.caller_tag))
        comes_round = self._parts.comes_round(request)
        if other is None:
            return None if call.resumed and comes_round and call.access[call.sender(request)] else call
        return other if comes_round is call.access[call.sender(request)] else call

    def is_again(self, request: Request) -> bool:
        """The INVITE of a live call came with the same CSeq in another transaction."""
        call = self._live.get((request.call_id, request.from_.tag or ""))
        return call is not None and call.cseq[Party.CALLER] == request.cseq.number

    def begin(self, request: Request, now: float) -> Call:
        """Open the record of a new call, or give the one that an earlier attempt (before a challenge) opened."""
        key = (request.call_id, request.from_.tag or "")
        call = self._live.get(key)
        if call is not None and self._parts.comes_round(request):
            key = (request.call_id + SECOND_TIME, key[1])
            call = self._live.get(key)
            self._come_round += call is None
        if call is None:
            call = self._live[key] = _of_request(self, key, request, request.request_uri, now)
            self._by_session = None
            if request.user_agent:
                call.user_agents[Party.CALLER] = request.user_agent[:120]
        else:
            call.cseq[Party.CALLER] = request.cseq.number
        call.attempts += 1
        return call

    def failed(self, call: Call) -> bool:
        """An INVITE of a call that nobody answered has failed; True when it was the last one under way."""
        call.attempts -= 1
        return call.attempts <= 0

    def resume(self, request: Request, now: float) -> Call | None:
        """Open the record of a call that another process set up; who sends this request counts as its caller.

        None when it is a straggler of a call that ended here.
        """
        key = (request.call_id, request.from_.tag or "")
        if self.find(*key, request.to.tag) is not None:
            key = (request.call_id + SECOND_TIME, key[1])
            self._come_round += 1
        if key in self._ended or (key[0], request.to.tag or "") in self._ended:
            return None
        call = self._live[key] = _of_request(self, key, request, request.to.uri, now)
        self._by_session = None
        call.resumed = call.attempted = True
        call.callee_tags.add(request.to.tag or "")
        call.state = CallState.CONFIRMED
        call.code = 200
        self.confirmed += 1
        self._parts.timers.set(call, now + self.LONGEST)
        return call

    def take_up(self, call: Call, until: float | None) -> bool:
        """Go on with a call that was written before a restart, at the latest `until`; False for one that is known."""
        if call.key in self._live:
            return False
        self._live[call.key] = call
        self._by_session = None
        self._come_round += call.session != call.call_id
        self.confirmed += 1
        call.saved = True
        self._parts.timers.set(call, call.created + self.LONGEST if until is None else until)
        return True

    def changed(self, call: Call) -> None:
        """What is to be written of a call in progress is another now."""
        if call.state is CallState.CONFIRMED:
            self.unsaved[call.key] = call

    def take_changes(self, until: float, most: int) -> tuple[list[Call], list[tuple[str, str]]]:
        """Give calls to be written (again) that were answered by `until`, and the written ones that ended since."""
        taken: list[Call] = []
        for call in self.unsaved.values():
            if len(taken) >= most or (call.answered is not None and call.answered > until):
                break
            taken.append(call)
        for call in taken:
            del self.unsaved[call.key]
        ended, self._ended_saved = self._ended_saved, []
        return taken, ended

    def of_user(self, user: str) -> int:
        """Calls now of one authenticated user."""
        return self._per_user.get(user, 0)

    def set_user(self, call: Call, user: str) -> None:
        """Count a call for its user."""
        if call.user is None:
            call.user = user
            self._per_user[user] = self._per_user.get(user, 0) + 1

    def attempted(self, call: Call) -> None:
        """The call's next hop is chosen, or it ends without one: count the attempt, once."""
        if not call.attempted:
            call.attempted = True
            self._parts.count("nattrav_sip_call_attempts_total", call.upstream or LOCAL)

    def ring(self, call: Call, now: float) -> None:
        """The first 18x."""
        if call.ringing is None:
            call.ringing = now
            self._parts.observe("nattrav_sip_post_dial_delay_seconds", now - call.created)

    def answer(self, call: Call, tag: str, now: float) -> None:
        """A 2xx to the first INVITE."""
        call.callee_tags.add(tag)
        self.unsaved[call.key] = call
        if call.state is CallState.EARLY:
            call.state = CallState.CONFIRMED
            call.answered = now
            call.code = 200
            self.confirmed += 1
            self._parts.timers.set(call, now + self.LONGEST)
            self._parts.count("nattrav_sip_call_results_total", call.upstream or LOCAL, "200")
            self._parts.observe("nattrav_sip_call_setup_seconds", now - call.created)

    def refreshed(self, call: Call, session_expires: str | None, now: float) -> None:
        """A 2xx to INVITE or UPDATE says when the call is over without another one; None: it never is (RFC 4028)."""
        if call.state is not CallState.CONFIRMED:
            return
        digits = "" if session_expires is None else session_expires.partition(";")[0].strip()
        if digits.isdigit() and len(digits) < 8:
            call.session_expires = int(digits)
            self._parts.timers.set(call, now + call.session_expires + REFRESH_GRACE)
        elif call.session_expires is not None:
            call.session_expires = None
            self._parts.timers.set(call, now + self.LONGEST)
        self.changed(call)

    def end(self, call: Call, cause: str, now: float, code: int = 0) -> None:
        """Close the record: cause is bye, cancel, rejected, timeout, session_timer, media_timeout or admin."""
        if call.state is CallState.ENDED:
            return
        if call.state is CallState.CONFIRMED:
            self.confirmed -= 1
        call.state = CallState.ENDED
        call.deadline = None
        call.ended = now
        call.cause = cause
        call.accepted = None
        call.media.settle()
        if code:
            call.code = code
        self._live.pop(call.key, None)
        self.unsaved.pop(call.key, None)
        if call.saved:
            self._ended_saved.append(call.key)
        self._come_round -= call.session != call.call_id
        self._ended[call.key] = None
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        if call.user is not None:
            left = self._per_user.get(call.user, 1) - 1
            if left:
                self._per_user[call.user] = left
            else:
                self._per_user.pop(call.user, None)
        self._meter(call, now)
        if call.answered is None and cause != "admin" and not call.resumed:
            self.missed.append(self.record(call))
        if call.media.closing:
            self._unwritten[call.key] = call
        else:
            self.write(call)
        if self._parts.sip.history:
            self.history[call.key] = call
            self.history.move_to_end(call.key)
            while len(self.history) > self._parts.sip.history:
                self.history.popitem(last=False)

    def _meter(self, call: Call, now: float) -> None:
        parts, upstream = self._parts, call.upstream or LOCAL
        self.attempted(call)
        if call.answered is None:
            if not call.resumed:
                parts.count("nattrav_sip_call_results_total", upstream, code_label(call.code, call.cause))
        else:
            parts.observe("nattrav_sip_call_duration_seconds", now - call.answered)
        parts.count("nattrav_sip_calls_ended_total", upstream, call.cause)

    def write(self, call: Call) -> None:
        """Write the record of an ended call, once; with a relay session, when the relay has told what it carried."""
        if call.written or call.state is not CallState.ENDED:
            return
        call.written = True
        self._unwritten.pop(call.key, None)
        record = self.record(call)
        self._parts.out.append(Record(record))
        if self._parts.hooks.has("on_call_end"):
            self._parts.hooks.call("on_call_end", record)

    def write_all(self) -> None:
        """Write the records that still wait for the relay: there will be no more time."""
        for call in list(self._unwritten.values()):
            self.write(call)

    def record(self, call: Call) -> dict[str, Any]:
        """The call record (CDR) as JSON-able data; times are seconds since the epoch, durations seconds."""
        parts = self._parts
        end = call.ended
        return {
            "call_id": call.call_id,
            "session": call.session,
            "from": call.caller,
            "to": call.callee,
            "user": call.user,
            "state": call.state.value,
            "start": round(parts.wall(call.created), 3),
            "answer": None if call.answered is None else round(parts.wall(call.answered), 3),
            "end": None if end is None else round(parts.wall(end), 3),
            "duration": None if end is None or call.answered is None else round(end - call.answered, 3),
            "post_dial_delay": None if call.ringing is None else round(call.ringing - call.created, 3),
            "code": call.code,
            "cause": call.cause,
            "resumed": call.resumed or call.adopted,
            "upstream": call.upstream,
            "relayed": call.media.used,
            "caller_flow": str(call.flows[Party.CALLER] or ""),
            "callee_flow": str(call.flows[Party.CALLEE] or ""),
            "caller_nat": call.nat[Party.CALLER].names,
            "callee_nat": call.nat[Party.CALLEE].names,
            "caller_agent": call.user_agents.get(Party.CALLER),
            "callee_agent": call.user_agents.get(Party.CALLEE),
            "media": call.quality,
        }


def _of_request(calls: Calls, key: tuple[str, str], request: Request, callee: str, now: float) -> Call:
    return Call(
        calls,
        key,
        call_id=request.call_id,
        caller=request.from_.uri,
        callee=callee,
        cseq=request.cseq.number,
        now=now,
    )
