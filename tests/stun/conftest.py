"""The server and client of the project's own vectors."""

from __future__ import annotations

import pytest

from nattrav.net.address import TransportAddress
from stun.behavior import Endpoint, ServerAddress, lay_out
from stun.responder import Responder

CLIENT = TransportAddress("192.0.2.1", 32853)


@pytest.fixture
def client() -> TransportAddress:
    """A client on the public Internet."""
    return CLIENT


@pytest.fixture
def full_set() -> tuple[Endpoint, ...]:
    """Two addresses times two ports."""
    return lay_out([ServerAddress("198.51.100.1", alternate="198.51.100.2")], 3478, 3479)


@pytest.fixture
def single() -> tuple[Endpoint, ...]:
    """One address."""
    return lay_out([ServerAddress("198.51.100.1")], 3478, 3479)


@pytest.fixture
def server(full_set: tuple[Endpoint, ...]) -> Responder:
    """A server with a full set and default policy."""
    return Responder(full_set)


@pytest.fixture
def lonely(single: tuple[Endpoint, ...]) -> Responder:
    """A server with one address and default policy."""
    return Responder(single)
