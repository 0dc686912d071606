"""`nattrav explain`: the ladder of a call, what we changed in each message and why, and one closing sentence."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from nattrav.cli.connect import call, call_if_running
from nattrav.cli.output import current, emit, say


def explain(
    what: Annotated[str, typer.Argument(help="Call-ID, number, user or source address.")],
    full: Annotated[bool, typer.Option("--full", help="Whole messages instead of the changed lines.")] = False,
    limit: Annotated[int, typer.Option(help="So many calls, newest first.")] = 1,
) -> None:
    """What happened to a call, a phone or an address, and why. Digests and media keys are hidden.

    Example: nattrav explain +431234567
    """
    found = call("proxy", "explain", what=what, limit=limit)
    if not current().human:
        emit(found)
        return
    for binding in found["registrations"]:
        nat = f"behind a NAT ({', '.join(binding['tests'])})" if binding["nat"] else "not behind a NAT"
        alg = f"; SIP ALG score {binding['alg_score']}" if binding.get("alg_score") else ""
        say(f"{binding['aor']} is registered from {binding['source']}, {nat}{alg}; {binding['user_agent']}")
    for ban in found["bans"]:
        say(f"{ban['source']} is banned for another {ban['seconds']} s: {ban['reason']}")
    for refusal in found["refusals"]:
        at = datetime.fromtimestamp(refusal["at"]).strftime("%H:%M:%S.%f")[:-3]
        say(f"{at} {refusal['flow']:>32}   {refusal['sentence']}")
    for one in found["calls"]:
        print()
        say("\n".join(ladder(one, full=full)))
        for line in relay_view(one["call"]["session"]):
            say(line)
    if found["more_calls"]:
        print(f"\n{found['more_calls']} older calls match; --limit shows more")


def relay_view(call_id: str) -> list[str]:
    """What the relay knows of a call that it still holds (also for half a minute after its end), in lines."""
    session = call_if_running("relay", "sessions.show", call_id=call_id)
    if session is None:
        return []
    return [
        f"  relay, stream {one['stream']} from {one['from']}: {one['received']} packets received from "
        f"{one['source'] or 'nobody'}, {one['passed']} passed to {one['target'] or 'nobody'}; "
        f"{one['explanation'] or 'as it should be'}"
        for one in session["directions"]
    ]


def ladder(one: dict[str, Any], *, full: bool = False) -> list[str]:
    """Write a call as lines of text."""
    record = one["call"]
    lines = [f"{record['from']} -> {record['to']}   Call-ID {record['call_id']}"]
    for side, facts in one["nat"].items():
        signs = ", ".join(facts["tests"]) or "no sign of a NAT"
        quirk = f"; treated by {facts['quirk']}" if facts.get("quirk") else ""
        lines.append(f"  {side}: {record[f'{side}_flow'] or 'not reached'}; {signs}{quirk}")
    for message in one["messages"]:
        at = datetime.fromtimestamp(message["at"]).strftime("%H:%M:%S.%f")[:-3]
        peer, line = message["flow"], message["line"]
        arrow = f"{peer:>32} --> {line}" if message["direction"] == "in" else f"{'us':>32} --> {peer}   {line}"
        lines.append(f"{at} {arrow}")
        if full:
            lines += [f"{'':16}| {text}" for text in message["text"].splitlines()]
        else:
            lines += [
                f"{'':16}{change['sign']} {change['line']}   [{change['rule']}: {change['why']}]"
                for change in message.get("changes", ())
            ]
    if not one["messages_kept"]:
        lines.append("  its messages are no longer kept ([sip] history)")
    lines.append(one["verdict"])
    return lines
