"""The [control] table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from nattrav.config.types import Duration, Section
from nattrav.net.address import AddressClass, TransportAddress, classify

_FORMS = '"udp:ADDRESS:PORT", "tcp:ADDRESS:PORT", "unix:PATH" or "unix:auto"'


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where ng is spoken. `address` for `udp` and `tcp`; `path` for `unix`, None = in the run directory."""

    transport: str
    address: TransportAddress | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> ControlAddress:
        """Read `udp:ADDRESS:PORT`, `tcp:ADDRESS:PORT`, `unix:PATH` or `unix:auto`. ValueError with the remedy."""
        transport, colon, rest = text.partition(":")
        if colon and rest and transport in ("udp", "tcp"):
            return cls(transport, TransportAddress.parse(rest))
        if colon and rest and transport == "unix":
            return cls(transport, path=None if rest == "auto" else rest)
        raise ValueError(f"{text!r} is no control address: write {_FORMS}")

    def __str__(self) -> str:
        return f"{self.transport}:{self.address if self.address is not None else self.path or 'auto'}"


def _listen_address(value: Any) -> str:
    return str(ControlAddress.parse(str(value)))


def _relay_address(value: Any) -> str:
    text, semicolon, option = (value if isinstance(value, str) else "").partition(";")
    address = ControlAddress.parse(text)
    if address.transport == "tcp":
        raise ValueError(f"{text!r} cannot be asked: relays are asked over udp or unix")
    if not semicolon:
        return str(address)
    name, _, weight = option.partition("=")
    if name != "weight" or not weight.isdigit():
        raise ValueError(f'{value!r}: write "{address};weight=NUMBER"')
    return f"{address};weight={int(weight)}"


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as error:
        raise ValueError(f"{error}: write a network such as 192.0.2.0/24") from None


_ADDRESS_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^(udp|tcp|unix):.+$"})
ListenAddress = Annotated[str, BeforeValidator(_listen_address), _ADDRESS_SCHEMA]
RelayAddress = Annotated[str, BeforeValidator(_relay_address), _ADDRESS_SCHEMA]
NetworkText = Annotated[str, AfterValidator(_network)]


class ControlSection(Section):
    """The ng control protocol between SIP servers and relays."""

    restart: ClassVar = frozenset({"listen"})

    listen: list[ListenAddress] = ["udp:127.0.0.1:2223", "unix:auto"]
    """Where the relay answers ng: `udp:ADDRESS:PORT`, `tcp:ADDRESS:PORT`, `unix:PATH`; `unix:auto` = run directory."""
    allow: list[NetworkText] = ["127.0.0.0/8", "::1/128"]
    """Networks whose plain ng requests are carried out; whoever is not in them needs the shared key."""
    shared_key_file: str = ""
    """File holding the key (at least 16 bytes) that seals requests and replies between our proxies and relays."""
    max_request_rate: float = Field(default=0.0, ge=0)
    """Requests a second that one SIP server may make over UDP; beyond it they are dropped. 0 = no limit."""
    relays: list[RelayAddress] = ["unix:auto"]
    """Relays that the proxy uses: `unix:auto` or `udp:ADDRESS:PORT`, perhaps with `;weight=N` (0: no new calls)."""
    first_retry: Duration = Field(default=0.25, gt=0, le=2.0)
    """Wait before a request to a relay is sent again; the second wait is twice as long, then it has failed."""

    @model_validator(mode="after")
    def _open_listeners_need_someone_to_serve(self) -> ControlSection:
        for listen in self.listen:
            address = ControlAddress.parse(listen).address
            if address is None or classify(address.host) is AddressClass.LOOPBACK or self.shared_key_file:
                continue
            if all(ip_network(text).is_loopback for text in self.allow):
                raise ValueError(
                    f"listen {listen} would answer nobody but this host: add the SIP servers' addresses to allow, "
                    "or set shared_key_file"
                )
        return self

    def relay_choices(self) -> list[tuple[ControlAddress, int]]:
        """Give relays with their weights."""
        found = []
        for text in self.relays:
            address, _, weight = text.partition(";weight=")
            found.append((ControlAddress.parse(address), int(weight) if weight else 1))
        return found
