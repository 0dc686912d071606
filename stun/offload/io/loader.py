"""Brings the program into the kernel and attaches it to the interfaces that requests come in by."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nattrav.net.bpf.dispatcher import Dispatcher, Slot, open_dispatcher, vacate
from nattrav.net.bpf.found import Found
from nattrav.net.bpf.libbpf import refusal
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Mode, Program, RunTime
from nattrav.net.bpf.routes import ROUTE_FROM, CannotAskRoutes, allow_questions, sysctl_number
from nattrav.net.bpf.sharing import Company
from nattrav.net.interfaces import InterfaceAddress, local_addresses
from stun.admission import Limits
from stun.counters import Counters
from stun.fastpath import FastPath
from stun.offload import layout
from stun.responder import DropReason, Transport
from stun.shape import WITH_FINGERPRINT

OBJECT = Path(__file__).parent.parent / "stun.bpf.o"
_HOP_TIME = 1_000_000_000


class OffloadRefused(Exception):
    """The kernel path cannot be used here; the text says why and what to change."""


def carriers(hosts: Sequence[str], wanted: Sequence[str], addresses: Sequence[InterfaceAddress]) -> tuple[str, ...]:
    """Name the interfaces to attach to: those wanted, else those that carry the hosts. OffloadRefused without any."""
    # An alias such as eth0:1 is a label, not an interface.
    carried = {one.host: one.interface.partition(":")[0] for one in addresses}
    found = tuple(dict.fromkeys(wanted or (carried[h] for h in hosts if carried.get(h, "lo") != "lo")))
    if not found:
        raise OffloadRefused(
            "no network interface but loopback carries a STUN address; name those that requests come in by in "
            "[stun] offload_interfaces"
        )
    return found


class XdpAnswers:
    """`stun.offload.teaching.Kernel` in the kernel, until `close` or the end of the process.

    When somebody keeps the descriptors it goes on for clients it knows, for seconds.
    """

    def __init__(self, fast: FastPath, thing: BpfObject, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.program: Program = thing.program("stun")
        self._object = thing
        self._clients = thing.map("clients")
        self._shapes = thing.map("shapes")
        self._counts = thing.map("counts")
        self._ipv6 = [six for six in fast.ipv6 for _ in (0, WITH_FINGERPRINT)]

    @property
    def how(self) -> str:
        """Where the program runs, for people: `eth0 native, eth1 generic`."""
        return self.dispatcher.how

    @property
    def attached(self) -> bool:
        """Whether requests come by the program."""
        return self.dispatcher.inside

    def answer(self, keys: layout.Keys, values: NDArray[np.void]) -> None:
        """See `Kernel`."""
        self._clients.update_many(keys, values)

    def know(self, slot: int, shape: bytes) -> None:
        """See `Kernel`."""
        self._shapes.update(struct.pack("=I", slot), shape)

    def counters(self) -> Counters:
        """Give what was answered here, and what the limits stopped."""
        counted = Counters()
        for number, six in enumerate(self._ipv6):
            rows = self._counts.lookup_each_cpu(struct.pack("=I", number)).copy().view(layout.COUNT)
            answered, received, sent, limited = (int(rows[name].sum()) for name in layout.COUNT.names or ())
            counted.count_requests(Transport.UDP, six, answered)
            counted.count_answers(Transport.UDP, 0, answered, received, sent)
            counted.count_drop(DropReason.RATE_LIMITED, limited)
        return counted

    def run_time(self) -> RunTime:
        """Processor time of our program and of others on the same interfaces, while the system keeps statistics."""
        return self.dispatcher.program.run_time()

    def look_around(self) -> None:
        """Follow changes of the interfaces; to be called now and then."""
        self.dispatcher.describe(self._object.map("devices"))

    def follow(self, fast: FastPath, limits: Limits) -> None:
        """Answer by other templates and limits. OffloadRefused when these need user space: then nothing is answered."""
        try:
            _possible(fast, limits)
        except OffloadRefused:
            self.detach()
            raise
        _fill(self._object, fast, limits)
        for slot in range(layout.SHAPES):
            self.know(slot, bytes(layout.SHAPE.itemsize))
        if not self.attached:
            self.dispatcher.enter(self.program)

    def detach(self) -> None:
        """From now on every request reaches its socket; what was counted can still be read."""
        if self.attached:
            self.dispatcher.step_out()

    def close(self) -> None:
        """Detach, and let go of everything."""
        self.dispatcher.close()
        self._object.close()


def open_xdp(
    fast: FastPath,
    limits: Limits,
    *,
    interfaces: Sequence[str] = (),
    mode: Mode | None = None,
    company: Company | None = None,
) -> XdpAnswers:
    """Load and attach the program for the endpoints of a fast path. OffloadRefused, with the remedy, when it cannot be.

    Without a `mode` it runs in the driver where it safely can, else generically.
    """
    company = company or Company()
    reason = refusal()
    if reason is not None:
        raise OffloadRefused(reason)
    found = Found.among(company.inherited)
    thing: BpfObject | None = None
    dispatcher: Dispatcher | None = None
    try:
        _possible(fast, limits)
        places = [endpoint.local for endpoint in fast.endpoints]
        names = carriers([place.host for place in places], interfaces, local_addresses())
        allow_questions(any(fast.ipv6))
        dispatcher = open_dispatcher(Slot.STUN, names, mode, company, found)
        thing = BpfObject(OBJECT.read_bytes(), OBJECT.name)
        thing.set_size("templates", 2 * len(places))
        thing.set_size("counts", 2 * len(places))
        thing.load()
        _fill(thing, fast, limits)
        answers = XdpAnswers(fast, thing, dispatcher)
        answers.look_around()
        dispatcher.enter(answers.program)
        if company.keep is not None:
            company.keep(dispatcher.descriptors())
        return answers
    except (OSError, CannotAskRoutes, OffloadRefused) as error:
        vacate(Slot.STUN, found, dispatcher)
        if thing is not None:
            thing.close()
        raise OffloadRefused(str(getattr(error, "strerror", None) or error)) from error
    finally:
        found.close()


def leave_xdp(company: Company) -> None:
    """Let go of what a process before this one left in the kernel, for the offload is not wanted any more."""
    if company.inherited:
        found = Found.among(company.inherited)
        vacate(Slot.STUN, found)
        found.close()


def _possible(fast: FastPath, limits: Limits) -> None:
    """Raise OffloadRefused where requests need what only user space does."""
    if not fast.enabled:
        raise OffloadRefused(
            'requests that need credentials are answered in user space: set [stun] credentials = "none"'
        )
    if limits.total_rate:
        raise OffloadRefused("a ceiling of the whole server is kept in user space: set [stun] total_rate = 0")


def _fill(thing: BpfObject, fast: FastPath, limits: Limits) -> None:
    thing.map(".bss").update(
        bytes(4),
        layout.settings(
            limits,
            hop_time=_HOP_TIME,
            route_from=ROUTE_FROM,
            ttl=sysctl_number("net/ipv4/ip_default_ttl", 64),
            hop_limit=sysctl_number("net/ipv6/conf/default/hop_limit", 64),
        ),
    )
    templates, endpoints = thing.map("templates"), thing.map("endpoints")
    for at, endpoint in enumerate(fast.endpoints):
        for bit, kind in enumerate((0, WITH_FINGERPRINT)):
            templates.update(struct.pack("=I", 2 * at + bit), layout.template(fast.template(at, kind)))
        endpoints.update(layout.endpoint(endpoint.local), struct.pack("=I", at))
