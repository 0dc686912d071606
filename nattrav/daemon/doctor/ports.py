"""The ports we want: free, kept from other programs, and let in by the firewall."""

from __future__ import annotations

from collections.abc import Iterator

from nattrav.config.checks import Listener, listeners
from nattrav.config.relay import PortRange
from nattrav.config.schema import Configuration
from nattrav.daemon.doctor.findings import Finding, fail, ok, unknown, warn
from nattrav.daemon.doctor.firewall import Ruleset, Way, worst
from nattrav.daemon.doctor.host import Host
from nattrav.net.address import AddressClass, TransportAddress, classify

SAMPLES = 16
"""Ports of a range that are tried on the firewall's rules, its ends among them."""

_FOR_PEERS = {"sip.listen": "SIP", "stun.listen": "STUN"}
_NAMES = _FOR_PEERS | {"admin.listen": "admin", "control.listen": "ng"}


def ports_free(host: Host, configuration: Configuration) -> Iterator[Finding]:
    """No other program has a port that a listener wants."""
    for one in listeners(configuration):
        if one.port == 0:
            continue
        # What "auto" becomes is one of this host's addresses, and whoever has the port on one of them is in the way.
        address = TransportAddress("0.0.0.0" if one.host == "auto" else one.host, one.port)
        error = host.bind_error(one.transport, address)
        name = f"port of {_NAMES[one.key]} {one.protocol}"
        section, _, key = one.key.partition(".")
        if error is None:
            yield ok(name, f"{address}/{one.transport} is free")
        elif error == "Cannot assign requested address":
            yield fail(name, f"{address.host} is not an address of this host", f"correct [{section}] {key}")
        else:
            remedy = f"'ss -l{one.transport[0]}np' names the program that uses it; stop it, or change [{section}] {key}"
            yield fail(name, f"{address}/{one.transport}: {error}", remedy)


def media_ranges(configuration: Configuration) -> list[PortRange]:
    """Give the ranges of ports of all interfaces, each once; none when the relay does not run here."""
    if "relay" not in configuration.node.services:
        return []
    section = configuration.relay
    return list(dict.fromkeys(section.port_range(one.name) for one in section.chosen_interfaces()))


def reserved_ports(host: Host, configuration: Configuration) -> Iterator[Finding]:
    """The kernel gives none of the relay's ports to outgoing connections."""
    local = (host.read("/proc/sys/net/ipv4/ip_local_port_range") or "32768 60999").split()
    reserved = host.read("/proc/sys/net/ipv4/ip_local_reserved_ports") or ""
    first, last = int(local[0]), int(local[1])
    wanted = media_ranges(configuration)
    if not wanted:
        return
    open_to_all = [
        ports
        for ports in wanted
        if ports.low <= last
        and ports.high >= first
        and not covers(reserved, max(ports.low, first), min(ports.high, last))
    ]
    if open_to_all:
        merged = ",".join(part for part in (reserved, *map(str, open_to_all)) if part)
        yield warn(
            "relay ports reserved",
            f"the kernel may give ports of {', '.join(map(str, open_to_all))} to outgoing connections",
            f"sysctl net.ipv4.ip_local_reserved_ports={merged}",
        )
    else:
        told = f"{', '.join(map(str, wanted))} lie outside the kernel's {first}-{last}"
        yield ok("relay ports reserved", reserved or told)


def covers(reserved: str, low: int, high: int) -> bool:
    """Tell whether a list of ports and ranges has all from `low` to `high`."""
    wanted = low
    for part in sorted(reserved.split(","), key=lambda text: int(text.partition("-")[0] or 0)):
        first, _, last = part.partition("-")
        if first and int(first) <= wanted <= int(last or first):
            wanted = int(last or first) + 1
    return wanted > high


def way_in(host: Host, configuration: Configuration) -> Iterator[Finding]:
    """The firewall of this host lets phones in, and their media."""
    text = host.ruleset()
    if host.read("/proc/net/ip_tables_names"):
        yield unknown("firewall", "there are rules of iptables-legacy, which are not examined: 'iptables-legacy -S'")
    if text is None:
        yield unknown("firewall", "its rules cannot be read here (nft is missing, or this user may not)")
        return
    try:
        rules = Ruleset.parse(text)
    except ValueError:
        yield unknown("firewall", "its rules cannot be understood")
        return
    if configuration.relay.transmit == "frame" and (passed := rules.at_the_way_out()):
        yield warn(
            "firewall: frames",
            f"media that leaves as whole frames passes by the chain {', '.join(' '.join(one) for one in passed)}",
            'set [relay] transmit = "socket" where these rules are for media',
        )
    for name, protocol, first, last in dict.fromkeys(_doors(configuration)):
        step = max(1, (last - first) // (SAMPLES - 1))
        judged = worst(rules.judge(protocol, port) for port in (*range(first, last, step), last))
        ports = str(first) if first == last else f"{first}-{last}"
        what = f"firewall: {name}"
        if judged.way is Way.CLOSED and judged.chain is not None:
            family, table, chain = judged.chain
            yield fail(
                what,
                f"the chain {family} {table} {chain} lets nobody reach {protocol} port {ports}",
                f"nft insert rule {family} {table} {chain} {protocol} dport {ports} accept",
            )
        elif judged.way is Way.SOME:
            yield ok(what, f"{protocol} port {ports} is let in under conditions")
        else:
            yield ok(what, f"{protocol} port {ports} is let in")


def _doors(configuration: Configuration) -> Iterator[tuple[str, str, int, int]]:
    for one in listeners(configuration):
        if one.key in _FOR_PEERS and one.port and not _is_loopback(one):
            yield f"{_FOR_PEERS[one.key]} {one.protocol}", one.transport, one.port, one.port
    for ports in media_ranges(configuration):
        yield "media", "udp", ports.low, ports.high


def _is_loopback(one: Listener) -> bool:
    return one.host != "auto" and classify(one.host) is AddressClass.LOOPBACK
