"""From the configuration to an engine: interfaces with their pools, policy, descriptors, data plane."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nattrav.config.relay import RelayInterface, RelaySection
from nattrav.daemon.runtime import StartRefused
from nattrav.net.bpf.programs import Mode
from nattrav.net.bpf.sharing import Company
from nattrav.net.interfaces import advertised_address, local_addresses
from relay.interfaces import Interfaces, LocalAddress, overlapping
from relay.io.descriptors import DescriptorBudget, claim_descriptors
from relay.io.pump import RESTING, BackendRefused, DataPlane, open_plane
from relay.io.sockets import Unpredictable
from relay.offload.io.loader import OffloadRefused, XdpFlows, leave_xdp, open_xdp
from relay.offload.xdp import KernelFlows
from relay.policy import LimitSettings, Policy, TimeOuts
from relay.ports import PortPool
from relay.session import Learning


def build_policy(section: RelaySection) -> Policy:
    """Give the engine's defaults."""
    return Policy(
        learning=Learning(section.learning),
        strict_source=section.strict_source,
        window=section.learning_window,
        continuity=section.continuity_relearn,
        validate=section.validate_rtp,
        audio_packet_rate=section.audio_packet_rate,
        video_packet_rate=section.video_packet_rate,
        size_limit=section.packet_size,
        tos=section.tos,
        delete_delay=section.delete_delay,
        one_way_grace=section.one_way_grace,
        reachable=tuple(section.reachable_networks),
        time_outs=TimeOuts(
            media=section.timeout,
            silent=section.silent_timeout,
            offer=section.offer_timeout,
            final=section.final_timeout,
        ),
        limits=LimitSettings(
            sessions=section.max_sessions,
            ports=section.max_port_use,
            packets=section.max_packet_rate,
            bytes=section.max_bandwidth,
        ),
    )


SOCKETS_PER_SESSION = 4
"""RTP and RTCP of both parties of an audio call."""


@dataclass(frozen=True)
class Resizing:
    """A pool that lives on with another range."""

    pool: PortPool
    low: int
    high: int


@dataclass
class Layout:
    """The interfaces a section asks for; pools of `known` ones are used again, and change only with `settle`."""

    section: RelaySection
    interfaces: Interfaces
    resizing: list[Resizing]
    ports: int
    """How many ports there may be in use at once."""
    keeps_removed: bool
    """Interfaces that the section no longer names stay for the sessions that use them."""

    def settle(self) -> None:
        """Give the pools that live on their new ranges."""
        for one in self.resizing:
            one.pool.resize(one.low, one.high, excluded=self.section.excluded_ports)
            one.pool.quarantine = self.section.quarantine


def build_interfaces(section: RelaySection, known: Interfaces | None = None) -> Layout:
    """Find the addresses and make their pools, or use those of `known` interfaces again.

    StartRefused when an address is not on this host.
    """
    here = {address.host for address in local_addresses()}
    choose = Unpredictable()
    addresses: list[LocalAddress] = []
    old = [] if known is None else list(known.pools)
    resizing: list[Resizing] = []
    pools: dict[tuple[str, int, int], PortPool] = {}
    for interface in section.chosen_interfaces():
        span = section.port_range(interface.name)
        for host, advertised in _hosts(interface):
            if host not in here:
                raise StartRefused(
                    f"[relay] interfaces: {host} is not an address of this host; bind to a local address and write "
                    f"what phones should see after it: {interface.name}/LOCAL!{advertised}"
                )
            key = (host, span.low, span.high)
            pool = pools.get(key)
            if pool is None:
                pool = next((one for one in old if one.host == host and one.name == interface.name), None)
                if pool is not None:
                    old.remove(pool)
                    pools[key] = pool
                    resizing.append(Resizing(pool, span.low, span.high))
            if pool is None:
                pool = pools[key] = PortPool(
                    interface.name,
                    host,
                    span.low,
                    span.high,
                    choose=choose,
                    excluded=section.excluded_ports,
                    quarantine=section.quarantine,
                )
            addresses.append(LocalAddress(interface.name, host, advertised, pool))
    both = overlapping(pools)
    if both is not None:
        raise StartRefused(
            f"[relay] interface_ports: {pools[both[0]].name} and {pools[both[1]].name} share {both[0][0]} and some of "
            "its ports; give them ranges that do not overlap, or the same one"
        )
    removed = [] if known is None else _removed(known, {address.interface for address in addresses})
    ports = sum(high - low + 1 for _, low, high in pools) + sum(one.pool.total for one in removed)
    return Layout(section, Interfaces([*addresses, *removed], dict(section.aliases)), resizing, ports, bool(removed))


