"""The relay's program on a wire, for tests that try frames on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nattrav.net.bpf.programs import Mode
from relay.offload.io.loader import open_xdp
from tests.natlab.namespaces import missing
from tests.net.bpf.objects import need_bpf
from tests.relay.offload.trials import Bench
from tests.relay.offload.wires import RELAY, RELAY6, wire


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    need_bpf()
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with wire() as made:
        kernel = open_xdp([RELAY, RELAY6], 8, mode=Mode.NATIVE, hop_time=0)
        try:
            yield Bench(made, kernel)
        finally:
            kernel.close()


@pytest.fixture
def bench(_bench: Bench) -> Bench:
    """See `trials`; each test begins with fresh flows and counters."""
    _bench.reset()
    return _bench
