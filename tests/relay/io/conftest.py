"""A plane of each backend, and parties to talk over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nattrav.net import uring
from relay.io.pump import DataPlane, open_plane
from tests.relay.io.pairs import Party


@pytest.fixture(params=["io_uring", "portable"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "io_uring":
        refusal = uring.availability()
        if refusal is not None:
            pytest.skip(f"io_uring cannot be used: {refusal}")
    return name


@pytest.fixture
def plane(backend: str) -> Iterator[DataPlane]:
    opened = open_plane(1, backend)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def party() -> Iterator[Callable[..., Party]]:
    made: list[Party] = []

    def make(family: int = 4) -> Party:
        made.append(Party(family))
        return made[-1]

    yield make
    for each in made:
        each.sock.close()
