"""The [hep] table."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from nattrav.config.types import Section, transport_address


def _target(value: Any) -> str:
    return "" if value == "" else transport_address(value)


class HepSection(Section):
    """Copies of SIP messages for Homer (HEP3 over UDP)."""

    restart: ClassVar = frozenset()

    target: Annotated[str, BeforeValidator(_target)] = ""
    """Collector, ADDRESS:PORT; empty: no copies."""
    capture_id: int = Field(default=2001, ge=0, le=4294967295)
    """Number of this node among Homer's capture agents."""
    key_file: str = ""
    """File with the key the collector wants; empty: none."""
