"""One small program per interface that runs those of several services: an interface takes one XDP program only.

The dispatcher runs what is in `slots`, an array of programs that all services of a host share. A service puts its
program there and takes it away again; a place that is empty lets packets through to the next one, and at last to the
network stack.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nattrav.net.bpf.device import Device, driver_of, mac_of
from nattrav.net.bpf.found import Found, number_of
from nattrav.net.bpf.maps import Map
from nattrav.net.bpf.objects import BpfObject
from nattrav.net.bpf.programs import Attachment, Mode, Program
from nattrav.net.bpf.sharing import Company, Sharer

OBJECT = Path(__file__).parent / "dispatcher.bpf.o"
PROGRAM, SLOTS = "dispatch", "slots"

_INDEX = struct.Struct("=I")
_KEY, _VALUE = np.dtype((np.void, 4)), np.dtype((np.void, 8))

NOT_IN_THE_DRIVER = frozenset({"veth", "bonding"})
"""A veth end drops what is sent back unless its other end is prepared; a bond's driver names its ports, not itself."""


class Slot(enum.IntEnum):
    """Whose program is where; slots.h has the same order."""

    RELAY = 0
    STUN = 1


class Dispatcher:
    """The dispatcher on some interfaces, and one service's place in it."""

    def __init__(self, slot: Slot, program: Program, slots: Map, attachments: dict[str, Attachment]) -> None:
        """Everything is ours to close."""
        self.program = program
        self._slot = slot
        self._slots = slots
        self._attachments = attachments
        self._sharer: Sharer | None = None
        self._macs: dict[int, bytes] = {}
        self.inside = False
        """Packets come by our program."""

    @property
    def slots(self) -> int:
        """Descriptor of the array of programs, for programs that pass packets on."""
        return self._slots.fd

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The interfaces it is attached to for us, which others may use, too."""
        return tuple(self._attachments.values())

    @property
    def how(self) -> str:
        """Where it runs, for people: `eth0 native, eth1 generic`."""
        return ", ".join(f"{one.interface} {one.mode.value}" for one in self.attachments)

    def describe(self, devices: Map) -> None:
        """Tell our program the interfaces as they are now: the addresses of bonds change, for instance."""
        if not self._macs:
            for key in devices.entries(_KEY, _VALUE)[0]:
                devices.delete(key.tobytes())
        for one in self.attachments:
            try:
                mac = mac_of(one.interface)
            except OSError:
                continue
            if self._macs.get(one.index) != mac:
                devices.update(*Device(one.index, mac, one.mode is Mode.NATIVE).entry())
                self._macs[one.index] = mac

    def descriptors(self) -> list[int]:
        """What another process needs to use the same dispatcher."""
        return [self.program.fd, self._slots.fd, *(one.fd for one in self._attachments.values())]

    def enter(self, program: Program) -> None:
        """From now on packets come by this program; by the one that was in its place no more."""
        self._slots.update(_INDEX.pack(self._slot), _INDEX.pack(program.fd))
        self.inside = True

    def step_out(self) -> None:
        """From now on packets do not come by our program."""
        self._slots.delete(_INDEX.pack(self._slot))
        self.inside = False

    def close(self, *, leave: bool = False) -> None:
        """Let go; our program is taken out unless we `leave` it for our next process."""
        if self._sharer is not None:
            self._sharer.close()
        if self.inside and not leave:
            self.step_out()
        for attachment in self._attachments.values():
            attachment.close()
        for descriptor in (self.program.fd, self._slots.fd):
            os.close(descriptor)

    def shared(self, company: Company) -> Dispatcher:
        """Let other services join."""
        self._sharer = company.share(self.descriptors())
        return self


def open_dispatcher(
    slot: Slot, names: Sequence[str], mode: Mode | None, company: Company, found: Found | None = None
) -> Dispatcher:
    """Attach to interfaces, or join a service that is attached there. OSError saying why it cannot be.

    Without a `mode` it runs in the driver where it safely can, else generically. `found` is what our last process
    left; what is used of it is taken out.
    """
    with company.alone():
        program, slots, attachments = _joined(found or Found(), company)
        dispatcher = Dispatcher(slot, program, slots, {})
        wanted: dict[str, Attachment] = {}
        try:
            for name in names:
                there = attachments.pop(name) if name in attachments else program.attach(name, mode or _mode_for(name))
                wanted[name] = there
                if mode not in (None, there.mode):
                    raise OSError(
                        errno.EBUSY,
                        f"another service runs on {name} in {there.mode.value} mode: give both the same offload_mode",
                    )
            dispatcher._attachments.update(wanted)
            return dispatcher.shared(company)
        except BaseException:
            for attachment in wanted.values():
                attachment.close()
            dispatcher._attachments.clear()
            dispatcher.close()
            raise
        finally:
            for attachment in attachments.values():
                attachment.close()


def _joined(found: Found, company: Company) -> tuple[Program, Map, dict[str, Attachment]]:
    """The dispatcher that is there already, or a new one."""
    best: Found | None = None
    for one in (found, *company.others()):
        if best is None and {PROGRAM, SLOTS} <= {*one.programs, *one.maps}:
            best = one
            continue
        if best is not None and SLOTS in one.maps and number_of(one.maps[SLOTS].fd) == number_of(best.maps[SLOTS].fd):
            for name, attachment in one.attachments.items():
                best.attachments.setdefault(name, attachment)
            one.attachments = {
                name: attachment for name, attachment in one.attachments.items() if best.attachments[name] != attachment
            }
        if one is not found:
            one.close()
    if best is None:
        return (*_made(), {})
    program, slots = best.programs.pop(PROGRAM), best.maps.pop(SLOTS)
    attachments, best.attachments = best.attachments, {}
    if best is not found:
        best.close()
    return program, slots, attachments


def _mode_for(interface: str) -> Mode | None:
    return Mode.GENERIC if driver_of(interface) in NOT_IN_THE_DRIVER else None


def _made() -> tuple[Program, Map]:
    with BpfObject(OBJECT.read_bytes(), OBJECT.name) as thing:
        thing.load()
        program, slots = thing.program(PROGRAM), thing.map(SLOTS)
        slots.fd, program.fd = os.dup(slots.fd), os.dup(program.fd)
    return program, slots


def vacate(slot: Slot, found: Found, dispatcher: Dispatcher | None = None) -> None:
    """Take the program that a process before us left out of its place, for it is not wanted any more."""
    with contextlib.suppress(OSError):
        if dispatcher is not None:
            dispatcher.step_out()
            dispatcher.close()
        elif SLOTS in found.maps:
            found.maps[SLOTS].delete(_INDEX.pack(slot))