def _removed(known: Interfaces, names: set[str]) -> list[LocalAddress]:
    return [address for address in known.addresses if address.interface not in names]


def _hosts(interface: RelayInterface) -> Iterator[tuple[str, str]]:
    if interface.host is not None:
        yield interface.host, interface.advertised or interface.host
        return
    for family in (socket.AF_INET, socket.AF_INET6):
        host = advertised_address(family)
        if host is not None:
            same_family = interface.advertised is not None and (":" in interface.advertised) == (":" in host)
            yield host, interface.advertised if same_family and interface.advertised else host


def claim_sockets(layout: Layout, policy: Policy) -> tuple[Policy, DescriptorBudget]:
    """Raise the descriptor limit for every port.

    Where the system does not allow that, the relay takes fewer sessions, if that is what was asked for: by
    `max_sessions`, or by saying nothing about the ports. StartRefused otherwise.
    """
    section = layout.section
    budget = claim_descriptors(layout.ports)
    if budget.enough:
        return policy, budget
    wanted = section.max_sessions * SOCKETS_PER_SESSION
    if not (0 < wanted <= budget.allowed) and (budget.useless or section.ports_stated):
        raise StartRefused(
            f"[relay] ports: {budget.needed} media ports need as many open files, but this process may have only "
            f"{budget.allowed}; raise the limit (LimitNOFILE={budget.needed + 1024} in the unit, or ulimit -Hn), "
            f"narrow the range, or set [relay] max_sessions = {budget.allowed // SOCKETS_PER_SESSION}"
        )
    return replace(policy, limits=replace(policy.limits, sockets=budget.allowed)), budget


def build_kernel_path(
    section: RelaySection, interfaces: Interfaces, company: Company | None = None
) -> tuple[XdpFlows | None, str]:
    """Attach the XDP program where that is asked for; give it, or None, and how or why not. StartRefused for `xdp`.

    What the last process left in the kernel is taken over, if sessions are restored, too.
    """
    company = company or Company()
    if section.offload == "off" or not section.restore:
        leave_xdp(company)
        company = replace(company, inherited=(), keep=company.keep if section.restore else None)
    if section.offload == "off":
        return None, '[relay] offload = "off"'
    hosts = list(dict.fromkeys(address.host for address in interfaces.addresses))
    try:
        kernel = open_xdp(
            hosts,
            sum(pool.total for pool in interfaces.pools),
            interfaces=section.offload_interfaces,
            mode=None if section.offload_mode == "auto" else Mode(section.offload_mode),
            company=company,
        )
    except OffloadRefused as refused:
        if section.offload == "xdp":
            raise StartRefused(f'[relay] offload = "xdp" is not possible: {refused}; or write "auto"') from None
        return None, str(refused)
    return kernel, kernel.how


def build_plane(
    section: RelaySection, threads: int, budget: DescriptorBudget, kernel: KernelFlows | None = None
) -> DataPlane:
    """Make and start the data threads. StartRefused when the backend asked for cannot run here."""
    # Sockets may rest where every port can be open at once; else those at rest would be missing elsewhere.
    resting = RESTING if budget.enough else 0
    try:
        plane = open_plane(
            threads,
            section.backend,
            coalesce=section.coalesce,
            pin=section.pin_threads,
            resting=resting,
            kernel=kernel,
            twins=min(budget.spare, budget.needed),
            transmit=section.transmit,
        )
        plane.start()
    except BackendRefused as refused:
        raise StartRefused(f'{refused}; set [relay] backend = "auto"') from None
    except OSError as error:
        raise StartRefused(
            f'cannot start the relay\'s data threads: {error.strerror}; try [relay] backend = "portable"'
        ) from None
    return plane
