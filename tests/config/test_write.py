from __future__ import annotations

import tomllib

from nattrav.config.load import Document, load
from nattrav.config.schema import Configuration
from nattrav.config.write import as_tables, default_file, effective_file


def uncommented(text: str) -> str:
    return "".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines(keepends=True)
    )


def test_the_file_with_every_default_means_the_same_as_an_empty_one() -> None:
    assert load([Document("nattrav.toml", default_file())]).configuration == Configuration()


def test_every_key_has_a_comment() -> None:
    schema = Configuration.model_json_schema()
    sections = [definition for definition in schema["$defs"].values() if "properties" in definition]
    missing = [
        f"{section['title']}.{name}"
        for section in sections
        for name, field in section["properties"].items()
        if "$ref" not in field and "description" not in field
    ]
    assert not missing


def test_examples_of_lists_of_tables_are_toml() -> None:
    tables = tomllib.loads(uncommented(default_file()).replace(" =\n", ' = ""\n'))
    assert set(tables) == set(Configuration.model_fields)


def test_effective_values_are_written_so_that_they_read_back() -> None:
    text = '[node]\nname = "a\\u001b\\"b"\n[relay.aliases]\nout = "default"\n"odd key" = "default"\n'
    configuration = load([Document("nattrav.toml", text)]).configuration
    again = load([Document("again.toml", effective_file(configuration))]).configuration
    assert again == configuration


def test_tables_are_json_able_and_complete() -> None:
    assert list(as_tables(Configuration())) == list(Configuration.model_fields)


def test_secrets_are_masked_and_paths_are_not() -> None:
    text = (
        "[[user]]\nname = 'a'\npassword = 'hunter2'\n[sip.tls]\nkey = '/etc/key.pem'\n[stun.users]\nbob = 'hunter3'\n"
    )
    configuration = load([Document("nattrav.toml", text)]).configuration
    written = effective_file(configuration)
    assert "hunter" not in written
    assert "/etc/key.pem" in written
    assert "hunter2" in effective_file(configuration, mask=False)
