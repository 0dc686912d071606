"""What a test vector is: octets, where they come from, and what a proxy and registrar makes of them."""

from __future__ import annotations

from dataclasses import dataclass

FORWARD = "forward"
"""Sent on unchanged but for Via, Max-Forwards, Route and Record-Route."""
REGISTER = "register"
"""200 from a registrar; an edge proxy sends it on."""
DROP = "drop"
"""Nothing is sent, and the drop is counted."""


@dataclass(frozen=True)
class Vector:
    """One message. `expected` is our outcome, a status or one of the words above; `also` are others the RFC allows.

    `parses` tells whether the parser accepts the message; where it is None, that follows from the outcome.
    """

    name: str
    section: str
    octets: bytes
    expected: str | int
    also: tuple[str | int, ...] = ()
    parses: bool | None = None

    @property
    def well_formed(self) -> bool:
        """The parser accepts it; what is refused then is refused by the proxy."""
        return self.parses if self.parses is not None else self.expected in (FORWARD, REGISTER)
