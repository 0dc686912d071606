"""Registers one address-of-record and takes it back, as a phone does (RFC 3261 §10.2)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from nattrav.sip.digest_client import answer_challenge
from nattrav.sip.io.pinger import Answer, Pinger
from nattrav.sip.message import Response


@dataclass(frozen=True, slots=True)
class Account:
    """Who registers, where; without a password a challenge is the end."""

    user: str
    domain: str
    auth_user: str
    password: str | None


class Registration:
    """The REGISTER requests of one Call-ID."""

    def __init__(self, pinger: Pinger, account: Account) -> None:
        self._pinger = pinger
        self._account = account
        self._call_id = secrets.token_hex(12)
        self._tag = secrets.token_hex(4)
        self._cseq = 0
        self.challenged = False

    @property
    def contact(self) -> str:
        """The Contact URI that is bound."""
        transport = self._pinger.to.transport
        suffix = "" if transport == "udp" else f";transport={transport}"
        return f"sip:{self._account.user}@{self._pinger.local}{suffix}"

    async def register(self, expires: int, patience: float) -> Answer:
        """Bind the contact for that many seconds, 0 takes it back; answers one challenge."""
        answer = await self._send(expires, "", patience)
        response, account = answer.response, self._account
        if response is None or response.status not in (401, 407) or account.password is None:
            return answer
        self.challenged = True
        name, field = _challenge(response)
        credentials = answer_challenge(
            response.all(field),
            user=account.auth_user,
            password=account.password,
            method="REGISTER",
            uri=f"sip:{account.domain}",
            cnonce=secrets.token_hex(8),
        )
        return answer if credentials is None else await self._send(expires, f"{name}: {credentials}\r\n", patience)

    async def _send(self, expires: int, credentials: str, patience: float) -> Answer:
        self._cseq += 1
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        aor = f"sip:{self._account.user}@{self._account.domain}"
        data = (
            f"REGISTER sip:{self._account.domain} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self._pinger.to.transport.upper()} {self._pinger.local};branch={branch};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <{aor}>;tag={self._tag}\r\nTo: <{aor}>\r\n"
            f"Call-ID: {self._call_id}\r\nCSeq: {self._cseq} REGISTER\r\nContact: <{self.contact}>\r\n"
            f"Expires: {expires}\r\nSupported: path\r\nUser-Agent: nattrav\r\n{credentials}Content-Length: 0\r\n\r\n"
        ).encode()
        return await self._pinger.exchange("REGISTER", branch, data, patience)


def _challenge(response: Response) -> tuple[str, str]:
    if response.status == 401:
        return "Authorization", "www-authenticate"
    return "Proxy-Authorization", "proxy-authenticate"
