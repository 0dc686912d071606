from __future__ import annotations

import pytest

from nattrav.config.load import ConfigurationError, Document, load
from nattrav.config.schema import Configuration
from nattrav.config.types import duration, duration_text


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load([Document("nattrav.toml", text)], environment)
    return [str(problem) for problem in refused.value.problems]


def test_an_empty_file_is_a_working_configuration() -> None:
    assert load([Document("nattrav.toml", "")]).configuration == Configuration()


def test_every_error_is_told_at_once_with_key_value_reason_and_remedy() -> None:
    told = problems(
        """
        [node]
        services = ["stun", "turn"]
        naem = "x"
        [log]
        level = "loud"
        repeats_per_minute = 0
        [nod]
        """
    )
    assert told == [
        "nattrav.toml: node.services.1 = \"turn\": is none of the choices; choose 'stun', 'relay' or 'proxy'",
        'nattrav.toml: node.naem = "x": there is no such key; did you mean name?',
        "nattrav.toml: log.level = \"loud\": is none of the choices; choose 'debug', 'info', 'warning' or 'error'",
        "nattrav.toml: log.repeats_per_minute = 0: is too small; write at least 1",
        "nattrav.toml: nod: there is no such key; did you mean node?",
    ]


def test_contradictions_between_keys_are_told_together_with_wrong_values() -> None:
    told = problems(
        '[log]\nlevel = "loud"\n[sip]\nmode = "edge"\n'
        '[sip.registrar]\nmin_expires = "2h"\n[admin]\nlisten = ["0.0.0.0:1"]\n'
    )
    assert [text.partition(" = ")[0].partition(": ")[2] or text.partition(" = ")[0] for text in told] == [
        "admin: listen 0.0.0.0:1 is reachable by others and has no token; set token_file, or listen on 127.0.0.1",
        "log.level",
        "sip.mode",
        "sip.registrar.min_expires",
    ]


def test_broken_toml_names_its_place() -> None:
    (told,) = problems("[node\nname = 1")
    assert told.startswith("nattrav.toml: Expected ']' at the end of a table declaration (at line 1")


def test_environment_lies_over_files_and_flags_over_both() -> None:
    document = Document("a.toml", '[node]\nname = "file"\nservices = ["stun"]\n[log]\nlevel = "error"')
    environment = {"NATTRAV_NODE__NAME": "environment", "NATTRAV_NODE__SERVICES": '["relay"]', "NATTRAV_CONFIG": "x"}
    loaded = load([document], environment, {"node": {"name": "flag"}})
    assert loaded.configuration.node.name == "flag"
    assert loaded.configuration.node.services == ["relay"]
    assert loaded.configuration.log.level == "error"


def test_an_error_names_the_source_it_came_from() -> None:
    (told,) = problems("", NATTRAV_LOG__LEVEL="loud")
    assert told.startswith("environment: log.level")


def test_an_admin_listener_beyond_loopback_needs_a_token() -> None:
    (told,) = problems('[admin]\nlisten = ["0.0.0.0:8080"]')
    assert "is reachable by others and has no token; set token_file, or listen on 127.0.0.1" in told
    (told,) = problems('[admin]\nlisten = ["127.0.0.1:8080", "127.0.0.1:8080"]')
    assert "give one of them another port or address" in told


@pytest.mark.parametrize(
    ("text", "seconds"), [("25s", 25), ("250ms", 0.25), ("1h30m", 5400), ("0s", 0), ("2d", 172800)]
)
def test_durations_are_read_and_written(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    assert duration_text(seconds) == text


def test_the_configuration_survives_the_way_to_a_child_process() -> None:
    loaded = load([Document("a.toml", '[node]\nname = "x"')])
    assert Configuration.model_validate_json(loaded.configuration.model_dump_json()) == loaded.configuration
