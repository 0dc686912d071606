"""Every table says which of its keys need a restart, and names no key that does not exist."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from nattrav.config.diff import Effect, effect_of
from nattrav.config.schema import Configuration
from nattrav.config.write import inner_model


def models(
    model: type[BaseModel] = Configuration, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        if inner is not None:
            yield (*path, name), inner
            yield from models(inner, (*path, name))


def test_marks_name_existing_keys() -> None:
    for path, model in models():
        restart = getattr(model, "restart", None)
        assert restart is None or restart <= set(model.model_fields), path


def test_every_key_has_an_effect() -> None:
    for path, model in models():
        for name in model.model_fields:
            assert effect_of((*path, name)) in Effect


def test_listeners_need_a_restart_and_what_calls_are_judged_by_does_not() -> None:
    for listener in (("sip", "listen"), ("stun", "port"), ("control", "listen"), ("location", "backend")):
        assert effect_of(listener) is Effect.RESTART
    assert effect_of(("relay", "offload")) is Effect.RESTART
    for live in (
        ("upstream", "[gw]", "weight"),
        ("user", "[alice]"),
        ("quirk", "[0]", "ping"),
        ("sip", "limits", "ban"),
        ("sip", "timers", "t1"),
        ("sip", "keepalive", "interval"),
        ("sip", "tls", "certificate"),
        ("sip", "tls", "certificates", "[0]"),
        ("sip", "hooks"),
        ("relay", "ports"),
        ("relay", "timeout"),
        ("relay", "max_sessions"),
        ("stun", "source_rate"),
        ("stun", "nat_records_max"),
        ("stun", "users", "bob"),
        ("log", "levels", "proxy"),
        ("admin", "token_file"),
        ("hep", "target"),
    ):
        assert effect_of(live) is Effect.LIVE, live
