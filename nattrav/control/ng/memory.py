"""What the wording of a call's SDP depends on from message to message: what was offered, what `o=` was shown.

Bounded; the oldest call is forgotten first, which costs it nothing but the steadiness of its `o=` line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from nattrav.net.immutable import immutable
from nattrav.sdp.description import Description, origin_fields

CALL_LIMIT = 65536
PARTY_LIMIT = 64


@dataclass(slots=True)
class Shown:
    """The `o=` and `s=` that a party's descriptions were given, and the text they last stood in."""

    fields: list[str] | None = None
    address: tuple[str, str] | None = None
    username: str | None = None
    name: str | None = None
    version: int | None = None
    text: int | None = None


@immutable
class Offered:
    """One section of a party's latest offer."""

    protocol: str
    formats: frozenset[str]


@dataclass(slots=True)
class Call:
    """One call's parties by tag."""

    offers: dict[str, tuple[Offered, ...]] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)


class CallMemory:
    """Calls by call-id."""

    def __init__(self, limit: int = CALL_LIMIT) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._calls)

    def forget(self, call_id: str) -> None:
        """Drop a call that ended."""
        self._calls.pop(call_id, None)

    def offer(self, call_id: str, tag: str, description: Description) -> None:
        """Remember what a party offered."""
        call = self._call(call_id)
        if len(call.offers) < PARTY_LIMIT or tag in call.offers:
            call.offers[tag] = tuple(
                [Offered(section.protocol, frozenset(section.formats)) for section in description.sections]
            )

    def offered(self, call_id: str, tag: str) -> tuple[Offered, ...]:
        """What a party offered last; empty when nothing is known."""
        call = self._calls.get(call_id)
        return call.offers.get(tag, ()) if call is not None else ()

    def shown(self, call_id: str, tag: str) -> Shown:
        """What the others were shown of a party's `o=`; new and empty the first time."""
        call = self._call(call_id)
        shown = call.shown.get(tag)
        if shown is None:
            shown = Shown()
            if len(call.shown) < PARTY_LIMIT:
                call.shown[tag] = shown
        return shown

    def freeze(self, call_id: str) -> dict[str, Any]:
        """Write a call down as JSON-able data, empty when nothing is known; `thaw` reads it in another process."""
        call = self._calls.get(call_id)
        if call is None:
            return {}
        offers = {
            tag: [[section.protocol, sorted(section.formats)] for section in sections]
            for tag, sections in call.offers.items()
        }
        shown = {
            tag: [one.fields, one.address, one.username, one.name, one.version, one.text]
            for tag, one in call.shown.items()
            if one != _NOTHING_SHOWN
        }
        return {"offers": offers, "shown": shown} if shown else {"offers": offers}

    def thaw(self, call_id: str, data: Mapping[str, Any]) -> None:
        """Take up what `freeze` gave. Data that makes no sense is left alone: a call can go on without."""
        try:
            offers = {
                str(tag): tuple([Offered(str(protocol), frozenset(formats)) for protocol, formats in sections])
                for tag, sections in data.get("offers", {}).items()
            }
            shown = {str(tag): _shown(*fields) for tag, fields in data.get("shown", {}).items()}
        except (AttributeError, TypeError, ValueError):
            return
        if offers or shown:
            call = self._call(call_id)
            call.offers, call.shown = offers, shown

    def _call(self, call_id: str) -> Call:
        call = self._calls.get(call_id)
        if call is None:
            while len(self._calls) >= self._limit:
                self._calls.popitem(last=False)
            call = self._calls[call_id] = Call()
        return call


_NOTHING_SHOWN = Shown()


def _shown(
    fields: list[str] | None,
    address: Sequence[str] | None,
    username: str | None,
    name: str | None,
    version: int | None,
    text: int | None,
) -> Shown:
    kind, host = address or (None, None)
    return Shown(fields, (kind, host) if kind and host else None, username, name, version, text)


def replaced_origin(
    description: Description, shown: Shown, replace: frozenset[str], ours: tuple[str, str] | None
) -> tuple[str | None, str | None]:
    """Give the values of `o=` and `s=` that `replace` asks for; None where the received one stays.

    `ours` is (`IP4` or `IP6`, address). What was shown first stays towards the same readers.
    """
    name = None
    if "session-name" in replace and description.name is not None:
        shown.name = name = shown.name if shown.name is not None else description.name
    fields = origin_fields(description.origin) if description.origin is not None else None
    if fields is None:
        return None, name
    user, session_id, version, _, kind, address = fields
    if "origin-full" in replace:
        if shown.fields is None:
            shown.fields = fields
        user, session_id = shown.fields[0], shown.fields[1]
    if "username" in replace:
        shown.username = user = shown.username or user
    if ("origin" in replace or "origin-full" in replace) and ours is not None:
        shown.address = shown.address or ours
        kind, address = shown.address
    if manages_version(replace):
        if shown.version is None:
            shown.version = int(version) if version.isdigit() and len(version) <= 20 else 1
        version = str(shown.version)
    return f"{user} {session_id} {version} IN {kind} {address}", name


def manages_version(replace: frozenset[str]) -> bool:
    """The version in `o=` is ours to count."""
    return bool(replace & {"origin-full", "sdp-version", "force-increment-sdp-ver"})


def counted(text: bytes, origin: str, shown: Shown, *, always: bool) -> bytes:
    """Raise the version in a finished description by one if the text changed since the last one, or `always`.

    `origin` is the `o=` value the text was written with.
    """
    digest = crc32(text)
    if shown.text is None or shown.version is None or (shown.text == digest and not always):
        shown.text = digest
        return text
    shown.version += 1
    user, session_id, _, rest = origin.split(" ", 3)
    new = f"{user} {session_id} {shown.version} {rest}"
    text = text.replace(b"\r\no=" + origin.encode("latin-1"), b"\r\no=" + new.encode("latin-1"), 1)
    shown.text = crc32(text)
    return text
