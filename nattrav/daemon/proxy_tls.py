"""The certificates of the SIP proxy: read at the start, and again whenever their files change."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

from nattrav.config.sip import SipTls
from nattrav.daemon.certificates import note_expiry
from nattrav.daemon.runtime import Runtime, StartRefused
from nattrav.proxy.listener import Listener
from nattrav.sip.transport.flow import SECURE
from nattrav.sip.transport.io.tls import Certificate, TlsContexts

INTERVAL = 30.0
"""Seconds between two looks at the files."""


def tls_contexts(settings: SipTls, transports: Iterable[str]) -> TlsContexts:
    """Make the contexts for listeners of these transports and for connections of ours; StartRefused without files."""
    secure = sorted(SECURE.intersection(transports))
    certificates: tuple[Certificate, ...] = ()
    if settings.certificate is not None:
        chain = Path(settings.certificate)
        certificates = (Certificate(chain, Path(settings.key) if settings.key is not None else chain),)
    elif secure and not settings.certificates:
        raise StartRefused(
            f"[sip] listen has {', '.join(secure)} but there is no certificate: set [sip.tls] certificate and key"
        )
    certificates += tuple(
        Certificate(Path(one.certificate), Path(one.key or one.certificate), tuple(one.names))
        for one in settings.certificates
    )
    try:
        return TlsContexts(
            certificates,
            client_authority=Path(settings.client_ca) if settings.client_ca is not None else None,
            client_required=settings.client_required,
            trusted=Path(settings.ca) if settings.ca is not None else None,
            verify=settings.verify,
        )
    except ssl.SSLError as error:
        raise StartRefused(
            f"[sip.tls]: {error.reason or error}; certificate and key must be PEM files that belong together"
        ) from None
    except OSError as error:
        raise StartRefused(f"[sip.tls]: cannot read {error.filename}: {error.strerror}; make it readable") from None


def note_certificates(contexts: TlsContexts, listeners: Iterable[Listener], runtime: Runtime) -> None:
    """Tell the metrics when the certificate of each TLS and WSS listener ends."""
    secure = [f"{one.transport}:{one.bound}" for one in listeners if one.transport in SECURE]
    for certificate in contexts.certificates[:1]:
        note_expiry(runtime.samples, certificate.chain, secure)


async def watch_certificates(contexts: TlsContexts, listeners: Sequence[Listener], runtime: Runtime) -> None:
    """Read the certificates again when a file changed; connections that are open keep theirs."""
    note_certificates(contexts, listeners, runtime)
    while True:
        await trio.sleep(INTERVAL)
        if contexts.changed():
            try:
                contexts.reload()
            except (OSError, ssl.SSLError) as error:
                runtime.log.error("certificates not read again, the old ones stay in use", problem=str(error))
            else:
                runtime.log.info("certificates read again")
                note_certificates(contexts, listeners, runtime)
