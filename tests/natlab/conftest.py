"""The laboratory as fixtures: a test that asks for one is left out where it cannot be built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.natlab import edges, namespaces
from tests.natlab.capture import Capture
from tests.natlab.laboratory import Laboratory


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """An Internet with the bundle's host and a gateway's, for one test module."""
    reason = namespaces.missing()
    if reason:
        pytest.skip(reason)
    with Laboratory(tmp_path_factory.mktemp("laboratory")) as made:
        yield made


@pytest.fixture(scope="module")
def capture(laboratory: Laboratory) -> Iterator[Capture]:
    """Everything that crosses the public Internet."""
    with Capture(laboratory.internet) as recording:
        yield recording


@pytest.fixture(scope="module")
def user_agents() -> None:
    """Leaves a test out where the real user agents are not installed."""
    reason = edges.missing()
    if reason:
        pytest.skip(reason)
