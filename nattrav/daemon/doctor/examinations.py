"""The examinations, in the order in which an operator would look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

from nattrav.config.relay import RelayInterface
from nattrav.config.schema import Configuration
from nattrav.daemon.doctor.findings import Finding, fail, ok, unknown, warn
from nattrav.daemon.doctor.host import Host
from nattrav.daemon.doctor.kernel_path import kernel_path
from nattrav.daemon.doctor.ports import ports_free, reserved_ports, way_in
from nattrav.net.address import NON_PUBLIC, AddressClass, classify, is_literal
from nattrav.net.certificate import not_after

MEGABYTE = 1 << 20
BUFFER = 4 * MEGABYTE
CONNTRACK = 262_144
BACKLOG = 10_000
QUEUE = 100
"""Datagrams that a Unix socket may hold unread; the kernel's own default is 10."""
RENEW_DAYS = 14

Examination = Callable[[Host, Configuration], Iterable[Finding]]


def examine(host: Host, configuration: Configuration, *, running: bool) -> Iterator[Finding]:
    """Examine everything. A bundle that runs here holds its ports itself."""
    for examination in EXAMINATIONS:
        if not (running and examination is ports_free):
            yield from examination(host, configuration)


def _addresses(host: Host, configuration: Configuration) -> Iterator[Finding]:
    public = [one.host for one in host.addresses() if one.kind is AddressClass.PUBLIC]
    told = [RelayInterface.parse(text).advertised for text in configuration.relay.interfaces]
    advertised = [text for text in told if text]
    if advertised and all(classify(text) not in NON_PUBLIC for text in advertised):
        yield ok("advertised address", ", ".join(advertised))
    elif public and not advertised:
        yield ok("advertised address", ", ".join(public))
    elif advertised:
        yield warn(
            "advertised address",
            f"{', '.join(advertised)} is not reachable from the Internet",
            'advertise the public address: [relay] interfaces = ["public/auto!PUBLIC"], and [sip] listen alike',
        )
    else:
        own = [one.host for one in host.addresses() if one.kind is not AddressClass.LOOPBACK]
        yield warn(
            "advertised address",
            f"this host has no public address ({', '.join(own) or 'none but loopback'})",
            "behind a 1:1 NAT set ADDRESS!PUBLIC in [sip] listen, [relay] interfaces and [stun] listen; "
            "for phones inside your own network all is well",
        )
    if len({one.interface for one in host.addresses() if one.kind is not AddressClass.LOOPBACK}) > 1:
        yield from _reverse_path(host)


def _reverse_path(host: Host) -> Iterator[Finding]:
    """The kernel takes the stricter number of `all` and of the interface, but for 2, which is the looser."""
    names = dict.fromkeys(one.interface for one in host.addresses() if one.kind is not AddressClass.LOOPBACK)
    everywhere = host.read("/proc/sys/net/ipv4/conf/all/rp_filter") or "0"
    strict = [
        name for name in names if max(everywhere, host.read(f"/proc/sys/net/ipv4/conf/{name}/rp_filter") or "0") == "1"
    ]
    if strict:
        yield warn(
            "reverse path filter",
            f"strict on {', '.join(strict)}, and there are several interfaces: packets that return another way are "
            "dropped silently",
            "sysctl net.ipv4.conf.all.rp_filter=2",
        )
    else:
        yield ok("reverse path filter", f"rp_filter={everywhere}")


def _buffers(host: Host, configuration: Configuration) -> Iterator[Finding]:
    for name, floor, advice in (
        ("net.core.rmem_max", BUFFER, 67_108_864),
        ("net.core.wmem_max", BUFFER, 67_108_864),
        ("net.core.netdev_max_backlog", BACKLOG, 250_000),
    ):
        value = host.read("/proc/sys/" + name.replace(".", "/"))
        if value is None:
            yield unknown(name, "cannot be read here (a container sees only some of them)")
        elif int(value) < floor:
            yield warn(name, f"{value}: bursts of packets are lost before we see them", f"sysctl {name}={advice}")
        else:
            yield ok(name, value)
    name = "net.unix.max_dgram_qlen"
    value = host.read("/proc/sys/" + name.replace(".", "/"))
    if value is not None and any(text.startswith("unix:") for text in configuration.control.listen):
        if int(value) < QUEUE:
            yield warn(name, f"{value}: the relay waits for a SIP server that asks much at once", f"sysctl {name}=512")
        else:
            yield ok(name, value)


def _open_files(host: Host, configuration: Configuration) -> Iterator[Finding]:
    section = configuration.relay
    six = any(":" in one.host and one.kind is not AddressClass.LINK_LOCAL for one in host.addresses())
    ranges = [
        section.port_range(one.name)
        for one in section.chosen_interfaces()
        # "auto" is an address of each family that the host has.
        for _ in range(2 if one.host is None and six else 1)
    ]
    needed = sum(ports.high - ports.low + 1 for ports in ranges) + 4096
    limit = host.open_files()
    if limit < needed:
        yield warn(
            "open files",
            f"{limit}: the relay's {', '.join(map(str, dict.fromkeys(ranges)))} cannot all be open at once",
            f"LimitNOFILE={needed} in the unit, or 'ulimit -n {needed}'",
        )
    else:
        yield ok("open files", str(limit))


def _kernel_features(host: Host, configuration: Configuration) -> Iterator[Finding]:
    refused = host.io_uring()
    if refused is None:
        yield ok("io_uring", "allowed")
    else:
        yield warn(
            "io_uring",
            f"refused ({refused}): the relay uses recvmmsg instead and needs more CPU",
            "sysctl kernel.io_uring_disabled=0; in a container use a seccomp profile that allows io_uring",
        )
    yield from kernel_path(host, configuration)


