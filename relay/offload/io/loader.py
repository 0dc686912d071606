"""Brings the program into the kernel and attaches it to the interfaces that media comes in by."""

from __future__ import annotations

import errno
import hashlib
import heapq
import itertools
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nattrav.net.bpf.device import DEVICES
from nattrav.net.bpf.dispatcher import SLOTS, Dispatcher, Slot, open_dispatcher, vacate
from nattrav.net.bpf.found import Found
from nattrav.net.bpf.libbpf import refusal
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Mode, Program, RunTime
from nattrav.net.bpf.routes import ROUTE_FROM, CannotAskRoutes, allow_questions, sysctl_number
from nattrav.net.bpf.sharing import Company
from nattrav.net.clock import monotonic
from nattrav.net.interfaces import InterfaceAddress, local_addresses
from relay.offload.layout import FLOW_SIZE, KEY_SIZE, REASONS, ROW, SETTINGS, row_of

OBJECT = Path(__file__).parent.parent / "relay.bpf.o"

HOP_TIME = 1_000_000_000
"""Nanoseconds for which a flow's next hop is remembered; then the routes are asked again."""

ALONE_FOR = 30.0
"""Seconds for which the kernel goes on forwarding when nobody says any more that it may."""

_PATIENCE = 1000
_NANO = 1_000_000_000
_OWN = ("flows", "rows", "left", "devices", ".bss")
"""The maps that outlive a process of ours."""

_KEY, _FLOW = np.dtype((np.void, KEY_SIZE)), np.dtype((np.void, FLOW_SIZE))


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
    """`relay.offload.xdp.KernelFlows` in the kernel, until `close` or the end of the process.

    With `stay` called before, or when the process is killed and somebody keeps the descriptors, the kernel goes on for
    `ALONE_FOR` seconds after the last `say_alive`.
    """

    def __init__(
        self,
        place: Place,
        thing: BpfObject,
        dispatcher: Dispatcher | None,
        capacity: int,
        *,
        inherited: Mapping[bytes, bytes] | None = None,
        kept: bool = False,
    ) -> None:
        """`kept`: somebody keeps the descriptors beyond this process."""
        self.hosts = place.hosts
        self.dispatcher = dispatcher
        self.program: Program = thing.program("relay")
        self.rows = thing.map("rows").memory(ROW)
        self.inherited: dict[bytes, bytes] = dict(inherited or {})
        self.stays = False
        self._kept = kept
        self._object = thing
        self._flows = thing.map("flows")
        self._left = thing.map("left")
        self._devices = thing.map("devices")
        self._settings = thing.map(".bss").memory(SETTINGS)
        used = {row_of(value) for value in self.inherited.values()}
        self._free = [row for row in range(capacity) if row not in used]
        self._stale: list[int] = []
        """Rows of flows that were disowned: a packet may still be on its way through the program."""
        self._serials = itertools.count(int.from_bytes(os.urandom(4), "little"))
        self._lock = threading.Lock()

    @property
    def how(self) -> str:
        """Where the program runs, for people: `eth0 native, eth1 generic`."""
        return "" if self.dispatcher is None else self.dispatcher.how

    def take(self) -> int | None:
        """See `KernelFlows`."""
        with self._lock:
            return heapq.heappop(self._free) if self._free else None

    def give_back(self, row: int) -> None:
        """See `KernelFlows`."""
        with self._lock:
            heapq.heappush(self._free, row)

    def serial(self) -> int:
        """See `KernelFlows`."""
        return next(self._serials) & 0xFFFFFFFF

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

    def adopt(self, entry: bytes) -> bool:
        """See `KernelFlows`."""
        return self.inherited.pop(entry, None) is not None

    def disown(self, entry: bytes) -> None:
        """See `KernelFlows`."""
        value = self.inherited.pop(entry, None)
        if value is not None:
            self.remove(entry)
            with self._lock:
                self._stale.append(row_of(value))

    def disown_all(self) -> int:
        """Withdraw what a process before this one left and nobody took over; how many flows that were."""
        entries = list(self.inherited)
        for entry in entries:
            self.disown(entry)
        return len(entries)

    def say_alive(self) -> None:
        """Allow the kernel to forward for another `ALONE_FOR` seconds; to be said every second or so."""
        self._settings["alive_until"][0] = int((monotonic() + ALONE_FOR) * _NANO)
        with self._lock:
            for row in self._stale:
                heapq.heappush(self._free, row)
            self._stale.clear()
        if self.dispatcher is not None:
            self.dispatcher.describe(self._devices)

    def set_up(self, *, hop_time: int, build: int) -> None:
        """Write the program's settings."""
        self._settings["hop_time"], self._settings["route_from"] = hop_time, ROUTE_FROM
        self._settings["ttl"] = sysctl_number("net/ipv4/ip_default_ttl", 64)
        self._settings["hop_limit"] = sysctl_number("net/ipv6/conf/default/hop_limit", 64)
        self._settings["build"] = build
        self.say_alive()

    def stay(self) -> None:
        """Have the kernel go on after `close`, if anybody keeps what it needs."""
        self.stays = self._kept

    def left(self) -> dict[str, int]:
        """Count packets of offloaded flows that went to their sockets, by reason."""
        counts = (
            int(self._left.lookup_each_cpu(struct.pack("=I", n)).view(np.uint64).sum()) for n in range(len(REASONS))
        )
        return dict(zip(REASONS, counts, strict=True))

    def run_time(self) -> RunTime:
        """Processor time of our program and of others on the same interfaces, while the system keeps statistics."""
        return (self.program if self.dispatcher is None else self.dispatcher.program).run_time()

    def descriptors(self) -> list[int]:
        """What a next process needs to go on."""
        shared = [] if self.dispatcher is None else self.dispatcher.descriptors()
        return [*shared, *(self._object.map(name).fd for name in _OWN)]

    def close(self) -> None:
        """Detach, unless the kernel is to go on; from then on every packet reaches its socket."""
        if self.dispatcher is not None:
            self.dispatcher.close(leave=self.stays)
            self.dispatcher = None
        self._object.close()


