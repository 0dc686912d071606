"""Who may register and who may call: digest for users (RFC 8760), known sources when there are none (R1, R4)."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from functools import lru_cache

from nattrav.proxy.accounts import Accounts
from nattrav.proxy.parts import Parts
from nattrav.proxy.routing import Sender
from nattrav.proxy.validate import Refused
from nattrav.sip.digest import Algorithm, Credentials, NonceCounts, Nonces, NonceState, challenges, credentials_for
from nattrav.sip.errors import MalformedMessage
from nattrav.sip.message import Request
from nattrav.sip.uri import SipUri, parse_uri, user_name

LAST_COUNT = 2**32 - 1
"""The highest nonce-count there is: with it a nonce is used up."""


class Authorisation:
    """Decides before routing. Sets `sender.authorised` and, with credentials, `sender.user`."""

    def __init__(self, parts: Parts, accounts: Accounts) -> None:
        self._parts = parts
        self.accounts = accounts
        self._nonces = Nonces(parts.randomness(32), parts.settings.realm)
        self._counts = NonceCounts()
        self.rejected = False
        """The last request carried credentials that were wrong."""
        self.follow()

    def follow(self) -> None:
        """Decide by the settings as they are now."""
        settings = self._parts.sip.registrar
        self._policy = settings.authentication
        self._algorithms = [Algorithm(name) for name in settings.algorithms]
        self._nonces.lifetime = settings.nonce_lifetime
        self._open = [ipaddress.ip_network(net, strict=False) for net in settings.open_nets]
        self._from_open_net = lru_cache(maxsize=20_000)(self._in_open_net)

    @property
    def uses_digest(self) -> bool:
        """Credentials are asked for."""
        return self._policy == "digest" or (self._policy == "auto" and len(self.accounts) > 0)

    def first_challenge(self, request: Request, sender: Sender, now: float) -> Refused | None:
        """The challenge to a REGISTER that brings no credentials; None when it must be looked at."""
        if "authorization" in request.names or not (self.uses_digest or self._is_lent(request)):
            return None
        return self._challenge(sender, 401, self._parts.wall(now))

    def registration(self, request: Request, sender: Sender, now: float) -> Refused | None:
        """May this REGISTER go on? With digest a user registers only his own address-of-record."""
        self.rejected = False
        if not self.uses_digest and not self._is_lent(request):
            return self._admit_source(sender)
        refused = self._check(request, sender, "authorization", 401, request.to.uri, now)
        if refused is None and not self._owns(request.to.uri, sender):
            return Refused(403, "8.1", why=f"user {sender.user} may not register {request.to.uri}")
        return refused

    def request(self, request: Request, sender: Sender, now: float) -> Refused | None:
        """May this request outside a dialog go on? With digest nobody speaks in another user's name."""
        self.rejected = False
        if sender.upstream is not None and sender.upstream.settings.trusted:
            sender.authorised = True
            return None
        if self._parts.sip.mode == "edge":
            return None
        if not self.uses_digest and not self._is_lent(request):
            return self._admit_source(sender)
        refused = self._check(request, sender, "proxy-authorization", 407, request.from_.uri, now)
        if refused is None and self._names_another(request.from_.uri, sender):
            why = f"user {sender.user} may not call as {request.from_.uri}"
            return Refused(403, "R1", reason="From is another user", why=why)
        return refused

    def admits_source(self, sender: Sender) -> bool:
        """Without digest, sources that may call may also route within what looks like a dialog."""
        if self.uses_digest or self._parts.sip.mode == "edge":
            return False
        return self._policy == "none" or self._from_open_net(sender.flow.remote.host)

    def _admit_source(self, sender: Sender) -> Refused | None:
        if self._policy == "none" or self._from_open_net(sender.flow.remote.host):
            sender.authorised = True
            return None
        why = f"there are no users, and {sender.flow.remote.host} is not in [sip.registrar] open_nets"
        return Refused(403, "R1", why=why)

    def _check(
        self, request: Request, sender: Sender, header: str, status: int, owner: str, now: float
    ) -> Refused | None:
        """Check the credentials of a request; `owner` is the URI whose domain says which accounts may answer for it."""
        parts = self._parts
        realm = parts.settings.realm
        wall = parts.wall(now)
        try:
            credentials = credentials_for(realm, request.all(header)) if header in request.names else None
        except MalformedMessage:
            return Refused(400, "R1", reason="Bad credentials", why="its credentials cannot be read")
        if credentials is None:
            return self._challenge(sender, status, wall)
        secrets, known = self._secrets(credentials, self._domain_of(owner))
        matches = [credentials.match(secret, request.method, request.body) for secret in secrets]
        if not known or not any(matches):
            why = f"wrong password for user {credentials.name}" if known else f"unknown user {credentials.name}"
            return self._failed(sender, status, wall, "failed" if known else "unknown_user", why)
        if not _is_about(credentials.uri, request.request_uri):
            why = f"its credentials were made for {credentials.uri}"
            return Refused(400, "R1", reason="Digest of another Request-URI", why=why)
        # Who knows the password and has a nonce that is not ours got it before our restart.
        state, number = self._nonces.check(credentials.nonce, wall)
        # Credentials without a count could be sent again by whoever saw them: their nonce serves once.
        count = LAST_COUNT if credentials.nc is None else credentials.nc
        if state is not NonceState.FRESH or not self._counts.accept(number, count):
            parts.count("nattrav_sip_auth_total", "stale")
            return self._challenge(sender, status, wall, stale=True)
        parts.count("nattrav_sip_auth_total", "ok")
        sender.user = credentials.name
        sender.authorised = True
        return None

    def _secrets(self, credentials: Credentials, domain: str | None) -> tuple[list[str], bool]:
        accounts = self.accounts.named(credentials.name, domain)
        if not accounts:
            # As much work as for a real user, so that time does not tell who exists.
            return ["0" * 32], False
        secrets = [account.secret(credentials.algorithm) for account in accounts]
        return [secret for secret in secrets if secret is not None], True

    def _domain_of(self, text: str) -> str | None:
        """The domain of ours that a URI lies in; our own addresses stand for the first one. None: any may be meant."""
        try:
            uri = SipUri.parse(text)
        except MalformedMessage:
            return None
        host, parts = uri.host.lower(), self._parts
        if host in parts.domains:
            return host
        return parts.sip.domains[0] if parts.sip.domains and parts.names_us(uri) else None

    def _failed(self, sender: Sender, status: int, wall: float, result: str, why: str) -> Refused:
        self._parts.count("nattrav_sip_auth_total", result)
        self.rejected = True
        return replace(self._challenge(sender, status, wall), why=why[:200])

    def _challenge(self, sender: Sender, status: int, wall: float, *, stale: bool = False) -> Refused:
        nonce = self._nonces.make(wall, self._counts.next())
        name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        algorithms = [Algorithm.MD5] if sender.treatment.digest == "md5" else self._algorithms
        values = challenges(self._parts.settings.realm, nonce, algorithms, stale=stale)
        return Refused(status, "R1", tuple((name, value) for value in values))

    def _is_lent(self, request: Request) -> bool:
        if not self.accounts.lends or not request.from_.uri.startswith("sip:"):
            return False
        return self.accounts.is_lent(request.from_.sip_uri.user)

    def _owns(self, text: str, sender: Sender) -> bool:
        try:
            uri = SipUri.parse(text)
        except MalformedMessage:
            return False
        return uri.user is not None and user_name(uri.user) == sender.user

    def _names_another(self, text: str, sender: Sender) -> bool:
        """A From that is another user of ours: an address in our domains, or the number that is one's name."""
        try:
            uri = parse_uri(text)
        except MalformedMessage:
            return False
        if isinstance(uri, SipUri):
            return self._parts.names_us(uri) and not self._owns(text, sender)
        return uri.number != sender.user and self.accounts.find(uri.number) is not None

    def _in_open_net(self, host: str) -> bool:
        address = ipaddress.ip_address(host)
        return any(address in net for net in self._open)


def _is_about(digest_uri: str, request_uri: str) -> bool:
    """The digest was made for this user or number (RFC 3261 §22.4); devices write host and parameters as they like."""
    if digest_uri == request_uri:
        return True
    try:
        wanted, meant = SipUri.parse(request_uri).user, SipUri.parse(digest_uri).user
    except MalformedMessage:
        return False
    return wanted is None or (meant is not None and user_name(meant) == user_name(wanted))
