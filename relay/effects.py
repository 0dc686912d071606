"""What the engine tells its shell without being asked."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class CloseReason(enum.Enum):
    """Why a session ended; the word in metrics, logs and events."""

    DELETED = "deleted"
    TIMEOUT = "timeout"
    SILENT_TIMEOUT = "silent_timeout"
    OFFER_TIMEOUT = "offer_timeout"
    FINAL_TIMEOUT = "final_timeout"
    REJECTED = "rejected"
    ADMIN = "admin"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session has ended and its ports rest. `condition` names missing media, as `one_way` or `no_media`."""

    call_id: str
    tags: tuple[str, ...]
    reason: CloseReason
    duration: float
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Warned:
    """Something an operator should read, once per session."""

    call_id: str
    text: str


Effect = SessionClosed | Warned
