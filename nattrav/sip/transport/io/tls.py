"""TLS without sockets: memory buffers around Python's ssl, contexts by server name, certificates reloaded live."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nattrav.sip.transport.io.stream import CipherFailed

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of one certificate chain and its key, and the server names (RFC 6066) it is for; none: the default."""

    chain: Path
    key: Path
    names: tuple[str, ...] = ()


class TlsContexts:
    """The certificates in use. `reload` reads the files again; connections made before keep theirs.

    certificates     the first is the default for clients that name no server, or one we do not know
    client_authority file of CA certificates: clients are asked for one of its certificates
    client_required  a client that shows none is turned away; else it is served as one that proved nothing
    trusted          file of CA certificates for connections we open; None: the system's
    verify           check the certificates of the servers we connect to
    """

    def __init__(
        self,
        certificates: tuple[Certificate, ...],
        *,
        client_authority: Path | None = None,
        client_required: bool = False,
        trusted: Path | None = None,
        verify: bool = True,
    ) -> None:
        self.certificates = certificates
        self._client_authority = client_authority
        self._client_required = client_required
        self._trusted = trusted
        self._verify = verify
        self._seen: tuple[float, ...] = ()
        self.reload()

    def changed(self) -> bool:
        """A file is another one than at the last `reload`; one that is missing just now does not count."""
        try:
            return self._times() != self._seen
        except OSError:
            return False

    def _times(self) -> tuple[float, ...]:
        pairs = [(certificate.chain, certificate.key) for certificate in self.certificates]
        return tuple(path.stat().st_mtime for pair in pairs for path in pair)

    def reload(self) -> None:
        """Read the files. Raises OSError or ssl.SSLError with the old certificates still in use."""
        seen = self._times()
        by_name: dict[str, ssl.SSLContext] = {}
        default = None
        for certificate in self.certificates:
            context = self._server_context(certificate)
            default = default if default is not None else context
            by_name.update((name.lower(), context) for name in certificate.names)
        client = ssl.create_default_context(cafile=None if self._trusted is None else str(self._trusted))
        client.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self._verify:
            client.check_hostname = False
            client.verify_mode = ssl.CERT_NONE
        if self.certificates:
            # Shown to servers that ask who we are (RFC 5922 §7.4).
            client.load_cert_chain(self.certificates[0].chain, self.certificates[0].key)
        self._seen = seen
        self._by_name, self._default, self._client = by_name, default, client

    def replace(self, other: TlsContexts) -> None:
        """Use what `other` has read, for connections made from now on."""
        self.certificates = other.certificates
        self._client_authority, self._client_required = other._client_authority, other._client_required
        self._trusted, self._verify = other._trusted, other._verify
        self._seen, self._by_name, self._default, self._client = (
            other._seen,
            other._by_name,
            other._default,
            other._client,
        )

    def _server_context(self, certificate: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate.chain, certificate.key)
        if self._client_authority is not None:
            context.load_verify_locations(self._client_authority)
            context.verify_mode = ssl.CERT_REQUIRED if self._client_required else ssl.CERT_OPTIONAL
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        context = self._by_name.get(name.lower()) or self._by_name.get("*." + name.lower().partition(".")[2])
        if context is not None:
            connection.context = context

    def server_side(self) -> TlsCipher:
        """TLS for a connection that was accepted. Raises ValueError without a certificate."""
        if self._default is None:
            raise ValueError("no certificate")
        return TlsCipher(self._default, server_side=True, server_name=None)

    def client_side(self, server_name: str) -> TlsCipher:
        """TLS for a connection we opened; the peer's certificate must be for `server_name` (RFC 5922 §7.3)."""
        return TlsCipher(self._client, server_side=False, server_name=server_name)


class TlsCipher:
    """One TLS connection in memory."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None) -> None:
        self.established = False
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=server_name)

    @property
    def peer_names(self) -> tuple[str, ...]:
        """Domains and addresses that the peer's certificate is for, once it was checked; empty without one.

        RFC 5922 §7.1: SIP URIs without a user part and DNS names, in lower case; a common name only without those.
        """
        shown: dict[str, Any] = (self._tls.getpeercert() if self.established else None) or {}
        alternatives = [(str(kind), str(value)) for kind, value in shown.get("subjectAltName", ())]
        uris = [value[4:].lower() for kind, value in alternatives if kind == "URI" and value.lower().startswith("sip:")]
        named = [host for host in uris if "@" not in host]
        named += [value.lower() for kind, value in alternatives if kind == "DNS" and not value.startswith("*")]
        named += [value for kind, value in alternatives if kind == "IP Address"]
        if not named:
            subject = [pair for one in shown.get("subject", ()) for pair in one]
            named = [str(value).lower() for key, value in subject if key == "commonName"]
        return tuple(dict.fromkeys(named))

    def start(self) -> bytes:
        """Octets to send first: the client's hello."""
        self._shake_hands()
        return self._out.read()

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take octets; return clear text and octets to send back. Raises CipherFailed."""
        self._in.write(data)
        if not self.established and not self._shake_hands():
            return b"", self._out.read()
        clear = bytearray()
        try:
            while chunk := self._tls.read(_CHUNK):
                clear += chunk
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            # After the peer's close notification the connection itself ends too.
            pass
        except ssl.SSLError as error:
            raise CipherFailed(str(error)) from None
        return bytes(clear), self._out.read()

    def send(self, data: bytes) -> bytes:
        """Encrypt."""
        self._tls.write(data)
        return self._out.read()

    def close(self) -> bytes:
        """The close notification."""
        with contextlib.suppress(ssl.SSLError):
            # Raises while the peer's own notification has not come; nobody waits for it.
            self._tls.unwrap()
        return self._out.read()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise CipherFailed(str(error)) from None
        self.established = True
        return True
