from __future__ import annotations

import pytest

from nattrav.config.environment import from_environment
from nattrav.config.load import ConfigurationError, load


def test_values_are_toml_where_they_can_be_and_text_else() -> None:
    variables = {
        "NATTRAV_RELAY__PORTS": "30000-30999",
        "NATTRAV_SIP__LIMITS__CALLS": "7",
        "NATTRAV_ADMIN__LISTEN": "[]",
    }
    tables, problems = from_environment(variables)
    assert tables == {"relay": {"ports": "30000-30999"}, "sip": {"limits": {"calls": 7}}, "admin": {"listen": []}}
    assert problems == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NATTRAV_RELAY_PORTS": "1-2"}, "write NATTRAV_RELAY__PORTS"),
        ({"NATTRAV_SIP_LISTEN": "x"}, "write NATTRAV_SIP__LISTEN"),
        ({"NATTRAV_SIP__LIMITS": "3", "NATTRAV_SIP__LIMITS__CALLS": "3"}, "unset one"),
        ({"NATTRAV_SIP__LISTEN": "udp:192.0.2.1"}, "write it in brackets"),
        ({"NATTRAV_RELAY__PORTZ": "1"}, "did you mean ports?"),
        ({"NATTRAV___X": "1"}, "there is no such key"),
    ],
)
def test_a_slip_in_a_variable_is_told_with_its_remedy(variables: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load([], variables)
    assert words in str(refused.value)
    assert str(refused.value).startswith("environment: ")


def test_variables_of_others_are_left_alone() -> None:
    others = {"NATTRAV_CONFIG": "/x", "NATTRAV_RUNTIME_DIR": "/x", "NATTRAV_EDGE": "1", "NATTRAV_": "1", "PATH": "/bin"}
    assert from_environment(others) == ({}, [])
    assert load([], others).tables == {}
