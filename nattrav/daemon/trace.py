"""Live SIP messages for `nattrav trace`: chosen by Call-ID, user or address, without secrets, in a bounded queue."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from nattrav.control.socket.messages import VerbError
from nattrav.daemon.feed import Feed, seconds_of
from nattrav.net import clock
from nattrav.net.address import canonical
from nattrav.proxy.effects import Drop
from nattrav.proxy.io.shell import DropTap, Tap
from nattrav.sip.redaction import redacted
from nattrav.sip.transport.flow import Flow, Target

LISTENERS = 4
LONGEST_TEXT = 16_384

Args = dict[str, Any]

_CALL_ID = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_PARTIES = re.compile(rb"^(?:from|f|to|t)[ \t]*:[^\r\n]*?(?:sips?|tel):([^\s>;?]+)", re.IGNORECASE | re.MULTILINE)
_TARGET = re.compile(rb"^[A-Z]+ (?:sips?|tel):([^\s;?]+)", re.IGNORECASE)
_SDP = re.compile(r"^(?:content-type|c)[ \t]*:[ \t]*application/sdp\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Wanted:
    """What is to be seen: a Call-ID, number, user, user@domain or address; the empty text is everything."""

    text: str
    address: str | None

    @classmethod
    def of(cls, text: str) -> Wanted:
        """Read what an operator typed."""
        try:
            return cls(text, canonical(text))
        except ValueError:
            return cls(text, None)

    def has(self, peer: str, head: bytes) -> bool:
        """A message with this head, from or to the host `peer`, is meant."""
        if not self.text or peer == self.address:
            return True
        if self.address is not None:
            return False
        if call_id(head) == self.text:
            return True
        uris = [*_TARGET.findall(head), *_PARTIES.findall(head)]
        return any(self.text in (uri, uri.partition("@")[0]) for uri in (one.decode("latin-1") for one in uris))


def call_id(head: bytes) -> str:
    """The Call-ID of a message's head; empty without one."""
    found = _CALL_ID.search(head)
    return found[1].strip().decode("latin-1") if found else ""


def shown_text(data: bytes) -> str:
    """A message as text without secrets; of bodies only SDP, for the others are between subscribers."""
    head, empty, body = data.partition(b"\r\n\r\n")
    text = head.decode("latin-1") + empty.decode()
    if body and _SDP.search(text):
        text += body.decode("latin-1")
    elif body:
        text += f"({len(body)} octets)"
    return redacted(text[:LONGEST_TEXT])


class Tapped(Protocol):
    """What messages pass through."""

    def add_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        """Show every message and drop from now on."""

    def remove_tap(self, tap: Tap, drops: DropTap | None = None) -> None:
        """Show them no more."""


class Trace:
    """The verb `trace` of one proxy."""

    def __init__(self, shell: Tapped) -> None:
        self._shell = shell
        self._listeners = 0

    async def verb(self, args: Args) -> AsyncIterator[Args]:
        """Stream messages that have `what` to do with them, for `seconds` or until the client leaves."""
        what, seconds = args.get("what", ""), seconds_of(args)
        if not isinstance(what, str):
            raise VerbError("invalid", "what is no text")
        if self._listeners >= LISTENERS:
            raise VerbError("busy", f"{LISTENERS} traces are running already: end one")
        return self._items(Wanted.of(what), Feed(seconds))

    async def _items(self, wanted: Wanted, feed: Feed) -> AsyncIterator[Args]:
        def message(direction: str, way: Flow | Target, data: bytes) -> None:
            head = data.partition(b"\r\n\r\n")[0]
            if wanted.has(way.remote.host, head):
                text = shown_text(data)
                item = {"direction": "in" if direction == "rx" else "out", "line": text.partition("\r\n")[0]}
                feed.put(_row(way) | item | {"call_id": call_id(head), "text": text, "reason": None})

        def drop(one: Drop) -> None:
            # A drop names no message; only its source tells whether it is meant.
            if not wanted.text or one.flow.remote.host == wanted.address:
                item = {"direction": "dropped", "line": f"dropped: {one.reason.value}", "call_id": "", "text": ""}
                feed.put(_row(one.flow) | item | {"reason": one.reason.value})

        self._listeners += 1
        self._shell.add_tap(message, drop)
        try:
            while (item := await feed.next()) is not None:
                yield item
        finally:
            self._shell.remove_tap(message, drop)
            self._listeners -= 1


def _row(way: Flow | Target) -> Args:
    local = str(way.local) if isinstance(way, Flow) else None
    return {"at": clock.wall(), "transport": way.transport, "peer": str(way.remote), "local": local}
