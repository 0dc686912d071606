"""The [sip] table, and the lists [[upstream]], [[user]] and [[quirk]] that belong to it."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from nattrav.config.sip_values import host_name, listen_text, network, next_hop, server_name
from nattrav.config.types import Duration, Section

ListenAddress = Annotated[str, AfterValidator(listen_text)]
HostName = Annotated[str, AfterValidator(host_name)]
ServerName = Annotated[str, AfterValidator(server_name)]
Network = Annotated[str, AfterValidator(network)]
SipTarget = Annotated[str, AfterValidator(next_hop)]
RelayPolicy = Literal["always", "auto", "never"]
Ping = Literal["auto", "none", "options", "crlf", "zero4"]
Seconds = Annotated[Duration, WithJsonSchema({"type": "string"})]


class SipTimers(Section):
    """The [sip.timers] table (RFC 3261 table 4)."""

    restart: ClassVar = frozenset()

    t1: Duration = 0.5
    """Round-trip estimate; retransmissions start at it."""
    t2: Duration = 4.0
    """Longest interval between retransmissions."""
    t4: Duration = 5.0
    """Longest time a message stays in the network."""
    next_hop: Duration = 5.0
    """How long a next hop may stay silent before the next one is tried, when there is one."""
    ringing: Duration = 185.0
    """Timer C: how long an INVITE may ring; must be longer than three minutes (RFC 3261 §16.6)."""

    @model_validator(mode="after")
    def _ringing_is_long_enough(self) -> SipTimers:
        if self.ringing <= 180:
            raise ValueError("ringing must be longer than three minutes (RFC 3261 section 16.6): write 185s or more")
        if not 0 < self.t1 <= self.t2:
            raise ValueError("t1 must be more than 0 and no more than t2: make t1 shorter, or t2 longer")
        return self


class SipKeepalive(Section):
    """The [sip.keepalive] table."""

    restart: ClassVar = frozenset()

    method: Ping = "auto"
    """What keeps a NAT's mapping open: auto (OPTIONS over UDP, CRLF on streams), options, crlf, zero4 or none."""
    interval: Duration = 25.0
    """Time between two keepalives of one flow; the start of adaptive learning."""
    adaptive: bool = True
    """Learn per NAT how long a mapping lives and send less often where that is safe."""
    longest: Duration = 170.0
    """Adaptive learning never waits longer than this."""
    losses: int = Field(default=3, ge=1, le=20)
    """Unanswered keepalives in a row after which a flow counts as dead."""
    remove_dead: bool = True
    """Remove the bindings of a dead flow."""


class SipLimits(Section):
    """The [sip.limits] table: what one source, one user and this process may use."""

    restart: ClassVar = frozenset()

    requests_per_source: float = Field(default=50.0, gt=0)
    """Requests per second of one source address (refilled continuously; unknown sources are dropped above it)."""
    burst: int = Field(default=200, ge=1)
    """Requests one source may send at once before the rate counts."""
    calls_per_user: int = Field(default=10, ge=1)
    """Calls at a time of one authenticated user."""
    calls: int = Field(default=20000, ge=1)
    """Calls at a time; above it INVITEs get 503 with Retry-After."""
    transactions: int = Field(default=200000, ge=100)
    """Transactions at a time; above it requests get 503."""
    contacts_per_user: int = Field(default=10, ge=1)
    """Bindings of one address-of-record."""
    bindings: int = Field(default=500000, ge=1)
    """Bindings altogether."""
    failures_before_ban: int = Field(default=20, ge=1)
    """Failed authentications, forged tokens or refused targets of one source within a minute that ban it."""
    ban: Duration = 600.0
    """How long a banned source is not heard."""
    scanners: list[str] = Field(
        default=[
            "friendly-scanner",
            "sipvicious",
            "sipcli",
            "sip-scan",
            "sundayddr",
            "pplsip",
            "VaxSIPUserAgent",
        ]
    )
    """Parts of User-Agent that mark a scanner: dropped without an answer, and banned. Compared without case."""


