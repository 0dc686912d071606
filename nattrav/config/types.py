"""Value types of the configuration: each says its rule, in Python and in the JSON schema."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from nattrav.net.address import TransportAddress

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Section(BaseModel):
    """A table of the configuration file: unknown keys are errors, docstrings become the manual."""

    # Defaults are validated, too, so that a default written out means the same as one left out.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    restart: ClassVar[frozenset[str] | None] = None
    """Keys of this table that count only after a restart; a running service takes all others over. None: every key."""


def duration(value: Any) -> float:
    """Read `25s`, `250ms`, `2m`, `1h30m` or a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('is no duration: write one such as "25s", "250ms", "2m" or "1h30m"')
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError('is no duration: write one such as "25s", "250ms", "2m" or "1h30m"')
        return float(value)
    parts = _DURATION.findall(value)
    if not parts or _DURATION.sub("", value).strip():
        raise ValueError('is no duration: write one such as "25s", "250ms", "2m" or "1h30m"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def duration_text(seconds: float) -> str:
    """Write seconds the way `duration` reads them, in the largest units that fit exactly."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{unit}"
    return text


def transport_address(value: Any) -> str:
    """Check `ADDRESS:PORT` (IPv6 in brackets) and give its canonical spelling."""
    if not isinstance(value, str):
        raise ValueError('write "ADDRESS:PORT"')
    return str(TransportAddress.parse(value))


Duration = Annotated[
    float,
    BeforeValidator(duration),
    Field(ge=0),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?\s*(ms|s|m|h|d))+$"}),
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
SocketAddress = Annotated[str, BeforeValidator(transport_address)]
