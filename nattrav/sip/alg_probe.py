"""Finds a SIP ALG from the phone's side: what a server must repeat comes back altered, or mended where it cannot be.

A server copies Via, From, Call-ID and CSeq into its response as they came (RFC 3261 §8.2.6.2). A NAT that rewrites
messages changes the private addresses in them on the way out, and seldom changes all of them back.
"""

from __future__ import annotations

from dataclasses import dataclass

from nattrav.net.address import TransportAddress
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Response
from nattrav.sip.uri import SipUri


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `altered` names what an ALG did; empty when all is as it should be."""

    name: str
    sent: str
    back: str
    altered: str


@dataclass(frozen=True, slots=True)
class AlgProbe:
    """One OPTIONS full of addresses. `token` is random text, `local` our address as this host knows it."""

    target: SipUri
    transport: str
    local: TransportAddress
    token: str

    @property
    def branch(self) -> str:
        """Branch of its transaction."""
        return f"z9hG4bK{self.token}"

    @property
    def call_id(self) -> str:
        """Call-ID with our address in it, as old phones write it."""
        return f"{self.token}@{self.local.host}"

    def request(self) -> bytes:
        """Write the OPTIONS; its body is an SDP with our address, so that an ALG finds something to do."""
        us = f"sip:probe@{self.local}"
        place = f"IN IP{6 if ':' in self.local.host else 4} {self.local.host}"
        sdp = f"v=0\r\no=probe 1 1 {place}\r\ns=-\r\nc={place}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
        return (
            f"OPTIONS {self.target} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.transport.upper()} {self.local};branch={self.branch};rport;probe={self.token}\r\n"
            f"Max-Forwards: 70\r\nFrom: <{us}>;tag={self.token}\r\nTo: <{self.target}>\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: 1 OPTIONS\r\nContact: <{us}>\r\nUser-Agent: nattrav\r\n"
            f"Accept: application/sdp\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
        ).encode()

    def compare(self, response: Response, mapped: str | None) -> list[Check]:
        """Compare what came back. `mapped` is our address outside by STUN, None when that is not known."""
        via = response.via
        sent_by = TransportAddress(via.host, via.port or 5060)
        checks = [
            _same("Via sent-by", str(self.local), str(sent_by)),
            _same("Via branch", self.branch, via.branch or ""),
            _same("Via parameter", self.token, via.params.get("probe") or ""),
            _same("Call-ID", self.call_id, response.call_id),
            _same("From", self.local.host, _from_host(response)),
        ]
        received = via.received or ""
        altered = ""
        if received and mapped not in (None, self.local.host) and received == self.local.host:
            # The server cannot know our inside address: something on the way back has put it there.
            altered = "mended on the way back"
        return [*checks, Check("Via received", mapped or "?", received or "not said", altered)]


def _same(name: str, sent: str, back: str) -> Check:
    return Check(name, sent, back, "" if back == sent else "rewritten")


def _from_host(response: Response) -> str:
    try:
        return response.from_.sip_uri.host
    except MalformedMessage:
        return response.first("from") or ""