def _firewall(host: Host, configuration: Configuration) -> Iterator[Finding]:
    yield _sip_helper(host)
    limit, count = (host.read(f"/proc/sys/net/netfilter/nf_conntrack_{name}") for name in ("max", "count"))
    if limit is None:
        yield ok("connection tracking", "not in use")
        return
    rules = host.ruleset()
    if rules is not None and "notrack" in rules:
        yield ok("connection tracking", f"notrack rules found; {count} of {limit} entries used")
    elif int(limit) < CONNTRACK:
        yield warn(
            "connection tracking",
            f"{count or '?'} of {limit} entries used: each media port takes entries, a full table drops packets",
            "use deploy/nftables/nattrav.nft (notrack), or sysctl net.netfilter.nf_conntrack_max=1048576",
        )
    else:
        yield ok("connection tracking", f"{count} of {limit} entries used")


def _sip_helper(host: Host) -> Finding:
    """A module was loaded by somebody who wants it; one in the kernel itself acts when a rule or a setting says so."""
    name = "SIP helper of the firewall"
    modules = {line.split()[0] for line in (host.read("/proc/modules") or "").splitlines()}
    helpers = sorted(modules & {"nf_conntrack_sip", "nf_nat_sip"})
    if helpers:
        return fail(
            name,
            f"{', '.join(helpers)} rewrites SIP messages behind our back",
            f"modprobe -r {' '.join(reversed(helpers))}, and blacklist nf_conntrack_sip in /etc/modprobe.d/",
        )
    if host.read("/sys/module/nf_conntrack_sip/parameters/ports") is None:
        return ok(name, "not loaded")
    if host.read("/proc/sys/net/netfilter/nf_conntrack_helper") == "1":
        return fail(
            name,
            "nf_conntrack_sip is part of this kernel and rewrites SIP messages behind our back",
            "sysctl net.netfilter.nf_conntrack_helper=0",
        )
    if '"ct helper"' in (host.ruleset() or ""):
        return warn(
            name,
            "nf_conntrack_sip is part of this kernel, and the rules assign helpers",
            "take rules with 'ct helper set' away from SIP: 'nft list ruleset' shows them",
        )
    return ok(name, "part of this kernel, but no rule assigns it")


def _clock(host: Host, configuration: Configuration) -> Iterator[Finding]:
    match host.clock_synchronised():
        case True:
            yield ok("clock", "synchronised")
        case False:
            yield warn("clock", "no time service keeps it: certificates, logs and nonces suffer", "apt install chrony")
        case None:
            yield unknown("clock", "the kernel does not tell")


def _names(host: Host, configuration: Configuration) -> Iterator[Finding]:
    for upstream in configuration.upstream:
        target = upstream.target.partition(":")[2].partition(";")[0]
        name = target.rpartition(":")[0] if target.rpartition(":")[2].isdigit() else target
        if is_literal(name.strip("[]")):
            continue
        if host.resolves(name):
            yield ok(f"name of upstream {upstream.name}", name)
        else:
            yield fail(
                f"name of upstream {upstream.name}",
                f"{name} has no address in the DNS",
                "correct [[upstream]] target, or /etc/resolv.conf",
            )


def _packages(host: Host, configuration: Configuration) -> Iterator[Finding]:
    ours = host.module_file("nattrav")
    for name in ("relay", "stun"):
        found = host.module_file(name)
        if ours is None or found is None or PurePath(found).parents[1] != PurePath(ours).parents[1]:
            yield fail(
                f"Python package {name}",
                f"{found} is not ours: another distribution of that name shadows it",
                "give nattrav a virtual environment of its own",
            )
        else:
            yield ok(f"Python package {name}", found)


def _certificate(host: Host, configuration: Configuration) -> Iterator[Finding]:
    tls, stun = configuration.sip.tls, configuration.stun
    named = [
        ("certificate", tls.certificate, "[sip.tls] certificate"),
        ("key", tls.key, "[sip.tls] key"),
        *(
            (f"certificate for {', '.join(one.names)}", one.certificate, "[[sip.tls.certificates]]")
            for one in tls.certificates
        ),
        ("certificate of STUN", stun.tls_certificate, "[stun] tls_certificate"),
        ("key of STUN", stun.tls_key, "[stun] tls_key"),
    ]
    for name, path, key in named:
        if not path:
            continue
        text = host.read(path)
        if text is None:
            yield fail(f"TLS {name}", f"{path} cannot be read", f"correct {key}, or the file's rights")
        elif name.startswith("certificate"):
            yield _validity(host, f"TLS {name}", path, text)
        else:
            yield ok(f"TLS {name}", path)


def _validity(host: Host, name: str, path: str, text: str) -> Finding:
    try:
        days = (not_after(text) - host.now()) / 86_400
    except ValueError:
        return fail(name, f"{path} holds no certificate in PEM", "name the PEM file of the certificate chain")
    renew = "renew it; a running bundle reads the file again by itself within half a minute"
    if days < 0:
        return fail(name, f"{path} ended {-days:.0f} days ago: clients refuse it", renew)
    if days < RENEW_DAYS:
        return warn(name, f"{path} ends in {days:.0f} days", renew)
    return ok(name, f"{path}, for {days:.0f} days")


EXAMINATIONS: tuple[Examination, ...] = (
    _addresses,
    ports_free,
    reserved_ports,
    way_in,
    _buffers,
    _open_files,
    _kernel_features,
    _firewall,
    _clock,
    _names,
    _certificate,
    _packages,
)
