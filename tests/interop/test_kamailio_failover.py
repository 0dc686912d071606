"""Kamailio with two relays of ours: what one refuses the other takes, and a call stays where it began."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.kamailios import AROUND_SNIPPET, kamailio, our_relay
from tests.interop.talkers import Talker, assert_both_hear, connect, hang_up

pytestmark = pytest.mark.interop

SMALL = range(16560, 16580)
LARGE = range(16600, 16660)


@pytest.fixture
def pairs() -> Iterator[list[tuple[Talker, Talker]]]:
    made: list[tuple[Talker, Talker]] = []
    yield made
    for alice, bob in made:
        alice.close()
        bob.close()


def test_calls_beyond_one_relays_limit_go_to_the_other(tmp_path: Path, pairs: list[tuple[Talker, Talker]]) -> None:
    with (
        our_relay(tmp_path / "small", SMALL, sessions=1) as small,
        our_relay(tmp_path / "large", LARGE) as large,
        kamailio(tmp_path, AROUND_SNIPPET, [small, large]) as address,
    ):
        for number in range(8):
            alice, bob = Talker(f"a{number}", address, "10.0.0.7"), Talker(f"b{number}", address, "192.168.3.9")
            pairs.append((alice, bob))
            alice.register()
            bob.register()
            connect(alice, bob)
            assert_both_hear(alice, bob)
        assert len(small.ask("list", {})["calls"]) == 1  # type: ignore[arg-type]
        assert len(large.ask("list", {})["calls"]) == 7  # type: ignore[arg-type]
        for alice, bob in pairs:
            hang_up(alice, bob)
        assert small.ask("list", {})["calls"] == []
        assert large.ask("list", {})["calls"] == []
