"""Whether the kernel could forward media and answer STUN here (XDP): rights, kernel, and each interface."""

from __future__ import annotations

from collections.abc import Iterator

from nattrav.config.relay import RelayInterface
from nattrav.config.schema import Configuration
from nattrav.daemon.doctor.findings import Finding, fail, ok, unknown, warn
from nattrav.daemon.doctor.host import Host
from nattrav.net.address import AddressClass
from nattrav.net.bpf.dispatcher import NOT_IN_THE_DRIVER, PROGRAM

STACKED = frozenset({"bridge", "802.1Q VLAN Support", "macvlan", "bonding", "team"})
"""Drivers of interfaces that lie on others."""


def kernel_path(host: Host, configuration: Configuration) -> Iterator[Finding]:
    """What XDP programs need; a fault only where one is asked for."""
    media, stun = configuration.relay, configuration.stun
    offload = max(media.offload, stun.offload, key=("off", "auto", "xdp").index)
    modes = {media.offload_mode, stun.offload_mode} - {"auto"}
    interfaces = _interfaces(host, configuration)
    if "off" not in (media.offload, stun.offload) and len(modes) > 1:
        yield warn(
            "XDP of two services",
            "relay and STUN ask for different modes on the same interfaces: what starts second stays in user space",
            "give [relay] and [stun] the same offload_mode",
        )
    kernel, capabilities = host.kernel(), host.capabilities()
    version = f"kernel {kernel[0]}.{kernel[1]}"
    if kernel < (5, 18):
        yield warn("XDP", f"{version} is too old for the programs", "kernel 5.18 or newer")
        return
    may = "CAP_SYS_ADMIN" in capabilities or {"CAP_BPF", "CAP_NET_ADMIN"} <= capabilities
    reason = host.xdp() if may else "this process lacks CAP_BPF and CAP_NET_ADMIN to load it"
    if reason is None:
        yield ok("XDP", version)
        for name in interfaces:
            yield _on(host, name, offload)
    elif not may or offload == "off":
        yield unknown("XDP", f"{version} has it; {reason}")
    else:
        yield (fail if offload == "xdp" else warn)(
            "XDP", reason, 'apt install libbpf1, deploy/systemd/kernel-plane.conf; or offload = "off"'
        )
    if offload != "off" and host.read("/proc/sys/net/ipv4/conf/lo/forwarding") == "0":
        # Root sets it itself; a service that may not write kernel settings depends on the file.
        yield warn(
            "XDP routes",
            "net.ipv4.conf.lo.forwarding is 0: the service must be allowed to set it",
            "sysctl net.ipv4.conf.lo.forwarding=1 (deploy/sysctl.d/90-nattrav.conf)",
        )


def _interfaces(host: Host, configuration: Configuration) -> list[str]:
    """Interfaces that the programs run on, or would."""
    media, stun = configuration.relay, configuration.stun
    wanted = [*media.offload_interfaces, *stun.offload_interfaces]
    # An alias such as eth0:1 is a label, not an interface.
    carriers = {one.host: one.interface.partition(":")[0] for one in host.addresses()}
    hosts = [one.host for one in host.addresses() if one.kind is not AddressClass.LOOPBACK]
    if not media.offload_interfaces:
        named = [RelayInterface.parse(text).host for text in media.interfaces]
        wanted += [carriers[one] for one in ([h for h in named if h] if all(named) else hosts) if one in carriers]
    return [name for name in dict.fromkeys(wanted) if name != "lo"]


def _on(host: Host, name: str, offload: str) -> Finding:
    what = f"XDP on {name}"
    driver, program = host.xdp_on(name)
    how = f"{driver or 'its driver tells no name'}"
    if program and program != PROGRAM:
        told = f"has the XDP program {program} already, and can have one only"
        remedy = f"ip link set dev {name} xdp off, if nobody needs it; or name other interfaces in offload_interfaces"
        if offload == "off":
            return unknown(what, told)
        return (fail if offload == "xdp" else warn)(what, told, remedy)
    if driver in STACKED:
        how += ": lies on other interfaces, so packets are seen late (generic); name those below in offload_interfaces"
    elif driver in NOT_IN_THE_DRIVER:
        how += ": generic, before the network stack"
    return ok(what, f"{how}; runs our programs" if program else how)
