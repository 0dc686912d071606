"""One sentence on a call: how it went or, where it failed, the cause."""

from __future__ import annotations

from nattrav.proxy.call_facts import CallState, Party
from nattrav.proxy.calls import Call
from nattrav.proxy.causes import by_us
from nattrav.proxy.nat import NatTest

_ENDS = {
    "bye": "ended by a BYE",
    "cancel": "was cancelled before anybody answered",
    "timeout": "ended because one side no longer knew it or never answered",
    "media_timeout": "was ended because no media came any more",
    "session_timer": "ended because its session was not refreshed",
    "admin": "was ended by an operator",
}
_SILENT = {
    "caller_deaf": ("The caller heard nothing", (Party.CALLEE,)),
    "callee_deaf": ("The callee heard nothing", (Party.CALLER,)),
    "none": ("Nobody heard anything", (Party.CALLER, Party.CALLEE)),
}


def verdict(call: Call) -> str:
    """How it stands, how it ended, or why it failed."""
    if call.state is CallState.EARLY:
        return f"The call is being set up; {circumstances(call)}."
    if call.state is CallState.CONFIRMED:
        return f"The call is in progress; {circumstances(call)}."
    if call.answered is None and not call.resumed:
        if call.cause == "cancel":
            return (
                f"The caller gave up {call.ended - call.created:.1f} s after dialling, before anybody answered."
                if (call.ended is not None)
                else "The caller gave up before anybody answered."
            )
        if call.cause == "admin":
            return "An operator ended the call before anybody answered."
        return f"The call failed with {call.code}: {call.why or by_us(call.code)}."
    length = (
        f" after {call.ended - call.answered:.1f} s" if call.answered is not None and call.ended is not None else ""
    )
    end = _ENDS.get(call.cause, call.cause) if call.cause != "timeout" or not call.why else f"ended because {call.why}"
    silence = _silence(call)
    if silence:
        return f"{silence}; the call {end}{length}, {circumstances(call)}."
    return f"The call {end}{length}{_moves(call)}; {circumstances(call)}."


def circumstances(call: Call) -> str:
    """Who sat behind a NAT, and which way the media went."""
    relayed = "media went through the relay" if call.media.used else "media did not go through the relay"
    nats = [party.value for party in (Party.CALLER, Party.CALLEE) if call.nat[party].nat]
    behind = f"the {' and the '.join(nats)} sat behind a NAT" if nats else "no NAT showed in signalling"
    return f"{behind}, {relayed}"


def _silence(call: Call) -> str:
    """Say who did not hear the other, by what the relay received, and where to look first."""
    heard = (call.quality or {}).get("verdict")
    if heard not in _SILENT:
        return ""
    deaf, mute = _SILENT[heard]
    names = " nor from the ".join(party.value for party in mute)
    return f"{deaf}, for no media came from the {names}{''.join(_where_to_look(call, party) for party in mute)}"


def _where_to_look(call: Call, party: Party) -> str:
    flow = call.flows[party]
    if not call.access[party]:
        return ""
    if flow is not None and flow.reliable:
        return (
            f" (the {party.value} signals over {flow.transport.upper()}, its media needs UDP: "
            "a firewall on its side that blocks UDP leaves the call silent)"
        )
    return f" (look for a firewall or ALG on the side of the {party.value}, or a device that only receives)"


def _moves(call: Call) -> str:
    moved = [party for party in Party if NatTest.SOURCE_MOVED in call.nat[party].fired]
    if not moved:
        return ""
    said = [f"the {party.value} moved to {flow.remote}" for party in moved if (flow := call.flows[party]) is not None]
    return f", and in mid call {' and '.join(said)}: a new mapping of its NAT, or another network"
