"""The requests a client transaction makes for an INVITE it sent: ACK for a non-2xx, and CANCEL."""

from __future__ import annotations

from nattrav.sip.message import Message, Response
from nattrav.sip.parser import parse_datagram_untrusted


def acknowledge(invite: bytes, response: Response) -> bytes:
    """Write the ACK for a 300-699 response to the INVITE with these octets (RFC 3261 §17.1.1.3)."""
    sent = parse_datagram_untrusted(invite)
    to = response.lines[response.names.index("to")]
    return _derived(sent, "ACK", to)


def cancel(invite: bytes) -> bytes:
    """Write the CANCEL for the INVITE with these octets (RFC 3261 §9.1)."""
    sent = parse_datagram_untrusted(invite)
    return _derived(sent, "CANCEL", sent.lines[sent.names.index("to")])


def _derived(sent: Message, method: str, to: str) -> bytes:
    uri = sent.start_line.split(" ")[1]
    lines = [f"{method} {uri} SIP/2.0", f"Via: {sent.via.text}"]
    lines += [line for name, line in zip(sent.names, sent.lines, strict=True) if name == "route"]
    lines += [
        "Max-Forwards: 70",
        sent.lines[sent.names.index("from")],
        to,
        f"Call-ID: {sent.call_id}",
        f"CSeq: {sent.cseq.number} {method}",
        "Content-Length: 0",
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")
