"""The [node] table."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from nattrav.config.types import Section

Service = Literal["stun", "relay", "proxy"]


class NodeSection(Section):
    """This host: its name, which services it runs, and where they keep what survives a restart."""

    name: str = ""
    """Name of this node in logs and metrics; empty means the host name."""
    services: list[Service] = ["stun", "relay", "proxy"]
    """Services that `nattrav run` starts."""
    state_directory: str = ""
    """Where snapshots and databases go; empty: below --runtime-dir if given, else /var/lib/nattrav (root)
    or ~/.local/state/nattrav."""

    @field_validator("services")
    @classmethod
    def _some_and_once(cls, services: list[Service]) -> list[Service]:
        if not services:
            raise ValueError('no service is left to run: name at least one of "stun", "relay", "proxy"')
        if len(set(services)) != len(services):
            raise ValueError("a service is named twice: name each once")
        return services
