"""What a running service is handed: the new configuration, but for the keys that need a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from nattrav.config.diff import followable
from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration
from nattrav.control.socket.messages import VerbError
from nattrav.daemon.apply import Prepared, apply_verb
from nattrav.daemon.runtime import Runtime, StartRefused

NEW = """
[sip]
mode = "redirect"
history = 3
[sip.timers]
t1 = "1s"
[location]
backend = "memory"
[stun]
port = 4000
source_rate = 7
[[upstream]]
name = "gw"
target = "192.0.2.1"
"""


def test_keys_that_need_a_restart_stay_as_they_are() -> None:
    found = followable(Configuration(), load([Document("n.toml", NEW)]).configuration)
    assert (found.sip.mode, found.sip.history, found.sip.timers.t1) == ("registrar", 3, 1.0)
    assert (found.location.backend, found.stun.port, found.stun.source_rate) == ("sqlite", 3478, 7)
    assert [upstream.name for upstream in found.upstream] == ["gw"]


async def test_a_dry_run_prepares_and_lets_go_and_only_the_real_one_changes_anything(tmp_path: Path) -> None:
    done: list[str] = []

    def prepare(new: Configuration) -> Prepared:
        if new.sip.history == 13:
            raise StartRefused("not so; write another")
        return Prepared(lambda: done.append("changed"), ("sip.history",), lambda: done.append("let go"))

    apply = apply_verb(Runtime("proxy", tmp_path, tmp_path), Configuration(), prepare)
    tables = load([Document("n.toml", NEW)]).tables
    assert await apply({"tables": tables, "dry_run": True}) == {"left": ["sip.history"]}
    assert done == ["let go"]
    assert await apply({"tables": tables}) == {"left": ["sip.history"]}
    assert done == ["let go", "changed"]
    with pytest.raises(VerbError, match="write another") as refused:
        await apply({"tables": {"sip": {"history": 13}}})
    assert refused.value.code == "refused"