def open_xdp(
    hosts: Sequence[str],
    capacity: int,
    *,
    interfaces: Sequence[str] = (),
    mode: Mode | None = None,
    hop_time: int = HOP_TIME,
    company: Company | None = None,
) -> XdpFlows:
    """Load and attach the program for up to `capacity` flows. OffloadRefused, with the remedy, when it is not possible.

    Without a `mode` it runs in the driver where it safely can, else generically. What a process before this one left
    with `company` is taken over when it fits; its flows are then `inherited`.
    """
    company = company or Company()
    reason = refusal()
    if reason is not None:
        raise OffloadRefused(reason)
    octets = OBJECT.read_bytes()
    build = int.from_bytes(hashlib.sha256(octets).digest()[:8], "little")
    found = Found.among(company.inherited)
    thing: BpfObject | None = None
    dispatcher: Dispatcher | None = None
    try:
        place = find_place(hosts, interfaces, local_addresses())
        allow_questions(any(":" in host for host in place.hosts))
        dispatcher = open_dispatcher(Slot.RELAY, place.interfaces, mode, company, found)
        thing = BpfObject(octets, OBJECT.name)
        thing.share(SLOTS, dispatcher.slots)
        thing.set_size("flows", capacity)
        thing.set_size("rows", capacity)
        taken_over = _fits(found, capacity, build)
        for name in _OWN if taken_over else ():
            thing.share(name, found.maps[name].fd)
        thing.load()
        inherited = _entries(thing, capacity) if taken_over else {}
        flows = XdpFlows(place, thing, dispatcher, capacity, inherited=inherited, kept=company.keep is not None)
        flows.set_up(hop_time=hop_time, build=build)
        dispatcher.enter(flows.program)
        if company.keep is not None:
            company.keep(flows.descriptors())
        return flows
    except (OSError, CannotAskRoutes, OffloadRefused) as error:
        vacate(Slot.RELAY, found, dispatcher)
        if thing is not None:
            thing.close()
        raise OffloadRefused(str(getattr(error, "strerror", None) or error)) from error
    finally:
        found.close()


def leave_xdp(company: Company) -> None:
    """Let go of what a process before this one left in the kernel, for the offload is not wanted any more."""
    if company.inherited:
        found = Found.among(company.inherited)
        vacate(Slot.RELAY, found)
        found.close()


def _fits(found: Found, capacity: int, build: int) -> bool:
    """Tell whether maps that came are all there, of our own size and of our very program."""
    if not all(name in found.maps for name in _OWN):
        return False
    if any(found.maps[name].max_entries != capacity for name in ("flows", "rows")):
        return False
    told = found.maps[".bss"]
    if told.value_size != SETTINGS.itemsize:
        return False
    octets = told.lookup(bytes(4)) or bytes(SETTINGS.itemsize)
    return int(np.frombuffer(octets, SETTINGS)["build"][0]) == build


def _entries(thing: BpfObject, capacity: int) -> dict[bytes, bytes]:
    keys, values = thing.map("flows").entries(_KEY, _FLOW)
    both = ((key.tobytes(), value.tobytes()) for key, value in zip(keys, values, strict=True))
    return {key: value for key, value in both if row_of(value) < capacity}
