"""A STUN service follows a changed configuration: what it answers, to whom, how much."""

from __future__ import annotations

from pathlib import Path

from nattrav.config.schema import Configuration
from nattrav.daemon.apply import Prepared
from nattrav.daemon.nat_records import RecordKeeper
from nattrav.daemon.stun_setup import limits, load_certificate, make_responder, nonce_key, stream_limits
from stun.io.server import UdpServer
from stun.io.streams import Certificate, StreamServer


class StunFollower:
    """Changes one STUN service while it runs: what it answers, to whom, how much, and what it remembers."""

    def __init__(
        self,
        state_directory: Path,
        udp: UdpServer,
        streams: dict[str, StreamServer],
        keeper: RecordKeeper,
        certificate: Certificate | None,
    ) -> None:
        self._state_directory = state_directory
        self._udp = udp
        self._streams = streams
        self._keeper = keeper
        self._certificate = certificate

    def prepare(self, new: Configuration) -> Prepared:
        """Build responders, read the certificate. StartRefused when addresses clash or a file cannot be used."""
        section = new.stun
        wanted = load_certificate(section)
        key = nonce_key(section, self._state_directory)
        responder = make_responder(section, key)
        secured = make_responder(section, key, tls=True) if "TLS" in self._streams else responder

        def carry_out() -> None:
            self._udp.follow(responder, limits(section))
            for name, server in self._streams.items():
                server.follow(secured if name == "TLS" else responder, stream_limits(section))
            if self._certificate is not None and wanted is not None:
                self._certificate.replace(Path(section.tls_certificate), Path(section.tls_key))
            self._keeper.follow(section)

        left = ("stun.tls_certificate", "stun.tls_key") if (wanted is None) != (self._certificate is None) else ()
        return Prepared(carry_out, left)
