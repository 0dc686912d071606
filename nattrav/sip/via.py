"""One Via value (RFC 3261 §20.42), and what a server writes into the top one (§18.2.1, RFC 3581)."""

from __future__ import annotations

import re

from nattrav.net.address import TransportAddress, canonical, is_literal
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.grammar import HOST, TOKEN, parse_params
from nattrav.sip.uri import DEFAULT_PORTS, ipv6_reference

COOKIE = "z9hG4bK"

_VIA = re.compile(
    rf"[ \t]*(?P<name>{TOKEN})[ \t]*/[ \t]*(?P<version>{TOKEN})[ \t]*/[ \t]*(?P<transport>{TOKEN})[ \t]+"
    rf"(?P<host>{HOST})(?:[ \t]*:[ \t]*(?P<port>[0-9]{{1,5}}))?[ \t]*(?P<params>;.*)?",
    re.DOTALL,
)
_STAMPED = re.compile(r"[ \t]*;[ \t]*(?:received|rport)(?:[ \t]*=[^;]*)?(?=;|$)", re.IGNORECASE)


class Via:
    """One hop. `transport` is in lower case, `host` without brackets; `str()` gives the text it was parsed from."""

    __slots__ = ("host", "params", "port", "text", "transport")

    def __init__(self, text: str) -> None:
        match = _VIA.fullmatch(text)
        if match is None:
            raise MalformedMessage(f"{text[:80]!r} is not a Via value")
        _, _, transport, host, port, params = match.groups()
        self.text = text
        self.transport = transport.lower()
        self.host = ipv6_reference(host) if host[0] == "[" else host
        self.port = None if port is None else int(port)
        if self.port is not None and self.port > 65535:
            raise MalformedMessage(f"port {port} in a Via")
        self.params = {} if params is None else parse_params(params)

    @staticmethod
    def parse(text: str) -> Via:
        """Read one value. Raises MalformedMessage."""
        return Via(text)

    @property
    def branch(self) -> str | None:
        """The branch parameter."""
        return self.params.get("branch")

    @property
    def has_cookie(self) -> bool:
        """The branch is an RFC 3261 one: the magic cookie and something behind it, in any case (§8.1.1.7)."""
        branch = self.params.get("branch")
        return branch is not None and len(branch) > 7 and branch[:7].lower() == "z9hg4bk"

    @property
    def received(self) -> str | None:
        """The received parameter without brackets (RFC 5118 §4.5 asks to accept both forms)."""
        value = self.params.get("received")
        return None if value is None else value.strip("[]")

    @property
    def rport(self) -> int | None:
        """The filled-in rport, None when absent or empty."""
        value = self.params.get("rport")
        return int(value) if value and len(value) < 6 and value.isascii() and value.isdigit() else None

    @property
    def wants_rport(self) -> bool:
        """The client asks for a symmetric response (RFC 3581 §3)."""
        return "rport" in self.params

    @property
    def maddr(self) -> str | None:
        """The maddr parameter without brackets."""
        value = self.params.get("maddr")
        return None if value is None else value.strip("[]")

    @property
    def sent_by(self) -> tuple[str, int]:
        """Host in lower case and port, the transport's default filled in: for matching (§17.2.3)."""
        return self.host.lower(), self.port or DEFAULT_PORTS.get(self.transport, 5060)

    @property
    def reply_address(self) -> tuple[str, int]:
        """Where a response goes (RFC 3261 §18.2.2, RFC 3581 §4): host or address, and port."""
        port = self.port or DEFAULT_PORTS.get(self.transport, 5060)
        maddr = self.maddr
        if maddr is not None:
            return maddr, port
        return self.received or self.host, self.rport or port

    def stamped(self, source: TransportAddress, *, force_rport: bool = False) -> Via:
        """Give the value as the server transport hands it on: what a client claimed is overwritten.

        `received` is added when sent-by is not literally the source, and always with `rport` (RFC 3581 §4).
        """
        params = self.params
        symmetric = force_rport or "rport" in params
        moved = self.host != source.host and not (is_literal(self.host) and canonical(self.host) == source.host)
        claimed = "received" in params or "rport" in params
        if not (symmetric or moved or claimed):
            return self
        via = Via.__new__(Via)
        via.host, via.port, via.transport = self.host, self.port, self.transport
        via.params = params.copy()
        via.text = self.text
        if claimed:
            via.params.pop("received", None)
            via.params.pop("rport", None)
            via.text = via._rewritten() if '"' in self.text else _STAMPED.sub("", self.text)
        if symmetric or moved:
            via.params["received"] = source.host
            via.text += f";received={source.host}"
        if symmetric:
            via.params["rport"] = str(source.port)
            via.text += f";rport={source.port}"
        return via

    def _rewritten(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        tail = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.params.items())
        return f"SIP/2.0/{self.transport.upper()} {host}{port}{tail}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Via({self.text!r})"
