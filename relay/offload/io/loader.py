"""Brings the program into the kernel and attaches it to the interfaces that media comes in by."""

from __future__ import annotations

import errno
import heapq
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nattrav.net.bpf.device import driver_of, mac_of
from nattrav.net.bpf.libbpf import refusal
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Attachment, Mode, Program, RunTime
from nattrav.net.bpf.routes import ROUTE_FROM, CannotAskRoutes, allow_questions, sysctl_number
from nattrav.net.interfaces import InterfaceAddress, local_addresses
from relay.offload.layout import DEVICES, REASONS, ROW, Device, device, settings

OBJECT = Path(__file__).parent.parent / "relay.bpf.o"

HOP_TIME = 1_000_000_000
"""Nanoseconds for which a flow's next hop is remembered; then the routes are asked again."""

_PATIENCE = 1000

_BLIND = frozenset({"veth"})
"""Drivers that drop what we forward without a word unless the other end is prepared, which cannot be seen from here."""


class OffloadRefused(Exception):
    """The kernel path cannot be used here; the text says why and what to change."""


@dataclass(frozen=True, slots=True)
class Place:
    """The interfaces to attach to, and the local addresses whose packets come in there."""

    interfaces: tuple[str, ...]
    hosts: frozenset[str]


def find_place(hosts: Sequence[str], wanted: Sequence[str], addresses: Sequence[InterfaceAddress]) -> Place:
    """Choose interfaces: those wanted, for all hosts; else those that carry the hosts. OffloadRefused without any."""
    if wanted:
        found = Place(tuple(dict.fromkeys(wanted)), frozenset(hosts))
    else:
        # An alias such as eth0:1 is a label, not an interface.
        carriers = {one.host: one.interface.partition(":")[0] for one in addresses}
        chosen = {host: carriers[host] for host in hosts if carriers.get(host, "lo") != "lo"}
        found = Place(tuple(dict.fromkeys(chosen.values())), frozenset(chosen))
    if not found.interfaces:
        raise OffloadRefused(
            "no network interface but loopback carries a media address; name those that media comes in by in "
            "[relay] offload_interfaces"
        )
    if len(found.interfaces) > DEVICES:
        raise OffloadRefused(f"more than {DEVICES} interfaces; name those that matter in [relay] offload_interfaces")
    return found


class XdpFlows:
    """`relay.offload.xdp.KernelFlows` in the kernel, until `close` or the end of the process."""

    def __init__(self, place: Place, thing: BpfObject, attachments: Sequence[Attachment], capacity: int) -> None:
        self.hosts = place.hosts
        self.attachments = tuple(attachments)
        self.program: Program = thing.program("relay")
        self.rows = thing.map("rows").memory(ROW)
        self._object = thing
        self._flows = thing.map("flows")
        self._left = thing.map("left")
        self._free = list(range(capacity))
        self._lock = threading.Lock()

    @property
    def how(self) -> str:
        """Where the program runs, for people: `eth0 native, eth1 generic`."""
        return ", ".join(f"{one.interface} {one.mode.value}" for one in self.attachments)

    def take(self) -> int | None:
        """See `KernelFlows`."""
        with self._lock:
            return heapq.heappop(self._free) if self._free else None

    def give_back(self, row: int) -> None:
        """See `KernelFlows`."""
        with self._lock:
            heapq.heappush(self._free, row)

    def put(self, entry: bytes, value: bytes) -> bool:
        """See `KernelFlows`."""
        try:
            self._flows.update(entry, value)
        except OSError:
            return False
        return True

    def remove(self, entry: bytes) -> None:
        """See `KernelFlows`."""
        for _ in range(_PATIENCE):
            try:
                self._flows.delete(entry)
            except OSError as error:
                # A tracing program holds this part of the table for a moment.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return
        raise OSError(errno.EBUSY, "the kernel does not give a flow back")

    def left(self) -> dict[str, int]:
        """Count packets of offloaded flows that went to their sockets, by reason."""
        counts = (
            int(self._left.lookup_each_cpu(struct.pack("=I", n)).view(np.uint64).sum()) for n in range(len(REASONS))
        )
        return dict(zip(REASONS, counts, strict=True))

    def run_time(self) -> RunTime:
        """Processor time of the program, while the system keeps statistics of it."""
        return self.program.run_time()

    def close(self) -> None:
        """Detach; from then on every packet reaches its socket."""
        for attachment in self.attachments:
            attachment.close()
        self._object.close()


def open_xdp(
    hosts: Sequence[str],
    capacity: int,
    *,
    interfaces: Sequence[str] = (),
    mode: Mode | None = None,
    hop_time: int = HOP_TIME,
) -> XdpFlows:
    """Load and attach the program for up to `capacity` flows. OffloadRefused, with the remedy, when it is not possible.

    Without a `mode` it runs in the driver where it safely can, else generically.
    """
    reason = refusal()
    if reason is not None:
        raise OffloadRefused(reason)
    place = find_place(hosts, interfaces, local_addresses())
    attachments: list[Attachment] = []
    thing = BpfObject(OBJECT.read_bytes(), OBJECT.name)
    try:
        allow_questions(any(":" in host for host in place.hosts))
        thing.set_size("flows", capacity)
        thing.set_size("rows", capacity)
        thing.load()
        program = thing.program("relay")
        attachments += (program.attach(name, mode or _mode_for(name)) for name in place.interfaces)
        for one in attachments:
            thing.map("devices").update(*device(Device(one.index, mac_of(one.interface), one.mode is Mode.NATIVE)))
        thing.map(".bss").update(
            bytes(4),
            settings(
                hop_time=hop_time,
                route_from=ROUTE_FROM,
                ttl=sysctl_number("net/ipv4/ip_default_ttl", 64),
                hop_limit=sysctl_number("net/ipv6/conf/default/hop_limit", 64),
            ),
        )
        return XdpFlows(place, thing, attachments, capacity)
    except (OSError, CannotAskRoutes) as error:
        for attachment in attachments:
            attachment.close()
        thing.close()
        raise OffloadRefused(str(getattr(error, "strerror", None) or error)) from error


def _mode_for(interface: str) -> Mode | None:
    return Mode.GENERIC if driver_of(interface) in _BLIND else None
