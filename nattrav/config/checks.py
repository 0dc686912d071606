"""Checks that need more than one table: listeners that collide, services without what they need."""

from __future__ import annotations

from collections.abc import Iterator

from nattrav.config.problems import Problem
from nattrav.config.schema import Configuration
from nattrav.net.address import TransportAddress


def cross_checks(configuration: Configuration) -> Iterator[Problem]:
    """Give every contradiction between tables."""
    yield from _admin_twice(configuration)


def _admin_twice(configuration: Configuration) -> Iterator[Problem]:
    seen: set[TransportAddress] = set()
    for listen in configuration.admin.listen:
        address = TransportAddress.parse(listen)
        if address in seen:
            yield Problem("admin.listen", f'"{listen}"', "is listed twice", "name each address once")
        seen.add(address)
