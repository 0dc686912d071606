"""Checks that need more than one key: listeners that collide, modes without what they need, names used twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nattrav.config.control import ControlAddress
from nattrav.config.problems import Problem
from nattrav.config.relay import PortRange
from nattrav.config.schema import Configuration
from nattrav.config.sip_values import DEFAULT_PORTS, parse_listen
from nattrav.config.stun import StunSection
from nattrav.net.address import AddressClass, TransportAddress, classify


def cross_checks(configuration: Configuration) -> Iterator[Problem]:
    """Give every contradiction between keys."""
    yield from _listeners(configuration)
    yield from _certificates(configuration)
    yield from _media_ports(configuration)
    yield from _pools(configuration)
    yield from _relays(configuration)
    yield from _modes(configuration)
    yield from _names(configuration)
    yield from _expiry(configuration)


@dataclass(frozen=True)
class Listener:
    """One socket that the configuration asks for. `transport` is udp or tcp, `protocol` what is spoken over it."""

    key: str
    written: str
    transport: str
    host: str
    port: int
    protocol: str

    def meets(self, other: Listener) -> bool:
        """Both want the same port of the same address."""
        if (self.transport, self.port) != (other.transport, other.port) or self.port == 0:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1:
            return True
        if "auto" in hosts:
            # What "auto" becomes is known at start only, but for IPv4 loopback, which is always part of it.
            rest = (hosts - {"auto"}).pop()
            return rest == "127.0.0.1" or classify(rest) is AddressClass.UNSPECIFIED
        wild = {host for host in hosts if classify(host) is AddressClass.UNSPECIFIED}
        return bool(wild) and len({":" in host for host in hosts}) == 1


def listeners(configuration: Configuration) -> Iterator[Listener]:
    """Give what all services of this configuration listen on; hosts are literal addresses, wildcards or `auto`."""
    services = configuration.node.services
    if "proxy" in services:
        for text in configuration.sip.listen:
            listen = parse_listen(text)
            for transport in listen.transports:
                port = DEFAULT_PORTS[transport] if listen.port is None else listen.port
                kind = "udp" if transport == "udp" else "tcp"
                yield Listener("sip.listen", text, kind, listen.host, port, transport)
    if "stun" in services:
        yield from _stun(configuration.stun)
    if "relay" in services:
        for text in configuration.control.listen:
            address = ControlAddress.parse(text)
            if address.address is not None:
                yield Listener("control.listen", text, address.transport, *address.address, address.transport)
    for text in configuration.admin.listen:
        yield Listener("admin.listen", text, "tcp", *TransportAddress.parse(text), "http")


def _stun(section: StunSection) -> Iterator[Listener]:
    """An alternate address has both ports; the first address of its family then has the other port, too."""
    paired = {":" in text for text in section.alternate}
    for text in [*section.listen, *section.alternate]:
        host = text.partition("!")[0]
        both = (":" in host) in paired and host != "auto"
        for port, other, transport, protocol, wanted in (
            (section.port, section.alternate_port, "udp", "udp", True),
            (section.port, section.alternate_port, "tcp", "tcp", section.tcp),
            (section.tls_port, section.tls_alternate_port, "tcp", "tls", bool(section.tls_certificate)),
        ):
            if wanted:
                yield Listener("stun.listen", text, transport, host, port, protocol)
                if both:
                    yield Listener("stun.listen", text, transport, host, other, protocol)


def _listeners(configuration: Configuration) -> Iterator[Problem]:
    seen: list[Listener] = []
    for one in listeners(configuration):
        other = next((earlier for earlier in seen if one.meets(earlier)), None)
        if other is not None:
            yield Problem(
                one.key,
                f'"{one.written}"',
                f'wants {one.transport} port {one.port} that "{other.written}" in {other.key} has',
                "give one of them another port or address",
            )
        seen.append(one)


def _certificates(configuration: Configuration) -> Iterator[Problem]:
    secure = [text for text in configuration.sip.listen if {"tls", "wss"} & set(parse_listen(text).transports)]
    tls = configuration.sip.tls
    for name, value in (("certificate", tls.certificate), ("key", tls.key)):
        if secure and not value and not tls.certificates:
            yield Problem(
                f"sip.tls.{name}", "", f'is missing, and [sip] listen has "{secure[0]}"', f"name a PEM file as {name}"
            )


def _media_ports(configuration: Configuration) -> Iterator[Problem]:
    if "relay" not in configuration.node.services:
        return
    ports = PortRange.parse(configuration.relay.ports)
    excluded = {str(entry) for entry in configuration.relay.excluded_ports}
    for one in listeners(configuration):
        if one.transport == "udp" and ports.low <= one.port <= ports.high and str(one.port) not in excluded:
            yield Problem(
                "relay.ports",
                f'"{configuration.relay.ports}"',
                f'contains port {one.port} of "{one.written}" in {one.key}',
                "move the range, or name the port in excluded_ports",
            )


def _pools(configuration: Configuration) -> Iterator[Problem]:
    """Two interfaces on one address share their ports wholly, or not at all."""
    section = configuration.relay
    seen: list[tuple[str, str, PortRange]] = []
    for interface in section.chosen_interfaces():
        span = section.port_range(interface.name)
        for name, host, other in seen:
            if host == interface.host and span != other and span.low <= other.high and other.low <= span.high:
                yield Problem(
                    "relay.interface_ports",
                    f"{interface.name} = {span}",
                    f"shares some ports of {host} with {name} ({other})",
                    "give them ranges that do not overlap, or the same one",
                )
        if interface.host is not None:
            seen.append((interface.name, interface.host, span))


def _relays(configuration: Configuration) -> Iterator[Problem]:
    """The proxy needs a relay to ask; the one of this bundle answers where [control] listen says."""
    services, control = configuration.node.services, configuration.control
    if "proxy" not in services:
        return
    if not control.relays and configuration.sip.relay != "never":
        yield Problem("control.relays", "[]", "leaves calls without a relay", 'name one, or set [sip] relay = "never"')
    if "relay" in services and "unix:auto" not in control.listen:
        for text in control.relays:
            if text.partition(";")[0] == "unix:auto":
                yield Problem(
                    "control.relays",
                    f'"{text}"',
                    "is this bundle's relay, and [control] listen has no unix:auto",
                    'add "unix:auto" to listen, or name where the relay listens',
                )


def _modes(configuration: Configuration) -> Iterator[Problem]:
    if configuration.sip.mode == "edge" and not configuration.upstream:
        yield Problem(
            "sip.mode", '"edge"', "needs a core to send registrations to", "add an [[upstream]] table with its target"
        )


def _names(configuration: Configuration) -> Iterator[Problem]:
    for name, count in Counter(upstream.name for upstream in configuration.upstream).items():
        if count > 1:
            yield Problem(
                "upstream.name", f'"{name}"', f"is used {count} times", "give each upstream a name of its own"
            )
    for (name, domain), count in Counter((user.name, user.domain) for user in configuration.user).items():
        if count > 1:
            who = name if domain is None else f"{name}@{domain}"
            yield Problem("user.name", f'"{who}"', f"is listed {count} times", "keep one [[user]] table of each")


def _expiry(configuration: Configuration) -> Iterator[Problem]:
    registrar, edge, keepalive = configuration.sip.registrar, configuration.sip.edge, configuration.sip.keepalive
    if configuration.sip.mode == "edge" and edge.absorb and edge.phone_expires > edge.core_expires:
        yield Problem(
            "sip.edge.phone_expires",
            f"{edge.phone_expires:g} s",
            f"is longer than core_expires ({edge.core_expires:g} s): the core would forget phones that are here",
            "make it shorter, or core_expires longer",
        )
    if keepalive.adaptive and keepalive.longest < keepalive.interval:
        yield Problem(
            "sip.keepalive.longest",
            f"{keepalive.longest:g} s",
            f"is shorter than interval ({keepalive.interval:g} s)",
            "make it longer, or set adaptive = false",
        )
    if registrar.min_expires > registrar.max_expires:
        yield Problem(
            "sip.registrar.min_expires",
            f"{registrar.min_expires:g} s",
            f"is longer than max_expires ({registrar.max_expires:g} s)",
            "make it shorter, or max_expires longer",
        )
    elif not registrar.min_expires <= registrar.default_expires <= registrar.max_expires:
        yield Problem(
            "sip.registrar.default_expires",
            f"{registrar.default_expires:g} s",
            f"lies outside min_expires ({registrar.min_expires:g} s) and max_expires ({registrar.max_expires:g} s)",
            "choose a time between them",
        )
