"""A short run of every fuzz target; `make fuzz` runs them for long."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import run, targets

COUNT = 1500


@pytest.mark.parametrize("name", sorted(targets()))
def test_a_target_keeps_its_invariant_on_mutated_messages(name: str) -> None:
    done, _, culprit = run(name, targets()[name], seed=7, count=COUNT, seconds=20)
    assert culprit is None, culprit
    assert done > 50


def test_the_same_number_makes_the_same_inputs() -> None:
    seen: list[list[bytes]] = []
    for _ in range(2):
        module = type(targets()["sip_message"])("probe")
        inputs: list[bytes] = []
        module.target = inputs.append  # type: ignore[attr-defined]
        run("sip_probe", module, seed=3, count=300, seconds=None)
        seen.append(inputs)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 250
