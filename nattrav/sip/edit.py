"""Changing a message on its way: a list of lines, of which most stay the slices they were."""

from __future__ import annotations

from nattrav.sip.grammar import COMPACT_OF, canonical_name, displayed_name, split_first, split_list
from nattrav.sip.message import Message, Request


class Edit:
    """Changes to a copy of one message; the message itself stays as it is. Header names in any spelling."""

    __slots__ = ("_body", "_start", "lines", "names")

    def __init__(self, message: Message) -> None:
        self._start = message.start_line
        self._body = message.body
        self.lines = message.lines.copy()
        self.names = message.names.copy()

    def start_line(self, text: str) -> Edit:
        """Replace the whole start line."""
        self._start = text
        return self

    def request_uri(self, request: Request, uri: str) -> Edit:
        """Replace the Request-URI."""
        self._start = f"{request.method} {uri} SIP/2.0"
        return self

    def prepend(self, name: str, value: str) -> Edit:
        """Put a new line before the first of that name; a new name goes behind the Vias that head the message."""
        key = canonical_name(name)
        names = self.names
        if key in names:
            index = names.index(key)
        else:
            index = 0
            while index < len(names) and names[index] == "via" and key != "via":
                index += 1
        self.lines.insert(index, f"{displayed_name(key)}: {value}")
        names.insert(index, key)
        return self

    def append(self, name: str, value: str) -> Edit:
        """Put a new line after the last of that name, or at the end."""
        key = canonical_name(name)
        index = len(self.names)
        if key in self.names:
            index -= self.names[::-1].index(key)
        self.lines.insert(index, f"{displayed_name(key)}: {value}")
        self.names.insert(index, key)
        return self

    def replace_top(self, name: str, value: str) -> Edit:
        """Replace the first value of that name; what a comma joined behind it stays. Adds the header when absent."""
        key = canonical_name(name)
        if key not in self.names:
            return self.prepend(name, value)
        index = self.names.index(key)
        line = self.lines[index]
        colon = line.index(":") + 1
        rest = split_first(line[colon:])[1] if "," in line else ""
        self.lines[index] = f"{line[:colon]} {value},{rest}" if rest else f"{line[:colon]} {value}"
        return self

    def remove_top(self, name: str) -> Edit:
        """Remove the first value of that name; does nothing when there is none."""
        key = canonical_name(name)
        if key not in self.names:
            return self
        index = self.names.index(key)
        line = self.lines[index]
        colon = line.index(":") + 1
        rest = split_first(line[colon:])[1] if "," in line else ""
        if rest:
            rest = rest.lstrip(" \t\r\n")
            self.lines[index] = f"{line[:colon]} {rest}"
        else:
            del self.lines[index]
            del self.names[index]
        return self

    def remove_last(self, name: str) -> Edit:
        """Remove the last value of that name; does nothing when there is none."""
        key = canonical_name(name)
        if key not in self.names:
            return self
        index = len(self.names) - 1 - self.names[::-1].index(key)
        line = self.lines[index]
        colon = line.index(":") + 1
        values = split_list(line[colon:])
        if len(values) > 1:
            self.lines[index] = f"{line[:colon]} {', '.join(values[:-1])}"
        else:
            del self.lines[index]
            del self.names[index]
        return self

    def remove(self, name: str) -> Edit:
        """Remove every line of that name."""
        key = canonical_name(name)
        while key in self.names:
            index = self.names.index(key)
            del self.lines[index]
            del self.names[index]
        return self

    def set(self, name: str, value: str) -> Edit:
        """Make this the only value of that name, in the place of the first, or at the end."""
        key = canonical_name(name)
        if key not in self.names:
            return self.append(name, value)
        index = self.names.index(key)
        line = self.lines[index]
        self.lines[index] = f"{line[: line.index(':') + 1]} {value}"
        while self.names.count(key) > 1:
            last = len(self.names) - 1 - self.names[::-1].index(key)
            del self.lines[last]
            del self.names[last]
        return self

    def replace_line(self, index: int, value: str) -> Edit:
        """Replace the value of the line at `index`, keeping its name as spelled."""
        line = self.lines[index]
        self.lines[index] = f"{line[: line.index(':') + 1]} {value}"
        return self

    def body(self, body: bytes, content_type: str | None = None) -> Edit:
        """Replace the body; Content-Length follows."""
        self._body = body
        if content_type is not None:
            self.set("Content-Type", content_type)
        return self.set("Content-Length", str(len(body)))

    def framed(self) -> Edit:
        """Make sure that Content-Length is there, as streams need it (RFC 3261 §18.3)."""
        if "content-length" not in self.names:
            self.append("Content-Length", str(len(self._body)))
        return self

    def compact(self) -> Edit:
        """Use the short names of header fields and no white space behind them (RFC 3261 §7.3.3)."""
        for index, name in enumerate(self.names):
            short = COMPACT_OF.get(name)
            spelled, _, value = self.lines[index].partition(":")
            self.lines[index] = f"{short or spelled}:{value.strip(' ')}"
        return self

    def render(self) -> bytes:
        """The octets of the changed message."""
        return "\r\n".join([self._start, *self.lines, "", ""]).encode("latin-1") + self._body
