"""From the [stun] table to a responder, its limits, its certificate and its servers."""

from __future__ import annotations

import errno
import secrets
import ssl
from pathlib import Path

from nattrav.config.stun import StunSection
from nattrav.daemon.key_file import own_key
from nattrav.daemon.runtime import StartRefused
from nattrav.net.address import TransportAddress
from nattrav.net.interfaces import expand
from stun.admission import Limits
from stun.behavior import ServerAddress, lay_out
from stun.credentials import Authenticator, LongTerm, ShortTerm
from stun.io.server import UdpServer
from stun.io.streams import Certificate, StreamLimits, StreamServer
from stun.responder import Policy, Responder


def server_addresses(section: StunSection) -> list[ServerAddress]:
    """Turn listen and alternate addresses into what to serve; an alternate goes to the first address of its family."""
    alternates = {":" in a: a for a in section.alternate}
    served: dict[str, ServerAddress] = {}
    for entry in section.listen:
        address, _, shown = entry.partition("!")
        for host in expand(address):
            # What a 1:1 NAT in front shows is not what loopback shows.
            advertised = "" if address == "auto" and host.startswith("127.") else shown
            if host == alternates.get(":" in host, "").partition("!")[0]:
                continue
            partner = alternates.pop(":" in host, "") if not host.startswith("127.") or address != "auto" else ""
            served.setdefault(host, ServerAddress.parse(f"{host}!{advertised}" if advertised else host, partner))
    if alternates:
        left = ", ".join(alternates.values())
        raise StartRefused(f"[stun] alternate {left}: no listen address of that family; add one to [stun] listen")
    return list(served.values())


def make_responder(section: StunSection, nonce_key: bytes = b"", *, tls: bool = False) -> Responder:
    """Build the responder a section describes, for UDP and TCP or for TLS. StartRefused when its addresses clash."""
    ports = (section.tls_port, section.tls_alternate_port) if tls else (section.port, section.alternate_port)
    try:
        endpoints = lay_out(server_addresses(section), *ports)
    except ValueError as error:
        raise StartRefused(f"[stun] {error}; correct listen and alternate") from None
    policy = Policy(
        classic=section.classic,
        software=section.software,
        minimal=section.minimal,
        strict_change_request=section.strict_change_request,
        response_port=section.response_port,
        response_address=section.response_address,
        padding_limit=section.padding_limit,
        alternate_servers=tuple(TransportAddress.parse(text) for text in section.alternate_servers),
        alternate_domain=section.alternate_domain,
    )
    return Responder(endpoints, policy, make_authenticator(section, nonce_key))


def nonce_key(section: StunSection, state_directory: Path) -> bytes:
    """Give the key of nonces: kept in the state directory, so that clients need no fresh ones after a restart."""
    if section.credentials != "long-term":
        return b""
    return own_key(state_directory / "stun-nonce.key", "make the state directory writable")


def make_authenticator(section: StunSection, nonce_key: bytes = b"") -> Authenticator | None:
    """Build the credential mechanism, if one is demanded."""
    match section.credentials:
        case "none":
            return None
        case "short-term":
            return ShortTerm(section.users)
        case "long-term":
            return LongTerm(section.realm, section.users, (nonce_key or secrets.token_bytes(32),))


def limits(section: StunSection) -> Limits:
    """Give the section's limits in the server's terms."""
    return Limits(
        source_rate=section.source_rate,
        source_burst=section.source_burst,
        network_rate=section.network_rate,
        network_burst=section.network_burst,
        guarded_rate=section.error_rate,
        guarded_burst=section.error_burst,
        total_rate=section.total_rate,
        exempt=tuple(section.exempt),
    )


def stream_limits(section: StunSection) -> StreamLimits:
    """Give what peers on TCP and TLS may hold."""
    return StreamLimits(section.connections, section.connections_per_host, section.connection_idle)


def refused(what: str, error: OSError) -> StartRefused:
    """Say in one line why an address cannot be bound, and what helps."""
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "another program has it: stop that one or change [stun] port"
        case errno.EADDRNOTAVAIL:
            remedy = "this host does not have that address: correct [stun] listen and alternate"
        case errno.EACCES:
            remedy = "ports below 1024 need CAP_NET_BIND_SERVICE: change [stun] port"
        case _:
            remedy = "correct [stun] listen, alternate and port"
    return StartRefused(f"cannot listen on {error.filename} ({what}): {error.strerror}; {remedy}")


def load_certificate(section: StunSection) -> Certificate | None:
    """Read the TLS files, if there are any. StartRefused when they cannot be used."""
    if not section.tls_certificate:
        return None
    try:
        return Certificate(Path(section.tls_certificate), Path(section.tls_key))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise StartRefused(
            f"[stun] tls_certificate {section.tls_certificate} with tls_key {section.tls_key}: {reason}; "
            "name a PEM chain and the key that fits it"
        ) from None


def make_streams(
    section: StunSection,
    responder: Responder,
    udp: UdpServer,
    certificate: Certificate | None,
    key: bytes = b"",
) -> dict[str, StreamServer]:
    """Build the servers of the stream transports that are switched on, by their names."""
    bounds = stream_limits(section)
    servers = {}
    if section.tcp:
        servers["TCP"] = StreamServer(responder, udp.admission, udp.lock, bounds)
    if certificate is not None:
        secured = make_responder(section, key, tls=True)
        servers["TLS"] = StreamServer(secured, udp.admission, udp.lock, bounds, tls=certificate.context)
    return servers