class SipRegistrar(Section):
    """The [sip.registrar] table."""

    restart: ClassVar = frozenset()

    authentication: Literal["auto", "digest", "none"] = "auto"
    """auto: digest as soon as one user is configured, without users only `open_nets` may register.
    digest: always. none: anyone may register any name (only for tests)."""
    open_nets: list[Network] = Field(
        default=["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
    )
    """Without users, registrations and calls are taken from these sources only."""
    users_file: str | None = None
    """SQLite file of users (`nattrav users add`); default: users.sqlite in the state directory, when it exists."""
    algorithms: list[Literal["SHA-256", "MD5"]] = Field(default=["SHA-256", "MD5"], min_length=1)
    """Digest algorithms offered, best first (RFC 8760)."""
    nonce_lifetime: Duration = 300.0
    """How long a digest nonce may be used."""
    min_expires: Duration = 30.0
    """Shortest registration; shorter wishes get 423 with Min-Expires."""
    max_expires: Duration = 3600.0
    """Longest registration."""
    default_expires: Duration = 600.0
    """Registration without a wish."""
    nat_expires: Duration | None = None
    """Longest registration of a phone behind a NAT, when it should come back more often."""


class SipEdge(Section):
    """The [sip.edge] table: how registrations go on to a core."""

    restart: ClassVar = frozenset()

    absorb: bool = True
    """Answer a refresh ourselves while the core's binding lasts (short interval to the phone, long to the core)."""
    core_expires: Duration = 3600.0
    """Registration time asked of the core when refreshes are absorbed."""
    phone_expires: Duration = 120.0
    """Registration time given to a phone behind a NAT when refreshes are absorbed."""
    grace: Duration = 600.0
    """How long bindings are kept past the core's expiry while the core is unreachable."""


class SipCertificate(Section):
    """One of [[sip.tls.certificates]]: a certificate for clients that name a server (SNI, RFC 6066)."""

    restart: ClassVar = frozenset()

    names: list[ServerName] = Field(min_length=1)
    """Server names it is for; *.example.com stands for every name below example.com."""
    certificate: str
    """PEM file with the certificate chain; read again on reload."""
    key: str | None = None
    """PEM file with the private key; default: the file of the certificate."""


class SipTls(Section):
    """The [sip.tls] table: what TLS and WSS listeners and connections use."""

    restart: ClassVar = frozenset()

    certificate: str | None = None
    """PEM file with the certificate chain; read again on reload."""
    key: str | None = None
    """PEM file with the private key."""
    certificates: list[SipCertificate] = Field(default=[])
    """Certificates for other server names, as [[sip.tls.certificates]] with names, certificate and key."""
    ca: str | None = None
    """PEM file with the authorities trusted for next hops; default: the system's."""
    verify: bool = True
    """Check the certificates of next hops."""
    client_ca: str | None = Field(default=None, min_length=1)
    """PEM file with the authorities of peers that connect to us: they are asked for a certificate, and one that shows
    it gets requests back over its own connection when its Via asks for that with `alias` (RFC 5923)."""
    client_required: bool = False
    """Turn away TLS clients without a certificate of `client_ca`; only where every client has one."""

    @model_validator(mode="after")
    def _requires_what_it_can_check(self) -> SipTls:
        if self.client_required and self.client_ca is None:
            raise ValueError("client_required needs client_ca, the authorities to check certificates of clients with")
        return self


class SipSection(Section):
    """The [sip] table."""

    restart: ClassVar = frozenset({"listen", "mode", "advertised", "realm", "token_key_file"})

    listen: list[ListenAddress] = Field(default=["auto"], min_length=1)
    """Where to listen: [TRANSPORT:]ADDRESS[:PORT][!ADVERTISED]; transports udp, tcp, tls, ws, wss; default udp and tcp.
    ADDRESS may be auto (the advertised address and loopback), 0.0.0.0 or [::] (every address, one socket each)."""
    mode: Literal["registrar", "edge", "redirect"] = "registrar"
    """registrar: phones register here. edge: REGISTER goes on to the core in [[upstream]]. redirect: answer 3xx."""
    advertised: HostName | None = None
    """Address written into Via and Record-Route; default: the listening address."""
    domains: list[HostName] = Field(default=[])
    """Domains that are ours, besides our own addresses."""
    realm: str | None = Field(default=None, min_length=1)
    """Realm of digest challenges; default: the first domain, else "nattrav"."""
    local_nets: list[Network] = Field(default=[])
    """Subnets reached without a NAT: their addresses are no sign of one."""
    relay: RelayPolicy = "always"
    """Which calls of phones go through the relay: always, auto (where a NAT or an address family needs it), never."""
    relay_required: bool = True
    """Refuse a call with 503 when no relay answers; false: let it pass without."""
    early_media: Literal["last", "first", "single"] = "last"
    """When several phones send early media to one caller. last: every one passes, the caller hears the latest.
    first: the others' early answers go on without their SDP. single: the others' early answers are kept back."""
    sibling: SipTarget | None = None
    """While this node drains, new calls are sent there with 302; default: they get 503 with Retry-After."""
    force_rport: Literal["auto", "always", "never"] = "auto"
    """Answer to the source port although the phone asked for no rport (auto: when its addresses show a NAT)."""
    guard_identity: bool = True
    """Take P-Asserted-Identity and Remote-Party-ID out of what phones send, and keep private ones from them (RFC 3325).
    """
    recurse: bool = False
    """Follow 3xx answers inside our own domains instead of passing them on."""
    server_name: str = "nattrav"
    """What Server and User-Agent say; empty: nothing."""
    hooks: str | None = None
    """Python file with on_register, on_request, on_response, on_call_end."""
    token_key_file: str | None = None
    """Key of the flow tokens (32 octets, mode 0600); default: flow-token.key in the state directory, made if absent."""
    cdr_file: str | None = None
    """File for call records, one JSON object a line; default: cdr.jsonl in the state directory."""
    history: int = Field(default=200, ge=0, le=100000)
    """Calls whose messages are kept for `nattrav explain`."""
    timers: SipTimers = SipTimers()
    """Transaction timers."""
    keepalive: SipKeepalive = SipKeepalive()
    """Keepalives to phones behind NATs."""
    registrar: SipRegistrar = SipRegistrar()
    """Registrations."""
    edge: SipEdge = SipEdge()
    """Edge mode."""
    limits: SipLimits = SipLimits()
    """Limits and bans."""
    tls: SipTls = SipTls()
    """Certificates."""


class Upstream(Section):
    """One [[upstream]]: a gateway or core on a public address."""

    restart: ClassVar = frozenset()

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    """Name in logs, metrics and `nattrav upstreams`."""
    target: SipTarget
    """Where to send: HOST[:PORT], or sip:HOST[:PORT][;transport=tcp]."""
    prefixes: list[str] = Field(default=[""])
    """Numbers that go there: user parts starting with one of these; "" is every one. The longest prefix wins."""
    domains: list[HostName] = Field(default=[])
    """Domains that go there, besides its own address."""
    weight: int = Field(default=1, ge=0, le=65535)
    """Share among upstreams of the same prefix and priority."""
    priority: int = Field(default=0, ge=0, le=65535)
    """Lower ones are tried first."""
    sources: list[Network] = Field(default=[])
    """Addresses its requests come from, besides the target's own."""
    trusted: bool = True
    """Requests from it need no authentication."""
    relay: RelayPolicy | None = None
    """Overrides [sip] relay for its calls."""
    latch: bool = False
    """Learn its media address from packets; gateways on public addresses send from where their SDP says."""
    flow_failed: Literal[430, 480] = 430
    """What it is told when a phone's flow is gone; 480 for cores that do not know 430 (RFC 5626)."""
    probe: bool = True
    """Send OPTIONS to see whether it is up."""
    probe_interval: Duration = 30.0
    """Time between probes."""


class User(Section):
    """One [[user]] of the registrar."""

    restart: ClassVar = frozenset()

    name: str = Field(min_length=1)
    """User part of the address-of-record."""
    domain: HostName | None = None
    """Domain; default: every domain of ours."""
    password: str | None = None
    """Password in clear text."""
    password_file: str | None = None
    """File that holds the password."""
    ha1: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    """MD5 of user:realm:password instead of a password."""
    ha1_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of user:realm:password instead of a password."""

    @model_validator(mode="after")
    def _has_a_secret(self) -> User:
        if not (self.password or self.password_file or self.ha1 or self.ha1_sha256):
            raise ValueError("has no secret: give a password, password_file, ha1 or ha1_sha256")
        return self


class Quirk(Section):
    """One [[quirk]]: how to treat devices that need it; the first that matches wins."""

    restart: ClassVar = frozenset()

    user_agent: str | None = None
    """Regular expression searched in User-Agent or Server, without case."""
    source: Network | None = None
    """Source network."""
    aor: str | None = None
    """Address-of-record, user@domain."""
    contact: Literal["token", "alias", "rewrite"] | None = None
    """How requests find back: our signed token (default), an alias parameter, or a rewritten Contact."""
    rport: Literal["auto", "always", "never"] | None = None
    """Overrides force_rport; never: the device listens on the port of its Via."""
    rr_transport: Literal["auto", "explicit"] | None = None
    """explicit: Record-Route names the transport even for UDP."""
    token_alphabet: Literal["base64url", "base32"] | None = None
    """base32 for devices that lower-case user parts."""
    latch: Literal["auto", "never", "strict"] | None = None
    """Overrides how the relay learns its media address."""
    ping: Ping | None = None
    """Overrides the keepalive method."""
    o_line: Literal["keep", "replace"] | None = None
    """replace: the o= line shows the relay, too."""
    ice: Literal["strip", "pass"] | None = None
    """pass: calls that the device offers with ICE candidates go without our relay, which takes candidates out."""
    max_udp: int | None = Field(default=None, ge=500, le=65535)
    """Largest UDP datagram the device can take."""
    digest: Literal["md5"] | None = None
    """md5: challenges name MD5 alone, for devices that stumble over better algorithms."""

    @model_validator(mode="before")
    @classmethod
    def _matches_something(cls, data: Any) -> Any:
        if isinstance(data, dict) and not {"user_agent", "source", "aor"} & set(data):
            raise ValueError("give user_agent, source or aor to match on")
        return data

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Quirk:
        if self.user_agent is not None:
            try:
                re.compile(self.user_agent)
            except re.error as error:
                raise ValueError(f"user_agent is no regular expression ({error}): correct it") from None
        return self
