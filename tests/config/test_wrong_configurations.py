from __future__ import annotations

import pytest

from nattrav.config.load import ConfigurationError, Document, load
from tests.config.wrong_configurations import WRONG


@pytest.mark.parametrize(("text", "key", "words"), WRONG, ids=[text.replace("\n", " ")[:60] for text, _, _ in WRONG])
def test_a_wrong_configuration_is_refused_with_key_reason_and_remedy(text: str, key: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load([Document("nattrav.toml", text)])
    problems = refused.value.problems
    assert all(problem.reason and problem.remedy for problem in problems)
    matching = [problem for problem in problems if problem.key.startswith(key)]
    assert matching, [str(problem) for problem in problems]
    assert any(words in str(problem) for problem in matching), [str(problem) for problem in matching]


def test_the_corpus_is_large_enough() -> None:
    assert len(WRONG) >= 100


def test_errors_in_many_tables_are_told_together() -> None:
    chosen = ("[log]\nlevel = 'loud'", "[stun]\nport = 0", "[relay]\nlearning = 'guess'", "[[user]]\nname = 'alice'")
    with pytest.raises(ConfigurationError) as refused:
        load([Document("nattrav.toml", "\n".join(chosen))])
    assert len(refused.value.problems) == 4


def test_secrets_are_not_repeated_in_errors() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load([Document("nattrav.toml", "[[user]]\nname = 'a'\npassword = ['hunter2']\nnot_a_key = 1")])
    assert "hunter2" not in str(refused.value)
