from __future__ import annotations

from nattrav.config.diff import Change, Effect, changes
from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration


def configuration(text: str) -> Configuration:
    return load([Document("nattrav.toml", text)]).configuration


def test_equal_configurations_have_no_changes() -> None:
    assert changes(Configuration(), configuration('[log]\nlevel = "info"')) == []


def test_a_change_says_when_it_counts_and_what_it_touches() -> None:
    new = configuration('[log]\nlevel = "debug"\n[admin]\npage = false\n[node]\nservices = ["stun"]\n')
    assert changes(Configuration(), new) == [
        Change("node.services", ["stun", "relay", "proxy"], ["stun"], Effect.SUPERVISOR, ("relay", "stun", "proxy")),
        Change("admin.page", True, False, Effect.LIVE, ()),
        Change("log.level", "info", "debug", Effect.LIVE, ("relay", "stun", "proxy")),
    ]


def test_keys_that_appear_or_go_are_changes_too() -> None:
    old, new = configuration('[log.levels]\nproxy = "debug"'), configuration('[log.levels]\nrelay = "error"')
    assert [(change.key, change.old, change.new) for change in changes(old, new)] == [
        ("log.levels.proxy", "debug", None),
        ("log.levels.relay", None, "error"),
    ]
