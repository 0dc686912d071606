"""The relay's stream of events: who listens says which ends of sessions are no news."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trio
import trio.testing

from nattrav.control.socket.messages import VerbError
from nattrav.daemon.relay_verbs import RelayVerbs


def closed(call_id: str, reason: str) -> dict[str, Any]:
    return {"event": "session_closed", "call_id": call_id, "reason": reason}


async def heard(asked: dict[str, Any], *events: dict[str, Any]) -> list[str]:
    nobody = cast(Any, None)
    relay = RelayVerbs(nobody, nobody, nobody, nobody)
    found: list[str] = []
    take = found.append

    async def listen(stream: AsyncIterator[dict[str, Any]]) -> None:
        async for event in stream:
            take(event["call_id"])

    stream = await relay.events(asked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, stream)
        await trio.testing.wait_all_tasks_blocked()
        for event in events:
            relay.publish(event)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return found


async def test_listener_hears_every_end_of_a_session() -> None:
    assert await heard({}, closed("a", "deleted"), closed("b", "timeout")) == ["a", "b"]


async def test_listener_leaves_out_the_ends_it_caused() -> None:
    asked = {"without": ["deleted"]}
    assert await heard(asked, closed("a", "deleted"), closed("b", "timeout"), closed("c", "admin")) == ["b", "c"]


async def test_reasons_to_leave_out_are_a_list() -> None:
    with pytest.raises(VerbError):
        await heard({"without": "deleted"})
