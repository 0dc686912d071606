"""The [admin] table."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

from nattrav.config.types import Section, SocketAddress
from nattrav.net.address import AddressClass, TransportAddress, classify


class AdminSection(Section):
    """The HTTP listener of metrics, health and the status page, and who may use the control sockets."""

    restart: ClassVar = frozenset({"listen", "socket_group"})

    listen: list[SocketAddress] = ["127.0.0.1:8080"]
    """Addresses of the admin HTTP listener; an empty list switches it off."""
    token_file: str = ""
    """File holding the bearer token that clients must show; required for listeners beyond loopback."""
    page: bool = True
    """Serve the read-only status page at `/`."""
    mask_numbers: bool = True
    """Mask the digits of subscribers' numbers on the status page."""
    socket_group: str = ""
    """Unix group whose members may use the control sockets besides root and the daemon's user."""

    @model_validator(mode="after")
    def _open_listeners_need_a_token(self) -> AdminSection:
        open_to_others = [
            listen
            for listen in self.listen
            if classify(TransportAddress.parse(listen).host) is not AddressClass.LOOPBACK
        ]
        if open_to_others and not self.token_file:
            raise ValueError(
                f"listen {open_to_others[0]} is reachable by others and has no token: "
                "set token_file, or listen on 127.0.0.1"
            )
        return self
